//! What of an io-node can be others while it runs: limits, and the keys of tokens.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Result;

use super::entrance::Entrance;
use super::protocol::Protocol;
use super::{IoNodeSettings, TokenSettings};

/// Changes a running io-node. Clones are for the same one.
#[derive(Clone)]
pub struct Renewal {
    pub(super) entrance: Arc<Entrance>,
    pub(super) protocol: Arc<Protocol>,
}

impl Renewal {
    /// Has the limits of these settings count for what comes from now on: `per_address`, `events_per_second`,
    /// `channels_per_client` and `namespaces_per_connection`.
    pub fn limit(&self, settings: &IoNodeSettings) {
        self.entrance.limit(settings.per_address);
        self.protocol.sessions.set_events_per_second(settings.events_per_second);
        let (common, protocol) = (&self.protocol.common, &self.protocol);
        common
            .max_channels
            .store(settings.channels_per_client, Ordering::Relaxed);
        protocol
            .namespaces_per_connection
            .store(settings.namespaces_per_connection, Ordering::Relaxed);
    }

    /// Reads the keys of tokens again, and says whether some are others.
    ///
    /// # Errors
    /// When one cannot be read or used; then all stay as they were.
    pub async fn read_keys(&self, settings: Option<&TokenSettings>) -> Result<bool> {
        match (&self.protocol.tokens, settings) {
            (Some(tokens), Some(settings)) => tokens.read_again(&settings.keys).await,
            _ => Ok(false),
        }
    }
}
