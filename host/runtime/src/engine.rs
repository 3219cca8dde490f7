//! The one wasmtime engine of a process: loads components, interrupts long calls, and limits the number of instances.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use wasmtime::component::Linker;
use wasmtime::{EngineWeak, InstanceAllocationStrategy};

use crate::compile_cache::{CompileCache, CompileLock};
use crate::component::Component;
use crate::exports::HandlerPre;
use crate::instance_limit::InstanceLimit;
use crate::load_error::LoadError;
use crate::script::Script;
use crate::settings::{EngineSettings, Grants};
use crate::wasmtime_config::{config, pooling};
use crate::{capability, inspect};
use plugnode_release::Digest;

/// Length of an epoch. A handler that loops yields its thread at each epoch, and is stopped at the first one after its
/// deadline.
const EPOCH: Duration = Duration::from_millis(10);

/// Loads components, and owns the memory of their instances. One for each process; clones share it.
#[derive(Clone)]
pub struct Engine {
    wasmtime: wasmtime::Engine,
    cache: Arc<CompileCache>,
    instances: InstanceLimit,
}

impl Engine {
    /// Sets up wasmtime and opens the compile cache. Reserves address space for all instances; if the system refuses that,
    /// each instance allocates its own.
    ///
    /// # Errors
    /// When wasmtime does not work on this machine, or the cache directory cannot be used.
    pub fn new(settings: EngineSettings) -> Result<Self, LoadError> {
        // While a pool is replaced, the old instances, the new ones and those on trial exist at the same time.
        let max = settings.max_instances.max(1).saturating_mul(3).saturating_add(16);
        let mut config = config();
        config.allocation_strategy(pooling(max, settings.max_memory));
        let wasmtime = match wasmtime::Engine::new(&config) {
            Ok(engine) => engine,
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "cannot reserve memory for all instances; each allocates its own"
                );
                config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
                wasmtime::Engine::new(&config).map_err(|error| LoadError::Engine {
                    cause: format!("{error:#}"),
                })?
            }
        };
        start_epochs(wasmtime.weak())?;
        let cache = CompileCache::open(wasmtime.clone(), settings.cache.as_deref(), settings.compiler)?;
        Ok(Self {
            wasmtime,
            cache: Arc::new(cache),
            instances: InstanceLimit::new(max as usize),
        })
    }

    /// Loads a component: checks that it is a handler that can run with these grants, and compiles it unless it is in the
    /// cache. Works on blocking threads and in a child process; dropping the future stops the compiler.
    ///
    /// # Errors
    /// When the component cannot run here, with the reason and the remedy.
    pub async fn load(&self, bytes: Bytes, grants: &Grants) -> Result<Component, LoadError> {
        let granted = grants.clone();
        let inspected = off_thread(move || {
            let digest = Digest::of(&bytes);
            InspectedComponent::new(digest, bytes, &granted)
        });
        let inspected = inspected.await?;
        let compiled = self.cache.get(&inspected.code_digest, &inspected.code).await?;
        self.link(compiled, inspected, grants).await
    }

    /// Waits until no other process of this machine compiles this component, and prevents others from doing so. Check
    /// [`load_cached`](Self::load_cached) again afterwards; if it is still missing, call [`load_locked`](Self::load_locked).
    pub async fn lock_compilation(&self, digest: &Digest) -> Result<CompileLock, LoadError> {
        self.cache.lock(digest).await
    }

    /// Like [`load`](Self::load), for the holder of the compile lock and with a known digest.
    pub async fn load_locked(
        &self,
        digest: Digest,
        bytes: Bytes,
        grants: &Grants,
        lock: CompileLock,
    ) -> Result<Component, LoadError> {
        let granted = grants.clone();
        let inspected = off_thread(move || InspectedComponent::new(digest, bytes, &granted)).await?;
        let InspectedComponent { code, code_digest, .. } = &inspected;
        let compiled = match inspected.has_script {
            // The runtime has a lock of its own, since other scripts run in it too.
            true => self.cache.get(code_digest, code).await?,
            false => self.cache.compile(code_digest, code, lock).await?,
        };
        self.link(compiled, inspected, grants).await
    }

    /// Loads a component from the cache alone, without its bytes. None if it is not there or cannot run with these grants;
    /// [`load`](Self::load) then gives the reason.
    pub async fn load_cached(&self, digest: &Digest, grants: &Grants) -> Option<Component> {
        if let Some(cached) = self.cache.get_cached(digest).await {
            let inspected = InspectedComponent::from_cache(digest.clone());
            return self.link(cached, inspected, grants).await.ok();
        }
        // A component with a script is not cached under its own digest: its runtime is, and the script is in its bytes.
        let bytes = self.cache.bytes(digest).await?;
        let (digest, granted) = (digest.clone(), grants.clone());
        let inspected = off_thread(move || InspectedComponent::new(digest, bytes, &granted))
            .await
            .ok()?;
        let cached = self.cache.get_cached(&inspected.code_digest).await?;
        self.link(cached, inspected, grants).await.ok()
    }

    /// Stores the bytes of a component in the cache, within its bounds.
    pub async fn cache_bytes(&self, digest: &Digest, bytes: &Bytes) {
        self.cache.put_bytes(digest, bytes).await;
    }

    /// Whether the bytes of this component are in the cache.
    pub async fn has_cached_bytes(&self, digest: &Digest) -> bool {
        self.cache.has_bytes(digest).await
    }

    /// The bytes of a component, if they are in the cache.
    pub async fn cached_bytes(&self, digest: &Digest) -> Option<Bytes> {
        self.cache.bytes(digest).await
    }

    async fn link(
        &self,
        compiled: wasmtime::component::Component,
        inspected: InspectedComponent,
        grants: &Grants,
    ) -> Result<Component, LoadError> {
        let (engine, grants) = (self.wasmtime.clone(), grants.clone());
        off_thread(move || link(&engine, &compiled, inspected, &grants)).await
    }

    /// From now on compilers get only the processor time that event handling leaves. Before this call the start of the
    /// process waits for them, so they get an equal share.
    pub fn start_serving(&self) {
        self.cache.start_serving();
    }

    pub(crate) fn instance_limit(&self) -> &InstanceLimit {
        &self.instances
    }
}

/// A component that has passed inspection.
struct InspectedComponent {
    /// Digest of the whole component.
    digest: Digest,
    /// The part to compile: the whole component, or of a component with a script its runtime alone.
    code: Bytes,
    code_digest: Digest,
    script: Script,
    has_script: bool,
}

impl InspectedComponent {
    fn new(digest: Digest, bytes: Bytes, grants: &Grants) -> Result<Self, LoadError> {
        let split = Script::split(&bytes);
        inspect::check(&bytes, split.is_some(), grants)?;
        Ok(match split {
            Some((code, script)) => Self {
                digest,
                code_digest: Digest::of(&code),
                code,
                script,
                has_script: true,
            },
            None => Self {
                code: bytes,
                ..Self::from_cache(digest)
            },
        })
    }

    /// A component without a script that is in the cache, and so was inspected before.
    fn from_cache(digest: Digest) -> Self {
        Self {
            code: Bytes::new(),
            code_digest: digest.clone(),
            digest,
            script: Script::default(),
            has_script: false,
        }
    }
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> Result<T, LoadError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| LoadError::Engine {
        cause: format!("loading failed: {error}"),
    })?
}

fn link(
    engine: &wasmtime::Engine,
    component: &wasmtime::component::Component,
    inspected: InspectedComponent,
    grants: &Grants,
) -> Result<Component, LoadError> {
    let mut linker = Linker::new(engine);
    capability::link(&mut linker, grants, inspected.has_script).map_err(|error| LoadError::Engine {
        cause: format!("{error:#}"),
    })?;
    let mismatch = |error: wasmtime::Error| LoadError::Mismatch {
        cause: format!("{error:#}"),
        remedy: inspect::remedy_for_mismatch(&inspected.code),
    };
    let pre = linker.instantiate_pre(component).map_err(mismatch)?;
    let handler = HandlerPre::new(pre).map_err(mismatch)?;
    Ok(Component::wasm(handler, inspected.digest, inspected.script))
}

/// Starts the thread that increments the engine's epoch. It ends with the engine.
fn start_epochs(engine: EngineWeak) -> Result<(), LoadError> {
    let ticker = thread::Builder::new().name("wasm-epochs".to_owned());
    let ticking = ticker.spawn(move || {
        loop {
            thread::sleep(EPOCH);
            let Some(engine) = engine.upgrade() else { return };
            engine.increment_epoch();
        }
    });
    ticking.map(drop).map_err(|error| LoadError::Engine {
        cause: format!("cannot start the epoch thread: {error}"),
    })
}
