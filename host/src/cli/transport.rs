//! Opens the transport that a configuration names.

use std::sync::Arc;

use anyhow::{Context, Result};

use super::settings;
use crate::config::Config;
use crate::shutdown::Shutdown;
use crate::transport::{Memory, Redis, Transport};

/// Opens it. What works for its members ends with `shutdown`, after they have left.
pub(super) async fn open(config: &Config, shutdown: &Shutdown) -> Result<Arc<dyn Transport>> {
    if config.transport.url == "memory:" {
        return Ok(Arc::new(Memory::new(settings::memory(&config.transport))));
    }
    let redis = Redis::connect(settings::redis(&config.transport), shutdown).await;
    Ok(Arc::new(redis.context("[transport] url")?))
}
