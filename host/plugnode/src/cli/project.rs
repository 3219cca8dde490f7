//! What a handler author names: a script, a component, or the folder of a handler; how it becomes a component, what to watch for its next
//! version, and the settings that it is run with on this machine.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use bytes::Bytes;

use super::build::build;
use super::command::BuildCommand;
use super::redeploy::Origin;
use super::runtime;
use super::script::{component_of, find_script};
use super::sources::Sources;
use plugnode_server::config::{App, Build, Config, Grants, Role};

/// What is beside a handler when it has settings.
const SETTINGS: &str = "plugnode.toml";

/// What PATH is.
pub(super) struct Project {
    pub(super) path: PathBuf,
    kind: Kind,
}

/// How it becomes a component.
enum Kind {
    /// It is one.
    Component,
    /// By cargo.
    Crate,
    /// By the runtime that this script is put into; kept, for who wants a file, in the folder.
    Script(PathBuf, tempfile::TempDir),
    /// By the command of its plugnode.toml; kept as a script is, if a script comes of it.
    Command(BuildCommand, tempfile::TempDir),
}

/// A component, and what to watch for its next version.
pub(super) struct Made {
    /// A file that has it.
    pub(super) file: PathBuf,
    pub(super) component: Bytes,
    pub(super) sources: Sources,
}

impl Project {
    pub(super) fn at(path: &Path) -> Result<Self> {
        if !path.exists() {
            bail!(
                "there is no {}; name a script, a .wasm file or the folder of a handler",
                path.display()
            );
        }
        let kept = || tempfile::tempdir().context("cannot make a folder for what is built");
        let settings = path.join(SETTINGS);
        let command = match settings.is_file() {
            true => Build::load(&settings, variables())?,
            false => None,
        };
        let kind = match command {
            Some(build) => Kind::Command(BuildCommand::new(build, path, &settings)?, kept()?),
            None if path.join("Cargo.toml").is_file() => Kind::Crate,
            None => match find_script(path)? {
                Some(script) => Kind::Script(script, kept()?),
                None if path.is_dir() => bail!(
                    "{} has no Cargo.toml, no package.json, no pyproject.toml and no plugnode.toml with [build] command; name a script, a \
                     .wasm file or the folder of a handler",
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

    /// Where its pages and its plugnode.toml are.
    pub(super) fn folder(&self) -> &Path {
        match self.path.parent() {
            _ if self.path.is_dir() => &self.path,
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    /// The component, built if need be, and what to watch for its next version.
    pub(super) async fn make(&self) -> Result<Made> {
        let (file, sources) = match &self.kind {
            Kind::Component => (self.path.clone(), Sources::of_file(&self.path)?),
            Kind::Crate => {
                let built = build(&self.path).await?;
                (built.component, Sources::of_crates(&built.crates)?)
            }
            Kind::Script(_, kept) | Kind::Command(_, kept) => {
                // What is saved while it is built is a change.
                let sources = self.sources()?;
                let component = self.component().await?;
                let file = kept.path().join("handler.wasm");
                std::fs::write(&file, component).with_context(|| format!("cannot write {}", file.display()))?;
                (file, sources)
            }
        };
        let component = read(&file).await?;
        Ok(Made {
            file,
            component,
            sources,
        })
    }

    /// A component that is built anew, and a name for its file; None where nothing is built.
    pub(super) async fn build(&self, runtime: Option<&Path>) -> Result<Option<(PathBuf, Bytes)>> {
        let (name, component) = match &self.kind {
            Kind::Component => return Ok(None),
            Kind::Crate => {
                let component = build(&self.path).await?.component;
                (component.clone(), read(&component).await?)
            }
            Kind::Script(script, _) => (script.clone(), component_of(script, runtime).await?),
            Kind::Command(command, _) => (command.output().to_owned(), command.run(runtime).await?),
        };
        let name = PathBuf::from(name.file_stem().unwrap_or_default()).with_extension("wasm");
        Ok(Some((name, component)))
    }

    /// What to watch besides, where several apps are of one script: its folder, since what it imports is there as well.
    pub(super) fn sources(&self) -> Result<Sources> {
        match &self.kind {
            Kind::Command(command, _) => command.sources(),
            _ => Sources::of_crates(&[self.folder().to_owned()]),
        }
    }

    /// The settings: of the plugnode.toml beside the project if there is one, with `component` in place of what that names, and what
    /// `over` puts over it. The transport is always memory:.
    pub(super) fn config(
        &self,
        component: &Path,
        instances: Option<usize>,
        over: impl FnOnce(&mut Config),
    ) -> Result<Config> {
        let file = Some(self.folder().join(SETTINGS)).filter(|file| file.is_file());
        let config = Config::load(file.as_deref(), variables(), |config| {
            config.roles = vec![Role::Frontend, Role::IoNode, Role::AppNode];
            config.transport.url = "memory:".into();
            over(config);
            let is_script = self.is_script();
            if config.apps.is_empty() {
                let grants = Grants {
                    keyvalue: vec!["default".into()],
                    ..Grants::default()
                };
                let mut app = App {
                    grants,
                    ..App::default()
                };
                if is_script {
                    // As in Node: one instance knows all, and its middlewares are asked at the door.
                    app.instances = 1;
                    app.admission = true;
                }
                config.apps.push(app);
            }
            // A script serves several namespaces, as an app each.
            let named = config.apps[0].component.clone();
            for (place, app) in config.apps.iter_mut().enumerate() {
                if place == 0 || (is_script && app.component == named) {
                    app.component = component.into();
                    app.instances = instances.unwrap_or(app.instances);
                }
            }
        })?;
        Ok(config)
    }

    fn is_script(&self) -> bool {
        match &self.kind {
            Kind::Script(..) => true,
            Kind::Command(command, _) => command.makes_script(),
            Kind::Component | Kind::Crate => false,
        }
    }
}

#[async_trait]
impl Origin for Project {
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

/// Settings of the environment. Names that other programs use as well are meant for `run`.
fn variables() -> impl Iterator<Item = (String, String)> {
    runtime::variables().filter(|(name, _)| name.starts_with("PLUGNODE_"))
}

async fn read(file: &Path) -> Result<Bytes> {
    let bytes = tokio::fs::read(file).await;
    Ok(bytes.with_context(|| format!("cannot read {}", file.display()))?.into())
}
