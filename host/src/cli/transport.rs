//! The transport that a configuration names, for every verb that needs one.

use std::sync::Arc;

use anyhow::{Result, bail};

use super::settings;
use crate::config::Config;
use crate::shutdown::Shutdown;
use crate::transport::{Memory, Transport};

/// Opens the transport. What it does in the background ends with `shutdown`.
pub(super) async fn open(config: &Config, _shutdown: &Shutdown) -> Result<Arc<dyn Transport>> {
    match config.transport.url.as_str() {
        "memory:" => Ok(Arc::new(Memory::new(settings::memory(&config.transport)))),
        // A URL may hold a password: only its scheme is shown.
        url => bail!(
            "there is no transport for `{}:`; write [transport] url = \"memory:\"",
            url.split(':').next().unwrap_or_default()
        ),
    }
}
