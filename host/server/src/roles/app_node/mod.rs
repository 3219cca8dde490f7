//! The app-node: owns partitions, feeds their events to handler instances, commits what they do.
//!
//! From event to commit in one sentence: a lease's log gives events, each goes to the pool of its namespace's app, and
//! what the instance did is committed under the same lease. Which release of an app that pool runs is said by the board of
//! releases, which `rollouts` keeps at hand and a `follower` of each app acts upon. It knows transports by their promises and
//! handlers by their pools; of sockets it knows nothing.

mod app;
mod apps;
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
mod settings;
mod tally;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use anyhow::{Context, Result};
use tracing::info;

use self::apps::Apps;
use self::ownership::Ownership;
use self::rollouts::Rollouts;
pub use self::settings::{AppNodeSettings, AppSource, NativeApp, Retries};
use plugnode_process::shutdown::Shutdown;
use plugnode_runtime::Engine;
use plugnode_transport::Transport;

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
        let mut apps = Apps::new(transport.nodes.standing());
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
        engine.start_serving();
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
