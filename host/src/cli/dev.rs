//! `plugnode dev`: one handler in one process with all roles, taken into use anew each time it changes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use bytes::Bytes;

use super::build::build;
use super::node::Node;
use super::progress::say;
use super::redeploy::{Origin, Redeploy, Told};
use super::rollout::{Outcome, Way};
use super::script::{component_of, find_script};
use super::signals::{self, LameDuck};
use super::sources::Sources;
use super::words::seconds;
use super::{log, runtime};
use crate::config::{App, Config, Grants, Http, Role};
use crate::message::Namespace;
use crate::release::Digest;
use crate::shutdown::Shutdown;
use crate::transport::Standing;

/// Arguments of `plugnode dev`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each save is in use as soon as it is built and has started: the next event is handled by it. What cannot start changes nothing.
A plugnode.toml beside PATH is used for settings; without one, the handler may use the key-value bucket \"default\", and a script
has one instance, which is asked whether to let clients in.
Its first [[app]] is the one that PATH is, and so are others that name the same component as that, if PATH is a script; the
transport is always memory:.
plugnode deploy, rollback, releases, status and dead find it by --port, when that is not 8080.
PLUGNODE_GUEST_CARGO names the cargo that builds the handler, when it is not `cargo`.")]
pub struct Arguments {
    /// A script, a .wasm file, or the folder of a handler crate or of a package.json
    #[arg(default_value = ".")]
    pub path: PathBuf,
    /// Port to listen on [default: 8080, or that of plugnode.toml]
    #[arg(short, long)]
    pub port: Option<u16>,
    /// Folder of pages [default: public beside PATH]
    #[arg(long, value_name = "DIR")]
    pub public: Option<PathBuf>,
    /// Instances of the handler [default: 4, or those of plugnode.toml]
    #[arg(long, value_name = "N")]
    pub instances: Option<usize>,
}

/// Runs until the process is told to end.
pub fn dev(arguments: &Arguments) -> Result<ExitCode> {
    let project = Project::at(&arguments.path)?;
    runtime::block_on(async {
        let shutdown = Shutdown::new();
        signals::begin_shutdown_by_signal(&shutdown, LameDuck::default())?;
        let (component, sources) = tokio::select! {
            () = shutdown.begun() => return Ok(ExitCode::SUCCESS),
            made = project.make() => made?,
        };
        let config = configuration(arguments, &project, &component)?;
        log::init(&config.log)?;
        runtime::raise_open_files(config.http.max_connections);
        let first = tokio::fs::read(&component).await.ok().map(|bytes| Digest::of(&bytes));
        let node = tokio::select! {
            () = shutdown.begun() => return Ok(runtime::drain(&shutdown, deadline(&config), &Standing::default()).await),
            node = Node::start(&config, &shutdown) => node?,
        };
        if !config.frontend.static_dir.is_dir() {
            say(&format!(
                "there are no pages: no folder {}",
                config.frontend.static_dir.display()
            ));
        }
        let port = node.address.map_or(0, |address| address.port());
        say(&format!("{} runs at http://localhost:{port}", project.path.display()));
        let project = Arc::new(project);
        let mut sources = Some(sources);
        for app in config.apps.iter().filter(|app| app.component == component) {
            let redeploy = Redeploy {
                registry: node.transport.clone(),
                app: Namespace::from(app.namespace.as_str()),
                file: project.path.display().to_string(),
                way: Way::AtOnce,
                last: first.clone(),
                say,
            };
            let sources = match sources.take() {
                Some(sources) => sources,
                None => project.sources()?,
            };
            shutdown.spawn(follow(redeploy, project.clone(), sources, shutdown.clone()));
        }
        Ok(runtime::drain(&shutdown, deadline(&config), &Standing::default()).await)
    })
}

fn deadline(config: &Config) -> Duration {
    Duration::from_millis(config.shutdown.deadline_ms)
}

/// Takes each new version into use until shutdown begins.
async fn follow(redeploy: Redeploy, project: Arc<Project>, sources: Sources, shutdown: Shutdown) {
    let path = project.path.display();
    let app = redeploy.app.clone();
    let tell = |told: Told| {
        let refused = match told {
            Told::Followed(followed) => {
                let (number, digest) = (followed.release.number, followed.release.digest.short());
                match followed.outcome {
                    Outcome::InUse | Outcome::NotTried => {
                        let after = seconds(followed.took);
                        return say(&format!(
                            "release {number} ({digest}) of {app} runs, {after} after the change"
                        ));
                    }
                    Outcome::Failed(reason) => format!("{path} cannot run: {reason}"),
                    Outcome::Superseded(by) | Outcome::Replaced(by) => {
                        return say(&format!(
                            "release {by} has taken the place of release {number} ({digest})"
                        ));
                    }
                    Outcome::Cancelled => format!("release {number} ({digest}) was cancelled by a rollback"),
                }
            }
            Told::Refused(error) => format!("{error:#}"),
        };
        say(&format!("{refused}\nplugnode: the running one stays"));
    };
    tokio::select! {
        () = shutdown.begun() => {}
        error = redeploy.at_each_change(sources, &*project, tell) => {
            say(&format!("changes are not seen any more: {error:#}"));
        }
    }
}

/// What PATH is.
struct Project {
    path: PathBuf,
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
}

impl Project {
    fn at(path: &Path) -> Result<Self> {
        let is_crate = path.join("Cargo.toml").is_file();
        if !path.exists() {
            bail!(
                "there is no {}; name a script, a .wasm file or the folder of a handler crate",
                path.display()
            );
        }
        let kind = match find_script(path)? {
            _ if is_crate => Kind::Crate,
            Some(script) => Kind::Script(
                script,
                tempfile::tempdir().context("cannot make a folder for what is built")?,
            ),
            None if path.is_dir() => bail!(
                "{} has no Cargo.toml and no package.json; name a script, a .wasm file or the folder of a handler crate",
                path.display()
            ),
            None => Kind::Component,
        };
        Ok(Self {
            path: path.into(),
            kind,
        })
    }

    /// Where its pages and its plugnode.toml are.
    fn folder(&self) -> &Path {
        match self.path.parent() {
            _ if self.path.is_dir() => &self.path,
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    /// The component, built if need be, and what to watch for its next version.
    async fn make(&self) -> Result<(PathBuf, Sources)> {
        match &self.kind {
            Kind::Component => Ok((self.path.clone(), Sources::of_file(&self.path)?)),
            Kind::Crate => {
                let built = build(&self.path).await?;
                Ok((built.component, Sources::of_crates(&built.crates)?))
            }
            Kind::Script(script, folder) => {
                let component = component_of(script, None).await?;
                let file = folder.path().join("script.wasm");
                std::fs::write(&file, component).with_context(|| format!("cannot write {}", file.display()))?;
                Ok((file, self.sources()?))
            }
        }
    }

    /// What to watch besides, where several apps are of one script: its folder, since what it imports is there as well.
    fn sources(&self) -> Result<Sources> {
        Sources::of_crates(&[self.folder().to_owned()])
    }
}

#[async_trait]
impl Origin for Project {
    async fn component(&self) -> Result<Bytes> {
        let file = match &self.kind {
            Kind::Component => self.path.clone(),
            Kind::Crate => build(&self.path).await?.component,
            Kind::Script(script, _) => return component_of(script, None).await,
        };
        let bytes = tokio::fs::read(&file)
            .await
            .with_context(|| format!("cannot read {}", file.display()))?;
        Ok(bytes.into())
    }
}

/// The settings: of the plugnode.toml beside the project if there is one, and what dev and its arguments say over it.
fn configuration(arguments: &Arguments, project: &Project, component: &Path) -> Result<Config> {
    if let Some(public) = arguments.public.as_deref().filter(|public| !public.is_dir()) {
        bail!("there is no folder {} to serve", public.display());
    }
    let file = Some(project.folder().join("plugnode.toml")).filter(|file| file.is_file());
    // Names that other programs use as well are meant for `run`.
    let own = runtime::variables().filter(|(name, _)| name.starts_with("PLUGNODE_"));
    let config = Config::load(file.as_deref(), own, |config| {
        config.roles = vec![Role::Frontend, Role::IoNode, Role::AppNode];
        config.transport.url = "memory:".into();
        if let Some(public) = &arguments.public {
            config.frontend.static_dir.clone_from(public);
        } else if config.frontend.static_dir == Path::new("public") {
            config.frontend.static_dir = project.folder().join("public");
        }
        // What is being written is for who writes it, unless the file says otherwise.
        if config.http.listen == Http::default().listen {
            config.http.listen = "127.0.0.1:8080".into();
        }
        if let (Some(port), Some((host, _))) = (arguments.port, config.http.listen.rsplit_once(':')) {
            config.http.listen = format!("{host}:{port}");
        }
        if config.apps.is_empty() {
            let grants = Grants {
                keyvalue: vec!["default".into()],
                ..Grants::default()
            };
            let mut app = App {
                grants,
                ..App::default()
            };
            if matches!(project.kind, Kind::Script(..)) {
                // As in Node: one instance knows all, and its middlewares are asked at the door.
                app.instances = 1;
                app.admission = true;
            }
            config.apps.push(app);
        }
        // A script serves several namespaces, as an app each.
        let named = config.apps[0].component.clone();
        let is_script = matches!(project.kind, Kind::Script(..));
        for (place, app) in config.apps.iter_mut().enumerate() {
            if place == 0 || (is_script && app.component == named) {
                app.component = component.into();
                app.instances = arguments.instances.unwrap_or(app.instances);
            }
        }
    })?;
    Ok(config)
}
