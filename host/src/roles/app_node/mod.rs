//! The app-node: owns partitions, feeds their events to handler instances, commits what they do.
//!
//! From event to commit in one sentence: a lease's log gives events, each goes to the pool of its namespace's app, and
//! what the instance did is committed under the same lease. It knows transports by their promises and handlers by their
//! pools; of sockets it knows nothing.

mod ownership;
mod partition;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use tokio::sync::Mutex;
use tracing::{info, warn};

use self::ownership::Ownership;
use crate::message::{Namespace, NodeId, SessionId};
use crate::shutdown::Shutdown;
use crate::transport::Transport;
use crate::wasm::{AppSettings, Engine, Job, Pool};

/// What an app-node is told.
pub struct AppNodeSettings {
    /// Its name, unique in the cluster.
    pub name: NodeId,
    /// The apps it runs, each with the bytes of its component.
    pub apps: Vec<(AppSettings, Bytes)>,
    /// How events are tried.
    pub retries: Retries,
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

/// A running app-node.
pub struct AppNode {
    apps: Arc<Apps>,
    engine: Engine,
    shutdown: Shutdown,
}

impl AppNode {
    /// Loads every app, joins the transport and begins to handle events; stops when `shutdown` begins. An app-node that
    /// loses its place in the cluster joins anew, and its apps stay.
    ///
    /// # Errors
    /// When a component cannot be loaded or started, with the reason, and when the transport cannot be joined.
    pub async fn start(
        settings: AppNodeSettings,
        engine: Engine,
        transport: Arc<dyn Transport>,
        shutdown: &Shutdown,
    ) -> Result<Self> {
        let mut apps = HashMap::new();
        for (app, component) in settings.apps {
            let namespace = app.namespace.clone();
            let app = App::start(app, component, &engine, shutdown)
                .await
                .with_context(|| format!("app {namespace:?} cannot start"))?;
            info!(app = %namespace, release = app.pool().release(), "app started");
            apps.insert(namespace, app);
        }
        let store_away = AtomicBool::new(false);
        let apps = Arc::new(Apps { apps, store_away });
        let leases = transport
            .join_app(settings.name.clone())
            .await
            .context("cannot join the transport")?;
        let ownership = Ownership {
            name: settings.name,
            transport,
            apps: apps.clone(),
            retries: settings.retries,
            shutdown: shutdown.clone(),
        };
        shutdown.spawn(ownership.run(leases));
        Ok(Self {
            apps,
            engine,
            shutdown: shutdown.clone(),
        })
    }

    /// Puts another component in the place of a running one, between events, and returns its release. Events being
    /// handled are finished by the old one; all others go to the new.
    ///
    /// # Errors
    /// When there is no such app, or the component cannot be loaded or started; then the old one stays.
    pub async fn replace(&self, namespace: &Namespace, component: Bytes) -> Result<String> {
        let Some(app) = self.apps.apps.get(namespace) else {
            bail!("no app is bound to namespace {namespace:?}")
        };
        let release = app.replace(component, &self.engine, &self.shutdown).await?;
        info!(app = %namespace, release, "component replaced");
        Ok(release)
    }
}

/// Every app of this node, by its namespace.
struct Apps {
    apps: HashMap<Namespace, App>,
    /// Whether events wait for the key-value store.
    store_away: AtomicBool,
}

impl Apps {
    /// Hands an event to its app, or gives it back when there is none.
    fn submit(&self, job: Job) -> std::result::Result<(), Job> {
        match self.apps.get(&job.event.namespace) {
            Some(app) => {
                app.submit(job);
                Ok(())
            }
            None => Err(job),
        }
    }

    /// The release in use.
    fn release(&self, namespace: &Namespace) -> Option<String> {
        let app = self.apps.get(namespace)?;
        Some(app.pool().release().to_owned())
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
        self.apps.values().for_each(|app| drop(app.pool().retire()));
    }

    fn forget(&self, namespace: &Namespace, client: &SessionId) {
        if let Some(app) = self.apps.get(namespace) {
            app.pool().forget(namespace, client);
        }
    }
}

/// One app: its settings, and the pool of the generation in use.
struct App {
    settings: AppSettings,
    pool: RwLock<Arc<Pool>>,
    /// Held while a replacement is made, so that two at once come one after the other.
    replacing: Mutex<()>,
}

impl App {
    async fn start(settings: AppSettings, component: Bytes, engine: &Engine, shutdown: &Shutdown) -> Result<Self> {
        let component = engine.load(component, &settings.grants).await?;
        let pool = Pool::start(engine, component, settings.clone(), shutdown).await?;
        Ok(Self {
            settings,
            pool: RwLock::new(pool),
            replacing: Mutex::default(),
        })
    }

    fn pool(&self) -> Arc<Pool> {
        self.pool
            .read()
            .expect("nothing panics while it holds this lock")
            .clone()
    }

    /// Hands an event to the pool in use. The lock is held meanwhile, so that no event reaches a pool that retired.
    fn submit(&self, job: Job) {
        self.pool
            .read()
            .expect("nothing panics while it holds this lock")
            .submit(job);
    }

    async fn replace(&self, component: Bytes, engine: &Engine, shutdown: &Shutdown) -> Result<String> {
        let _one_at_a_time = self.replacing.lock().await;
        let component = engine.load(component, &self.settings.grants).await?;
        let new = Pool::start(engine, component, self.settings.clone(), shutdown).await?;
        let release = new.release().to_owned();
        let old = {
            let mut pool = self.pool.write().expect("nothing panics while it holds this lock");
            std::mem::replace(&mut *pool, new)
        };
        for job in old.retire() {
            self.submit(job);
        }
        Ok(release)
    }
}
