//! The apps of an app-node, by namespace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use tracing::{info, warn};

use super::app::App;
use plugnode_message::namespaces::Namespaces;
use plugnode_message::{KeyValue, Namespace, SessionId};
use plugnode_transport::LeaseHealth;

/// The apps of this node, by namespace.
pub(super) struct Apps {
    apps: Vec<Arc<App>>,
    by_namespace: Namespaces<Arc<App>>,
    /// Whether events wait because the key-value store cannot be read.
    store_is_away: AtomicBool,
    /// Whether this node renews its lease in time.
    pub(super) lease_health: LeaseHealth,
    /// The store, for the idempotency keys of calls.
    pub(super) key_value: Arc<dyn KeyValue>,
}

impl Apps {
    pub(super) fn new(lease_health: LeaseHealth, key_value: Arc<dyn KeyValue>) -> Self {
        Self {
            apps: Vec::new(),
            by_namespace: Namespaces::default(),
            store_is_away: AtomicBool::new(false),
            lease_health,
            key_value,
        }
    }

    pub(super) fn insert(&mut self, app: App) -> Result<()> {
        let app = Arc::new(app);
        self.by_namespace
            .insert(app.settings.namespace.as_str(), app.clone())
            .map_err(anyhow::Error::msg)?;
        self.apps.push(app);
        Ok(())
    }

    pub(super) fn get(&self, namespace: &Namespace) -> Option<&Arc<App>> {
        self.by_namespace.find(namespace.as_str())
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<App>> {
        self.apps.iter()
    }

    /// Logs once that events wait for the key-value store.
    pub(super) fn store_is_away(&self, reason: &str) {
        if !self.store_is_away.swap(true, Ordering::Relaxed) {
            warn!(error = %reason, "cannot read the key-value store; events wait for it");
        }
    }

    /// Logs once that the key-value store can be read again.
    pub(super) fn store_is_back(&self) {
        if self.store_is_away.swap(false, Ordering::Relaxed) {
            info!("the key-value store can be read again");
        }
    }

    /// Ends all instances.
    pub(super) fn retire(&self) {
        self.apps.iter().for_each(|app| app.retire());
    }

    /// Drops what the instances hold of a client.
    pub(super) fn forget(&self, namespace: &Namespace, client: &SessionId) {
        if let Some(app) = self.get(namespace) {
            app.forget(namespace, client);
        }
    }
}
