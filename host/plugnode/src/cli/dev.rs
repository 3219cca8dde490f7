//! `plugnode dev`: runs one handler in one process with all roles, and replaces it at each change of its sources.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};

use super::error_overlay::ErrorOverlay;
use super::format::seconds;
use super::node::Node;
use super::project::Project;
use super::redeploy::{ChangeResult, Redeploy};
use super::rollout::{RolloutOutcome, Strategy};
use super::signals::{self, LameDuck};
use super::source_watcher::SourceWatcher;
use super::terminal::say;
use super::{cluster, log, runtime};
use plugnode_message::Namespace;
use plugnode_process::shutdown::Shutdown;
use plugnode_release::Digest;
use plugnode_server::config::{Config, HttpSettings};
use plugnode_transport::LeaseHealth;

/// Arguments of `plugnode dev`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each saved change is built and started, and then handles the next event; connections stay. If it does not build or start, the running
handler stays, and the pages show the error. They also show events that fail.

A plugnode.toml beside PATH has the settings; its first [[app]] gets the handler of PATH and, if PATH is a script, so do others with the
same component. Without it, the handler may use the key-value bucket \"default\", and a script has one instance and can refuse clients. The
transport is always memory:, and the default address is 127.0.0.1:8080.

plugnode deploy, rollback, releases, status and dead reach this process by --port, if the port is not 8080. PLUGNODE_GUEST_CARGO is
the path of the cargo that builds a Rust handler [default: cargo].")]
pub struct DevArgs {
    /// Script, .wasm file, or folder of a handler
    #[arg(default_value = ".")]
    pub path: PathBuf,
    /// Port to listen on [default: from plugnode.toml, or 8080]
    #[arg(short, long, value_parser = cluster::port)]
    pub port: Option<u16>,
    /// Folder of pages [default: from plugnode.toml, or public beside PATH]
    #[arg(long, value_name = "DIR")]
    pub public: Option<PathBuf>,
    /// Number of instances [default: from plugnode.toml; without one, 1 for a script and 4 for other handlers]
    #[arg(long, value_name = "N")]
    pub instances: Option<usize>,
}

/// Runs until a signal ends the process.
pub(super) fn dev(args: &DevArgs) -> Result<ExitCode> {
    let project = Project::open(&args.path)?;
    runtime::block_on(async {
        let shutdown = Shutdown::new();
        signals::begin_shutdown_by_signal(&shutdown, LameDuck::default())?;
        let built = tokio::select! {
            () = shutdown.begun() => return Ok(ExitCode::SUCCESS),
            built = project.build_watched() => built?,
        };
        let config = configuration(args, &project, &built.file)?;
        log::init(&config.log)?;
        runtime::raise_open_files(config.http.max_connections);
        let first = Digest::of(&built.component);
        let errors = Arc::new(ErrorOverlay::new(project.folder(), &first));
        let (overlay, forward_errors) = errors.for_frontend();
        let node = tokio::select! {
            () = shutdown.begun() => return Ok(runtime::drain(&shutdown, deadline(&config), &LeaseHealth::default()).await),
            node = Node::start_with_overlay(&config, &shutdown, overlay) => node.map_err(|error| project.name_in(&error, &built.file))?,
        };
        if !config.frontend.static_dir.is_dir() {
            say(&format!(
                "there are no pages: there is no folder {}",
                config.frontend.static_dir.display()
            ));
        }
        let port = node.address.map_or(0, |address| address.port());
        say(&format!("{} runs at http://localhost:{port}", project.path.display()));
        let project = Arc::new(project);
        {
            let (errors, transport, ending) = (errors.clone(), node.transport.clone(), shutdown.clone());
            shutdown.spawn(async move {
                tokio::select! {
                    () = ending.begun() => {}
                    () = errors.watch_dead_letters(&transport) => {}
                    () = forward_errors => {}
                }
            });
        }
        let mut watcher = Some(built.sources);
        for app in config.apps.iter().filter(|app| app.component == built.file) {
            let redeploy = Redeploy {
                operations: node.transport.operations(),
                app: Namespace::from(app.namespace.as_str()),
                file: project.path.display().to_string(),
                strategy: Strategy::Immediate,
                last: Some(first.clone()),
                say,
            };
            let watcher = match watcher.take() {
                Some(watcher) => watcher,
                None => project.watch()?,
            };
            shutdown.spawn(redeploy_at_each_change(
                redeploy,
                project.clone(),
                watcher,
                errors.clone(),
                shutdown.clone(),
            ));
        }
        Ok(runtime::drain(&shutdown, deadline(&config), &LeaseHealth::default()).await)
    })
}

fn deadline(config: &Config) -> Duration {
    config.shutdown.deadline
}

/// Builds and deploys the project at each change, until shutdown begins.
async fn redeploy_at_each_change(
    redeploy: Redeploy,
    project: Arc<Project>,
    watcher: SourceWatcher,
    errors: Arc<ErrorOverlay>,
    shutdown: Shutdown,
) {
    let path = project.path.display();
    let app = redeploy.app.clone();
    let report = |result: ChangeResult| {
        let error = match result {
            ChangeResult::Followed(result) => {
                let (number, digest) = (result.release.number, result.release.digest.short());
                match result.outcome {
                    RolloutOutcome::InUse | RolloutOutcome::NotTried => {
                        errors.release_in_use(&result.release.digest);
                        let after = seconds(result.took);
                        return say(&format!(
                            "release {number} ({digest}) of {app} runs, {after} after the change"
                        ));
                    }
                    RolloutOutcome::Failed(reason) => format!("{path} cannot run: {reason}"),
                    RolloutOutcome::Superseded(by) | RolloutOutcome::Replaced(by) => {
                        return say(&format!("release {by} has replaced release {number} ({digest})"));
                    }
                    RolloutOutcome::Cancelled => format!("release {number} ({digest}) was cancelled by a rollback"),
                }
            }
            ChangeResult::Unchanged => return errors.build_succeeded(),
            ChangeResult::Refused(error) => format!("{error:#}"),
        };
        errors.build_failed(&error);
        say(&format!("{error}\nplugnode: the running handler stays"));
    };
    tokio::select! {
        () = shutdown.begun() => {}
        error = redeploy.at_each_change(watcher, &*project, report) => {
            say(&format!("changes are no longer noticed; restart plugnode dev: {error:#}"));
        }
    }
}

/// The settings of the project, with the arguments and the defaults of `plugnode dev`.
fn configuration(args: &DevArgs, project: &Project, component: &Path) -> Result<Config> {
    if let Some(public) = args.public.as_deref().filter(|public| !public.is_dir()) {
        bail!(
            "there is no folder {}; name the folder of the pages by --public",
            public.display()
        );
    }
    project.config(component, args.instances, |config| {
        if let Some(public) = &args.public {
            config.frontend.static_dir.clone_from(public);
        } else if config.frontend.static_dir == Path::new("public") {
            config.frontend.static_dir = project.folder().join("public");
        }
        // Only for this machine, unless plugnode.toml says otherwise.
        if config.http.listen == HttpSettings::default().listen {
            config.http.listen = "127.0.0.1:8080".into();
        }
        if let (Some(port), Some((host, _))) = (args.port, config.http.listen.rsplit_once(':')) {
            config.http.listen = format!("{host}:{port}");
        }
    })
}
