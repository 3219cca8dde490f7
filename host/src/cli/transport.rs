//! The transport that a configuration names, for every verb that needs one.

use std::sync::Arc;

use anyhow::{Context, Result};

use super::settings;
use crate::config::Config;
use crate::shutdown::Shutdown;
use crate::transport::{Memory, Redis, Transport};

/// Opens the transport. What works for its members ends after they have left, and `shutdown` waits for that.
pub(super) async fn open(config: &Config, shutdown: &Shutdown) -> Result<Arc<dyn Transport>> {
    if config.transport.url == "memory:" {
        return Ok(Arc::new(Memory::new(settings::memory(&config.transport))));
    }
    let redis = Redis::connect(settings::redis(&config.transport), shutdown).await;
    Ok(Arc::new(redis.context("[transport] url")?))
}

/// STOPGAP
pub(super) async fn registry(config: &Config, shutdown: &Shutdown) -> Result<Arc<dyn crate::transport::Registry>> {
    Ok(open(config, shutdown).await?)
}
