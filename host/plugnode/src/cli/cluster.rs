//! Connects a command to a running cluster: over Redis if the config file names it, otherwise over the admin socket of a process on
//! the memory transport.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::time::{sleep, timeout};

use super::{log, runtime};
use plugnode_message::Namespace;
use plugnode_process::shutdown::Shutdown;
use plugnode_server::admin::{self, AdminClient};
use plugnode_server::config::{Config, IoServer, LogLevel, Role};
use plugnode_transport::{Operations, TransportError};
use plugnode_transport_redis::{OutageProbe, Redis};

/// Config file that is read if none is named.
pub(super) const DEFAULT_CONFIG: &str = "plugnode.toml";
/// Time-out for the transport's background work to end.
const SHUTDOWN: Duration = Duration::from_secs(2);
/// Time for which Redis may be unavailable before a command fails with the cause.
pub(super) const UNAVAILABLE: Duration = Duration::from_secs(4);
/// Interval at which a command checks whether Redis is available.
const CHECK: Duration = Duration::from_millis(100);
/// Pause between two attempts to connect to Redis.
const RETRY: Duration = Duration::from_millis(200);

/// Arguments that select the cluster.
#[derive(Debug, Default, clap::Args)]
pub struct ClusterArgs {
    /// Config file of the cluster; its [transport] and [admin] are used [default: plugnode.toml, if it exists]
    #[arg(short, long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Admin socket of a process on the memory transport: [admin] socket of its config file
    #[arg(long, value_name = "PATH", conflicts_with = "port", global = true)]
    pub socket: Option<PathBuf>,
    /// HTTP port of a process on the memory transport of this machine, such as plugnode dev
    #[arg(long, value_name = "PORT", global = true, value_parser = port)]
    pub port: Option<u16>,
}

/// An open connection to a cluster.
pub(super) struct ClusterConnection {
    pub(super) operations: Operations,
    /// Apps in the config file.
    pub(super) apps: Vec<Namespace>,
    outage_probe: OutageProbe,
}

impl ClusterConnection {
    /// Awaits `work`.
    ///
    /// # Errors
    /// An error of `work`, or the cause once Redis has been unavailable or full for `limit`.
    pub(super) async fn within<T>(&self, limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut work = pin!(work);
        loop {
            if let Ok(result) = timeout(CHECK, &mut work).await {
                return result;
            }
            if let Some((time, cause)) = (self.outage_probe)()
                && time >= limit
            {
                bail!("{cause}");
            }
        }
    }
}

impl ClusterArgs {
    /// Connects and runs `work`, which fails once the transport has been unavailable for [`UNAVAILABLE`].
    pub(super) fn run(&self, work: impl AsyncFnOnce(&Operations) -> Result<ExitCode>) -> Result<ExitCode> {
        self.run_connected(async |cluster| cluster.within(UNAVAILABLE, work(&cluster.operations)).await)
    }

    /// Connects and runs `work`, which sets its own time limits by [`ClusterConnection::within`].
    pub(super) fn run_connected(
        &self,
        work: impl AsyncFnOnce(&ClusterConnection) -> Result<ExitCode>,
    ) -> Result<ExitCode> {
        let config = self.configuration()?;
        log::init(&config.log)?;
        runtime::block_on_here(async {
            let shutdown = Shutdown::new();
            let (operations, outage_probe) = connect(&config, &shutdown).await?;
            let apps = config.apps.iter().map(|app| Namespace::from(app.namespace.as_str()));
            let cluster = ClusterConnection {
                operations,
                apps: apps.collect(),
                outage_probe,
            };
            let result = work(&cluster).await;
            drop(cluster);
            shutdown.begin();
            shutdown.drained(SHUTDOWN).await;
            match result {
                // The reader of the output, such as `head`, has closed the pipe.
                Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
                result => result,
            }
        })
    }

    fn configuration(&self) -> Result<Config> {
        let file = match &self.config {
            Some(file) => {
                require_config(file)?;
                Some(file.as_path())
            }
            None => Some(Path::new(DEFAULT_CONFIG)).filter(|file| file.exists()),
        };
        let config = Config::load(file, runtime::variables(), |config| {
            // A role whose checks need no component and no pages.
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

/// Fails if there is no such config file.
pub(super) fn require_config(file: &Path) -> Result<()> {
    if !file.exists() {
        bail!("{}", missing_config(file));
    }
    Ok(())
}

/// The error for a config file that does not exist.
pub(super) fn missing_config(file: &Path) -> String {
    let remedy = match file == Path::new(DEFAULT_CONFIG) {
        true => "name the config file by -c",
        false => "correct the path after -c",
    };
    format!("there is no {}; {remedy}", file.display())
}

/// A port on the command line.
pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "a port is a number from 0 to 65535".into())
}

/// Connects to Redis, or to the admin socket if the transport is `memory:`. Retries while Redis is unreachable, for [`UNAVAILABLE`].
async fn connect(config: &Config, shutdown: &Shutdown) -> Result<(Operations, OutageProbe)> {
    if !config.transport.is_memory() {
        let began = Instant::now();
        let redis = loop {
            let redis = Redis::connect_read_only(&config.transport.url, config.transport.redis.clone(), shutdown).await;
            let is_unreachable = |error: &TransportError| matches!(error, TransportError::Unreachable(_));
            if began.elapsed() >= UNAVAILABLE || !redis.as_ref().is_err_and(is_unreachable) {
                break redis.context("[transport] url")?;
            }
            sleep(RETRY).await;
        };
        let outage_probe = redis.outage_probe();
        return Ok((Operations::of(Arc::new(redis)), outage_probe));
    }
    let listen: IoServer = config.http.listen.parse().map_err(anyhow::Error::msg)?;
    let Some(socket) = admin::reachable(config.admin.socket.as_deref(), listen.port) else {
        bail!(
            "cannot reach a running plugnode: its admin socket is off ([admin] socket = \"\"); set [admin] socket to a path"
        );
    };
    let remote = AdminClient::connect(&socket, config.transport.redis.common.max_component).await?;
    Ok((Operations::of(Arc::new(remote)), Box::new(|| None)))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
