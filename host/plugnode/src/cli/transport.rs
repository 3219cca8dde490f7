//! The transport that a configuration names, for every verb that needs one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use tokio::time::sleep;

use super::cluster::PATIENCE;
use plugnode_process::shutdown::Shutdown;
use plugnode_server::admin::{self, Remote};
use plugnode_server::config::{Config, IoServer};
use plugnode_server::settings;
use plugnode_transport::{Memory, Operations, Transport, TransportError};
use plugnode_transport_redis::{OutageProbe, Redis};

/// How long a verb pauses before it tries again to reach Redis.
const PAUSE: Duration = Duration::from_millis(200);

/// Opens the transport. What works for its members ends after they have left, and `shutdown` waits for that.
pub(super) async fn open(config: &Config, shutdown: &Shutdown) -> Result<Transport> {
    if config.transport.url == "memory:" {
        return Ok(Memory::new(settings::memory(&config.transport)).into());
    }
    let redis = Redis::connect(settings::redis(&config.transport), shutdown).await;
    Ok(redis.context("[transport] url")?.into())
}

/// What a verb can do with the cluster that a configuration is of: what runs on the transport `memory:` is reached by its socket.
///
/// # Errors
/// When it cannot be reached, with what to do.
pub(super) async fn operations(config: &Config, shutdown: &Shutdown) -> Result<(Operations, OutageProbe)> {
    if config.transport.url != "memory:" {
        let began = Instant::now();
        let redis = loop {
            let redis = Redis::connect_read_only(settings::redis(&config.transport), shutdown).await;
            // One that restarts is waited for, as by everybody else.
            let is_away = |error: &TransportError| matches!(error, TransportError::Unreachable(_));
            if began.elapsed() >= PATIENCE || !redis.as_ref().is_err_and(is_away) {
                break redis.context("[transport] url")?;
            }
            sleep(PAUSE).await;
        };
        let outage_probe = redis.outage_probe();
        return Ok((Operations::of(Arc::new(redis)), outage_probe));
    }
    let listen: IoServer = config.http.listen.parse().map_err(anyhow::Error::msg)?;
    let Some(socket) = admin::reachable(config.admin.socket.as_deref(), listen.port) else {
        bail!("a running plugnode cannot be reached: [admin] socket is \"\", which is nowhere");
    };
    let remote = Remote::connect(&socket, config.transport.max_component.in_memory()).await?;
    Ok((Operations::of(Arc::new(remote)), Box::new(|| None)))
}
