//! The app-node: owns partitions, feeds their events to handler instances, commits what they do.
//!
//! From event to commit in one sentence: a lease's log gives events, each goes to the pool of its namespace's app, and
//! what the instance did is committed under the same lease. Which release of an app that pool runs is said by the board of
//! releases, which `rollouts` keeps at hand and a `follower` of each app acts upon. It knows transports by their promises and
//! handlers by their pools; of sockets it knows nothing.

mod app;
mod board_keeper;
mod candidate;
mod endings;
mod first;
mod follower;
mod last_words;
mod ownership;
mod partition;
mod patches;
mod refused;
mod rollouts;
mod tally;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use tracing::{info, warn};

use self::app::App;
use self::ownership::Ownership;
use self::rollouts::Rollouts;
use plugnode_message::namespaces::Namespaces;
use plugnode_message::{Namespace, NodeId, SessionId};
use plugnode_process::shutdown::Shutdown;
use plugnode_runtime::{AppSettings, Engine, Native};
use plugnode_transport::{Standing, Transport};

/// What an app-node is told.
pub struct AppNodeSettings {
    /// Its name, unique in the cluster.
    pub name: NodeId,
    /// The apps it runs.
    pub apps: Vec<AppSource>,
    /// The apps it runs whose handlers are native Rust.
    pub native: Vec<NativeApp>,
    /// How events are tried.
    pub retries: Retries,
    /// The transport's partitions.
    pub partitions: u16,
    /// How many releases of an app are remembered.
    pub kept_releases: usize,
}

/// An app, and the component that is its first release where it has none yet.
pub struct AppSource {
    /// The app.
    pub settings: AppSettings,
    /// The name of the component's file, for people.
    pub file: String,
    /// The component, or why it could not be read.
    pub component: std::result::Result<Bytes, String>,
}

/// An app whose handler is native Rust. It has no component, and so no releases: it is replaced with the program.
pub struct NativeApp {
    /// The app.
    pub settings: AppSettings,
    /// The handler.
    pub handler: Native,
}

/// How an event that fails is tried again.
#[derive(Debug, Clone, Copy)]
pub struct Retries {
    /// How many times it is tried in all before it is put aside as a dead letter. At least 1.
    pub attempts: u32,
    /// How long to wait before the second attempt; twice that before the third, and so on.
    pub delay: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 3,
            delay: Duration::from_millis(100),
        }
    }
}

/// A running app-node. It follows the board of releases until the shutdown that it was started with begins.
pub struct AppNode;

impl AppNode {
    /// Loads the release in use of every app, joins the transport and begins to handle events; stops when `shutdown` begins.
    /// An app that has no release yet gets its first, of the component in its settings. An app-node that loses its place in
    /// the cluster joins anew, and its apps stay.
    ///
    /// # Errors
    /// When a component cannot be loaded or started, with the reason, and when the transport cannot be joined.
    pub async fn start(
        settings: AppNodeSettings,
        engine: Engine,
        transport: Transport,
        shutdown: &Shutdown,
    ) -> Result<Self> {
        let mut apps = Apps {
            standing: transport.nodes.standing(),
            ..Apps::default()
        };
        for source in settings.apps {
            let namespace = source.settings.namespace.clone();
            let app = first::start(source, settings.kept_releases, &transport, &engine, shutdown)
                .await
                .with_context(|| format!("app {namespace:?} cannot start"))?;
            let in_use = app.in_use();
            info!(app = %namespace, release = in_use.number, component = in_use.component.release(), "app started");
            apps.insert(app)?;
        }
        for app in settings.native {
            let namespace = app.settings.namespace.clone();
            let name = app.handler.name();
            let app = first::start_native(app, &engine, shutdown)
                .await
                .with_context(|| format!("app {namespace:?} cannot start"))?;
            info!(app = %namespace, handler = name, "app of native code started");
            apps.insert(app)?;
        }
        engine.begin_to_serve();
        let apps = Arc::new(apps);
        let board = transport
            .releases
            .board()
            .await
            .context("cannot read the board of releases")?;
        let leases = transport
            .events
            .join_app(settings.name.clone())
            .await
            .context("cannot join the transport")?;
        Rollouts::start(
            settings.name.clone(),
            apps.clone(),
            transport.clone(),
            &engine,
            settings.partitions,
            board,
            shutdown,
        );
        let ownership = Ownership {
            name: settings.name,
            transport,
            apps,
            retries: settings.retries,
            shutdown: shutdown.clone(),
        };
        shutdown.spawn(ownership.run(leases));
        Ok(Self)
    }
}

/// Every app of this node, and which one a namespace means.
#[derive(Default)]
struct Apps {
    apps: Vec<Arc<App>>,
    by_namespace: Namespaces<Arc<App>>,
    /// Whether events wait for the key-value store.
    store_away: AtomicBool,
    /// Whether this node can renew its place in the cluster.
    standing: Standing,
}

impl Apps {
    fn insert(&mut self, app: App) -> Result<()> {
        let app = Arc::new(app);
        self.by_namespace
            .insert(app.settings.namespace.as_str(), app.clone())
            .map_err(anyhow::Error::msg)?;
        self.apps.push(app);
        Ok(())
    }

    fn get(&self, namespace: &Namespace) -> Option<&Arc<App>> {
        self.by_namespace.find(namespace.as_str())
    }

    fn all(&self) -> impl Iterator<Item = &Arc<App>> {
        self.apps.iter()
    }

    /// Takes note of an event that waits for the key-value store.
    fn store_is_away(&self, reason: &str) {
        if !self.store_away.swap(true, Ordering::Relaxed) {
            warn!("events wait until the key-value store can be read again: {reason}");
        }
    }

    /// Takes note of one that waited and has gone on.
    fn store_is_back(&self) {
        if self.store_away.swap(false, Ordering::Relaxed) {
            info!("the key-value store can be read again");
        }
    }

    /// Lets all instances go.
    fn retire(&self) {
        self.apps.iter().for_each(|app| app.retire());
    }

    fn forget(&self, namespace: &Namespace, client: &SessionId) {
        if let Some(app) = self.get(namespace) {
            app.forget(namespace, client);
        }
    }
}
