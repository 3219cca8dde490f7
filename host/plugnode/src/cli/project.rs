//! A handler during development: a script, a component file, or a folder. Builds it, watches its sources, and loads its settings for
//! this machine.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use async_trait::async_trait;
use bytes::Bytes;

use super::build_command::BuildCommand;
use super::cargo;
use super::new::{line_of_pattern, namespaces_in};
use super::redeploy::ComponentSource;
use super::runtime;
use super::script::{build_component, find_script, is_python};
use super::source_watcher::SourceWatcher;
use super::terminal::say;
use plugnode_server::config::{App, Build, Config, Role};

/// Name of the optional settings file beside a handler.
const SETTINGS: &str = "plugnode.toml";

/// The handler at a path.
pub(super) struct Project {
    pub(super) path: PathBuf,
    kind: Kind,
}

/// How a project is built.
enum Kind {
    /// Not at all: it is a component file.
    Component,
    /// With cargo.
    Crate,
    /// By embedding this script in a runtime component, which is written to the temporary folder.
    Script(PathBuf, tempfile::TempDir),
    /// By the command of its plugnode.toml. The component is written to the temporary folder.
    Command(BuildCommand, tempfile::TempDir),
}

/// A component that was built, and a watcher of its sources.
pub(super) struct BuiltComponent {
    /// File of the component.
    pub(super) file: PathBuf,
    pub(super) component: Bytes,
    pub(super) sources: SourceWatcher,
}

impl Project {
    /// Finds out how to build the handler at `path`. Builds nothing.
    pub(super) fn open(path: &Path) -> Result<Self> {
        if !path.exists() {
            bail!(
                "there is no {}; name a script, a .wasm file or the folder of a handler",
                path.display()
            );
        }
        let temporary = || tempfile::tempdir().context("cannot create a temporary folder for the component");
        let settings = path.join(SETTINGS);
        let command = match settings.is_file() {
            true => Build::load(&settings, variables())?,
            false => None,
        };
        let kind = match command {
            Some(build) => Kind::Command(BuildCommand::new(build, path, &settings)?, temporary()?),
            None if path.join("Cargo.toml").is_file() => Kind::Crate,
            None => match find_script(path)? {
                Some(script) => Kind::Script(script, temporary()?),
                None if path.is_dir() => bail!(
                    "{} has no Cargo.toml, no package.json, no pyproject.toml and no plugnode.toml with [build] command; name {}",
                    path.display(),
                    script_in(path).map_or_else(
                        || "a script, a .wasm file or the folder of a handler".to_owned(),
                        |script| format!("the script: {}", script.display())
                    )
                ),
                None if !is_component(path) => bail!(
                    "{} is no script (.js, .ts, .py), no .wasm file and no folder of a handler; name one",
                    path.display()
                ),
                None => Kind::Component,
            },
        };
        Ok(Self {
            path: path.into(),
            kind,
        })
    }

    /// Folder of its pages and its plugnode.toml.
    pub(super) fn folder(&self) -> &Path {
        match self.path.parent() {
            _ if self.path.is_dir() => &self.path,
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    /// The error, with the project's path in place of the file that it was built into.
    pub(super) fn name_in(&self, error: &anyhow::Error, built: &Path) -> anyhow::Error {
        let built = built.display().to_string();
        anyhow!(
            "{}",
            format!("{error:#}").replace(&built, &self.path.display().to_string())
        )
    }

    /// Builds the component, and watches its sources from before the build.
    pub(super) async fn build_watched(&self) -> Result<BuiltComponent> {
        let (file, sources) = match &self.kind {
            Kind::Component => (self.path.clone(), SourceWatcher::file(&self.path)?),
            Kind::Crate => {
                let built = cargo::build(&self.path).await?;
                (built.component, SourceWatcher::folders(&built.crates)?)
            }
            Kind::Script(_, temporary) | Kind::Command(_, temporary) => {
                // Before the build: a file saved meanwhile is a change.
                let sources = self.watch()?;
                let component = self.component().await?;
                let file = temporary.path().join("handler.wasm");
                std::fs::write(&file, component).with_context(|| format!("cannot write {}", file.display()))?;
                (file, sources)
            }
        };
        let component = read(&file).await?;
        Ok(BuiltComponent {
            file,
            component,
            sources,
        })
    }

    /// Builds the component. Returns a name for its file, and the component. None for a component file.
    pub(super) async fn build(&self, runtime: Option<&Path>) -> Result<Option<(PathBuf, Bytes)>> {
        let (name, component) = match &self.kind {
            Kind::Component => return Ok(None),
            Kind::Crate => {
                let component = cargo::build(&self.path).await?.component;
                (component.clone(), read(&component).await?)
            }
            Kind::Script(script, _) => (script.clone(), build_component(script, runtime).await?),
            Kind::Command(command, _) => (command.output().to_owned(), command.run(runtime).await?),
        };
        let name = PathBuf::from(name.file_stem().unwrap_or_default()).with_extension("wasm");
        Ok(Some((name, component)))
    }

    /// Watches the sources: those of the build command, or else the whole folder.
    pub(super) fn watch(&self) -> Result<SourceWatcher> {
        match &self.kind {
            Kind::Command(command, _) => command.watch(),
            _ => SourceWatcher::folders(&[self.folder().to_owned()]),
        }
    }

    /// Loads the settings: the plugnode.toml beside the project, if there is one, with `component` as the component of its first app,
    /// and changed by `overrides`. The transport is always `memory:`.
    pub(super) fn config(
        &self,
        component: &Path,
        instances: Option<usize>,
        overrides: impl FnOnce(&mut Config),
    ) -> Result<Config> {
        let file = Some(self.folder().join(SETTINGS)).filter(|file| file.is_file());
        let config = Config::load(file.as_deref(), variables(), |config| {
            config.roles = vec![Role::Frontend, Role::IoNode, Role::AppNode];
            config.transport.url = "memory:".into();
            overrides(config);
            let is_script = self.is_script();
            if config.apps.is_empty() {
                for namespace in self.namespaces() {
                    let mut app = App {
                        namespace,
                        ..App::default()
                    };
                    app.handler.grants.keyvalue.push("default".into());
                    if is_script {
                        // As in Node: one instance has all state, and middlewares can refuse clients.
                        app.handler.instances = 1;
                        app.handler.admission = true;
                    }
                    config.apps.push(app);
                }
            }
            // A script with several namespaces has one app for each.
            let configured = config.apps[0].component.clone();
            for (place, app) in config.apps.iter_mut().enumerate() {
                if place == 0 || (is_script && app.component == configured) {
                    app.component = component.into();
                    app.handler.instances = instances.unwrap_or(app.handler.instances);
                }
            }
        })?;
        Ok(config)
    }

    /// The namespaces of its clients, if no settings say otherwise.
    fn namespaces(&self) -> BTreeSet<String> {
        let text = match &self.kind {
            Kind::Script(script, _) if !is_python(script) => std::fs::read_to_string(script).unwrap_or_default(),
            _ => String::new(),
        };
        if let Some(line) = line_of_pattern(&text) {
            say(&format!(
                "line {line} of {} defines namespaces by a pattern, to which clients cannot connect yet: write a {SETTINGS} by plugnode new \
                 --from, and add an [[app]] for them",
                self.path.display()
            ));
        }
        namespaces_in(&text)
    }

    fn is_script(&self) -> bool {
        match &self.kind {
            Kind::Script(..) => true,
            Kind::Command(command, _) => command.builds_script(),
            Kind::Component | Kind::Crate => false,
        }
    }
}

#[async_trait]
impl ComponentSource for Project {
    async fn component(&self) -> Result<Bytes> {
        match &self.kind {
            Kind::Component => read(&self.path).await,
            _ => {
                let built = self.build(None).await?;
                Ok(built.map(|(_, component)| component).unwrap_or_default())
            }
        }
    }
}

/// Environment variables with settings. Unprefixed ones, which other programs use too, apply to `run` only.
fn variables() -> impl Iterator<Item = (String, String)> {
    runtime::variables().filter(|(name, _)| name.starts_with("PLUGNODE_"))
}

/// A script with a usual name in a folder that does not say which file is its program.
fn script_in(folder: &Path) -> Option<PathBuf> {
    let names = ["server", "index", "app", "main"];
    let files = names
        .iter()
        .flat_map(|name| ["js", "mjs", "cjs", "ts", "py"].map(|extension| folder.join(format!("{name}.{extension}"))));
    files.into_iter().find(|file| file.is_file())
}

/// Whether the file has the extension of a component, or begins like one.
fn is_component(file: &Path) -> bool {
    let begins_like_one = || {
        let mut start = [0; 4];
        let read = std::fs::File::open(file).and_then(|mut file| file.read_exact(&mut start));
        read.is_ok() && start == *b"\0asm"
    };
    file.extension().is_some_and(|extension| extension == "wasm") || begins_like_one()
}

async fn read(file: &Path) -> Result<Bytes> {
    let bytes = tokio::fs::read(file).await;
    Ok(bytes.with_context(|| format!("cannot read {}", file.display()))?.into())
}
