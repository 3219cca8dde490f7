//! Changes settings of a running io-node: limits, and the keys of tokens.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Result;

use super::access_check::AccessCheck;
use super::protocol::Protocol;
use super::settings::IoNodeSettings;
use super::token::{NewKeys, TokenSettings};

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

    /// Reads the keys of tokens again. They are in use once they are given to [`replace_keys`](Self::replace_keys). None without
    /// tokens.
    ///
    /// # Errors
    /// If a key cannot be read or used.
    pub async fn read_keys(&self, settings: &TokenSettings) -> Result<Option<NewKeys>> {
        match &self.protocol.tokens {
            Some(tokens) if settings.has_key() => tokens.read_again(settings).await.map(Some),
            _ => Ok(None),
        }
    }

    /// Uses these keys of tokens from now on. Returns whether any changed.
    pub async fn replace_keys(&self, new: NewKeys) -> bool {
        match &self.protocol.tokens {
            Some(tokens) => tokens.replace(new).await,
            None => false,
        }
    }
}
