//! `plugnode dev`: one handler in one process with all roles, taken into use anew each time it changes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};

use super::node::Node;
use super::notice::Notices;
use super::progress::say;
use super::project::Project;
use super::redeploy::{Redeploy, Told};
use super::rollout::{Outcome, Way};
use super::signals::{self, LameDuck};
use super::sources::Sources;
use super::words::seconds;
use super::{log, runtime};
use plugnode_message::Namespace;
use plugnode_process::shutdown::Shutdown;
use plugnode_release::Digest;
use plugnode_server::config::{Config, Http};
use plugnode_transport::Standing;

/// Arguments of `plugnode dev`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each save is in use as soon as it is built and has started: the next event is handled by it. What cannot start changes nothing.
A plugnode.toml beside PATH is used for settings; without one, the handler may use the key-value bucket \"default\", and a script
has one instance, which is asked whether to let clients in.
Its first [[app]] is the one that PATH is, and so are others that name the same component as that, if PATH is a script; the
transport is always memory:.
Pages show what does not build or has failed, until it works again.
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
        let made = tokio::select! {
            () = shutdown.begun() => return Ok(ExitCode::SUCCESS),
            made = project.make() => made?,
        };
        let config = configuration(arguments, &project, &made.file)?;
        log::init(&config.log)?;
        runtime::raise_open_files(config.http.max_connections);
        let first = Digest::of(&made.component);
        let notices = Arc::new(Notices::new(project.folder(), &first));
        let (overlay, keep) = notices.overlay();
        let node = tokio::select! {
            () = shutdown.begun() => return Ok(runtime::drain(&shutdown, deadline(&config), &Standing::default()).await),
            node = Node::start(&config, &shutdown, overlay) => node?,
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
        {
            let (notices, transport, ending) = (notices.clone(), node.transport.clone(), shutdown.clone());
            shutdown.spawn(async move {
                tokio::select! {
                    () = ending.begun() => {}
                    () = notices.watch(&transport) => {}
                    () = keep => {}
                }
            });
        }
        let mut sources = Some(made.sources);
        for app in config.apps.iter().filter(|app| app.component == made.file) {
            let redeploy = Redeploy {
                operations: node.transport.operations(),
                app: Namespace::from(app.namespace.as_str()),
                file: project.path.display().to_string(),
                way: Way::AtOnce,
                last: Some(first.clone()),
                say,
            };
            let sources = match sources.take() {
                Some(sources) => sources,
                None => project.sources()?,
            };
            shutdown.spawn(follow(
                redeploy,
                project.clone(),
                sources,
                notices.clone(),
                shutdown.clone(),
            ));
        }
        Ok(runtime::drain(&shutdown, deadline(&config), &Standing::default()).await)
    })
}

fn deadline(config: &Config) -> Duration {
    config.shutdown.deadline
}

/// Takes each new version into use until shutdown begins.
async fn follow(
    redeploy: Redeploy,
    project: Arc<Project>,
    sources: Sources,
    notices: Arc<Notices>,
    shutdown: Shutdown,
) {
    let path = project.path.display();
    let app = redeploy.app.clone();
    let tell = |told: Told| {
        let refused = match told {
            Told::Followed(followed) => {
                let (number, digest) = (followed.release.number, followed.release.digest.short());
                match followed.outcome {
                    Outcome::InUse | Outcome::NotTried => {
                        notices.runs(&followed.release.digest);
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
            Told::Same => return notices.builds(),
            Told::Refused(error) => format!("{error:#}"),
        };
        notices.build_failed(&refused);
        say(&format!("{refused}\nplugnode: the running one stays"));
    };
    tokio::select! {
        () = shutdown.begun() => {}
        error = redeploy.at_each_change(sources, &*project, tell) => {
            say(&format!("changes are not seen any more: {error:#}"));
        }
    }
}

/// The settings of the project, and what dev and its arguments say over them.
fn configuration(arguments: &Arguments, project: &Project, component: &Path) -> Result<Config> {
    if let Some(public) = arguments.public.as_deref().filter(|public| !public.is_dir()) {
        bail!("there is no folder {} to serve", public.display());
    }
    project.config(component, arguments.instances, |config| {
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
    })
}
