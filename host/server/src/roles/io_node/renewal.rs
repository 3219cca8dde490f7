//! Changes settings of a running io-node: limits, and the keys of tokens.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Result;

use super::entrance::Entrance;
use super::protocol::Protocol;
use super::settings::IoNodeSettings;
use super::token::TokenSettings;

/// Changes a running io-node. Clones are for the same one.
#[derive(Clone)]
pub struct Renewal {
    pub(super) entrance: Arc<Entrance>,
    pub(super) protocol: Arc<Protocol>,
}

impl Renewal {
    /// Applies these limits from now on: `per_address`, `events_per_second` (to new connections), `channels_per_client` and
    /// `namespaces_per_connection`.
    pub fn limit(&self, settings: &IoNodeSettings) {
        self.entrance.set_limits(settings.per_address);
        let protocol = &self.protocol;
        protocol.connections.set_events_per_second(settings.events_per_second);
        let (max_rooms, max_namespaces) = (&protocol.context.max_rooms, &protocol.namespaces_per_connection);
        max_rooms.store(settings.channels_per_client, Ordering::Relaxed);
        max_namespaces.store(settings.namespaces_per_connection, Ordering::Relaxed);
    }

    /// Reads the keys of tokens again. Returns whether any changed.
    ///
    /// # Errors
    /// If one cannot be read or used; then none changes.
    pub async fn read_keys(&self, settings: Option<&TokenSettings>) -> Result<bool> {
        match (&self.protocol.tokens, settings) {
            (Some(tokens), Some(settings)) => tokens.read_again(&settings.keys).await,
            _ => Ok(false),
        }
    }
}
