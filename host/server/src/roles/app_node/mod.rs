//! The app-node: leases partitions, feeds their events to handler instances, and commits the effects.
//!
//! In the order in which an event travels:
//!
//! - [`LeaseHolder`] joins the cluster and starts `partition` for each leased partition.
//! - `partition` reads the partition's log and gives each event to a `scheduler`, which keeps each client's events in order,
//!   retries failed ones and hands `completions` back to be committed.
//! - [`Apps`] finds the `app` of the event's namespace. The app gives the event to the release in use (`loaded_release`), or to
//!   the `candidate` on trial.
//!
//! A call of the server API takes the same way, but for `calls`, which carries out its commands without a handler. `webhooks` tells other
//! programs of events, and of what became of them.
//!
//! Beside this way, `board_watcher` reads the board of releases, a `follower` for each app loads and replaces releases as the
//! board says, and [`Rollouts`] reports to the cluster and advances rollouts. `app_start` starts the apps with the node.
//!
//! It uses transports and handler pools through their interfaces, and knows no sockets.

mod app;
mod app_start;
mod apps;
mod board_watcher;
mod calls;
mod candidate;
mod completions;
mod engine;
mod failure_notice;
mod follower;
mod in_flight;
mod lease_holder;
mod loaded_release;
mod lookup;
mod partition;
mod patches;
mod presence;
mod refused_clients;
mod release_stats;
mod retry_schedule;
mod rollouts;
mod scheduler;
mod settings;
mod setup;
#[cfg(test)]
mod tests;
mod webhooks;

use std::sync::Arc;

use anyhow::{Context, Result};
use parking_lot::RwLock;
use tracing::info;

use self::apps::Apps;
pub use self::engine::{compiler, engine_settings};
use self::lease_holder::LeaseHolder;
use self::rollouts::Rollouts;
pub use self::settings::{AppNodeSettings, Retries};
pub use self::setup::{AppNodeSetup, AppSource, NativeApp};
pub use self::webhooks::{InvalidSecret, SigningSecret, WebhookEvent, WebhookSettings, Webhooks};
use plugnode_process::shutdown::Shutdown;
use plugnode_runtime::Engine;
use plugnode_transport::Transport;

/// A running app-node. It stops when the shutdown that it was started with begins. Clones are handles of the same one.
#[derive(Clone)]
pub struct AppNode {
    webhooks: Arc<RwLock<Webhooks>>,
}

impl AppNode {
    /// Starts the release in use of every app, joins the transport and begins to handle events. An app without releases gets
    /// its first from the component in its settings. An app-node that loses its place in the cluster joins again; its apps keep
    /// running.
    ///
    /// # Errors
    /// If a component cannot be loaded or started, or the transport cannot be joined.
    pub async fn start(setup: AppNodeSetup, engine: Engine, transport: Transport, shutdown: &Shutdown) -> Result<Self> {
        let webhooks = Arc::new(RwLock::new(setup.webhooks));
        let mut apps = Apps::new(transport.nodes.lease_health(), transport.key_value.clone());
        for source in setup.apps {
            let namespace = source.settings.namespace.clone();
            let app = app_start::start(source, setup.settings.kept_releases, &transport, &engine, shutdown)
                .await
                .with_context(|| format!("app {namespace:?} cannot start"))?;
            let in_use = app.in_use();
            info!(app = %namespace, release = in_use.number, component = in_use.component.release(), "app started");
            apps.insert(app)?;
        }
        for app in setup.native {
            let namespace = app.settings.namespace.clone();
            let name = app.handler.name();
            let app = app_start::start_native(app, &engine, shutdown)
                .await
                .with_context(|| format!("app {namespace:?} cannot start"))?;
            info!(app = %namespace, handler = name, "native app started");
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
            .join_app(setup.name.clone())
            .await
            .context("cannot join the transport")?;
        Rollouts::start(
            setup.name.clone(),
            apps.clone(),
            transport.clone(),
            &engine,
            setup.partitions,
            board,
            shutdown,
        );
        let lease_holder = LeaseHolder {
            name: setup.name,
            transport,
            apps,
            retries: setup.settings.retries,
            webhooks: webhooks.clone(),
            shutdown: shutdown.clone(),
        };
        shutdown.spawn(lease_holder.run(leases));
        Ok(Self { webhooks })
    }

    /// Uses these webhooks from now on; attempts that are running go on as before. Returns whether any has changed.
    pub fn replace_webhooks(&self, new: Webhooks) -> bool {
        let mut webhooks = self.webhooks.write();
        let has_changed = *webhooks != new;
        if has_changed {
            *webhooks = new;
        }
        has_changed
    }
}
