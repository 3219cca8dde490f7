//! The cluster that a verb is about, and how it is reached from outside: by the transport that the config file names, or by the
//! socket of a process whose transport is in its memory.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::timeout;

use super::{log, runtime, transport};
use plugnode_message::Namespace;
use plugnode_process::shutdown::Shutdown;
use plugnode_server::config::{Config, LogLevel, Role};
use plugnode_transport::Operations;
use plugnode_transport_redis::OutageProbe;

/// What is read when nothing else is named.
const USUAL: &str = "plugnode.toml";
/// How long the transport may take to end its work in the background.
const ENDING: Duration = Duration::from_secs(2);

/// Which cluster.
#[derive(Debug, Default, clap::Args)]
pub struct Cluster {
    /// The config file of the cluster, for its [transport] and [admin] [default: plugnode.toml, if there is one]
    #[arg(short, long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// The socket of a process on the memory transport, as its log names it
    #[arg(long, value_name = "PATH", conflicts_with = "port", global = true)]
    pub socket: Option<PathBuf>,
    /// The port of a process on the memory transport of this machine, such as plugnode dev
    #[arg(long, value_name = "PORT", global = true)]
    pub port: Option<u16>,
}

/// How long the transport may be kept from answering before a verb gives up and says by what.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A cluster that was reached.
pub(super) struct Reached {
    pub(super) operations: Operations,
    /// The apps that its config file names.
    pub(super) apps: Vec<Namespace>,
    outage_probe: OutageProbe,
}

impl Reached {
    /// Does some work there, and gives it up during an outage of that long, with the reason of the outage.
    pub(super) async fn within<T>(&self, patience: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut work = pin!(work);
        loop {
            if let Ok(done) = timeout(LOOK, &mut work).await {
                return done;
            }
            if let Some((time, words)) = (self.outage_probe)()
                && time >= patience
            {
                bail!("{words}");
            }
        }
    }
}

impl Cluster {
    /// Reaches the cluster, and does something there that takes no time where the transport answers.
    pub(super) fn visit(&self, work: impl AsyncFnOnce(&Operations) -> Result<ExitCode>) -> Result<ExitCode> {
        self.reach(async |cluster| cluster.within(PATIENCE, work(&cluster.operations)).await)
    }

    /// The same for what decides itself how long it waits for which part of its work.
    pub(super) fn reach(&self, work: impl AsyncFnOnce(&Reached) -> Result<ExitCode>) -> Result<ExitCode> {
        let config = self.configuration()?;
        log::init(&config.log)?;
        runtime::block_on_here(async {
            let shutdown = Shutdown::new();
            let (operations, outage_probe) = transport::operations(&config, &shutdown).await?;
            let apps = config.apps.iter().map(|app| Namespace::from(app.namespace.as_str()));
            let cluster = Reached {
                operations,
                apps: apps.collect(),
                outage_probe,
            };
            let done = work(&cluster).await;
            drop(cluster);
            shutdown.begin();
            shutdown.drained(ENDING).await;
            match done {
                // Whoever reads has read enough.
                Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
                done => done,
            }
        })
    }

    fn configuration(&self) -> Result<Config> {
        let file = match &self.config {
            Some(file) if !file.exists() => {
                bail!("there is no {}; name the cluster's config file by -c", file.display())
            }
            Some(file) => Some(file.as_path()),
            None => Some(Path::new(USUAL)).filter(|file| file.exists()),
        };
        let config = Config::load(file, runtime::variables(), |config| {
            // No role is played here, so neither components nor pages have to be at hand.
            config.roles = vec![Role::Frontend];
            config.frontend.static_dir = ".".into();
            config.log.level = LogLevel::Warn;
            if self.socket.is_some() || self.port.is_some() {
                config.transport.url = "memory:".into();
                config.admin.socket.clone_from(&self.socket);
            }
            if let Some(port) = self.port {
                config.http.listen = format!("127.0.0.1:{port}");
            }
        })?;
        Ok(config)
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
