//! Changes settings of a running io-node: limits, and the keys of tokens.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Result;

use super::access_check::AccessCheck;
use super::protocol::Protocol;
use super::settings::IoNodeSettings;
use super::token::TokenSettings;

/// Changes settings of a running io-node. Clones change the same one.
#[derive(Clone)]
pub struct SettingsUpdater {
    pub(super) access_check: Arc<AccessCheck>,
    pub(super) protocol: Arc<Protocol>,
}

impl SettingsUpdater {
    /// Applies these limits from now on: `per_address`, `events_per_second` (to new connections), `channels_per_client` and
    /// `namespaces_per_connection`.
    pub fn limit(&self, settings: &IoNodeSettings) {
        self.access_check.set_limits(settings.per_address);
        let protocol = &self.protocol;
        protocol.connections.set_events_per_second(settings.events_per_second);
        let (max_rooms, max_namespaces) = (&protocol.context.max_rooms, &protocol.namespaces_per_connection);
        max_rooms.store(settings.channels_per_client, Ordering::Relaxed);
        max_namespaces.store(settings.namespaces_per_connection, Ordering::Relaxed);
    }

    /// Reads the keys of tokens again. Returns whether any changed.
    ///
    /// # Errors
    /// If a key cannot be read or used. Then all keys stay as they are.
    pub async fn read_keys(&self, settings: Option<&TokenSettings>) -> Result<bool> {
        match (&self.protocol.tokens, settings) {
            (Some(tokens), Some(settings)) => tokens.read_again(&settings.keys).await,
            _ => Ok(false),
        }
    }
}
