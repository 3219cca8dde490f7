//! The one wasmtime engine of a process: loads components, keeps time for all instances, and bounds how many live.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use wasmtime::component::Linker;
use wasmtime::{Config, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use super::artifacts::{Artifacts, Turn};
use super::exports::HandlerPre;
use super::load_error::LoadError;
use super::memory::{PARTS, TABLE_ELEMENTS};
use super::native::Native;
use super::script::Script;
use super::settings::{EngineSettings, Grants};
use super::{capability, inspect};
use plugnode_release::Digest;

/// How often running handlers are looked after: a handler that loops holds a thread no longer than this.
const TICK: Duration = Duration::from_millis(10);
/// Bytes of the native stack that a handler may use. An interpreter takes half a kilobyte and more for each call of a script.
const STACK: usize = 1 << 20;
/// Functions of a backtrace. A panic's own take the first ten.
const FRAMES: usize = 32;

/// Loads components and owns what their instances live in. One for a process; clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    wasmtime: wasmtime::Engine,
    artifacts: Arc<Artifacts>,
    room: Arc<Semaphore>,
    most: usize,
}

impl Engine {
    /// Sets up WebAssembly. Where the memory for all instances cannot be set aside at once, each takes its own later.
    pub fn new(settings: EngineSettings) -> Result<Self, LoadError> {
        // While a pool is replaced, the old instances, the new ones and those on trial live at the same time.
        let most = settings.max_instances.max(1).saturating_mul(3).saturating_add(16);
        let mut config = config();
        config.allocation_strategy(pooling(most, settings.max_memory));
        let wasmtime = match wasmtime::Engine::new(&config) {
            Ok(engine) => engine,
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "cannot set memory aside for all instances; each takes its own as it is made"
                );
                config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
                wasmtime::Engine::new(&config).map_err(|error| LoadError::Engine {
                    cause: format!("{error:#}"),
                })?
            }
        };
        tick(wasmtime.weak())?;
        let artifacts = Artifacts::open(wasmtime.clone(), settings.cache.as_deref(), settings.compiler)?;
        let most = most as usize;
        Ok(Self {
            wasmtime,
            artifacts: Arc::new(artifacts),
            room: Arc::new(Semaphore::new(most)),
            most,
        })
    }

    /// Checks that these bytes are a handler which can run with these grants, and compiles it if it never was. All of it
    /// is off the async threads. Dropped before it is done, it ends the compiler that it has started.
    pub async fn load(&self, bytes: Bytes, grants: &Grants) -> Result<Component, LoadError> {
        let granted = grants.clone();
        let inspected = off_thread(move || {
            let digest = Digest::of(&bytes);
            Inspected::new(digest, bytes, &granted)
        });
        let inspected = inspected.await?;
        let compiled = self.artifacts.get(&inspected.code_digest, &inspected.code).await?;
        self.link(compiled, inspected, grants).await
    }

    /// Waits until no other process of this machine is making the component of this digest. By then it may be there; else
    /// [`load_in_turn`](Self::load_in_turn) makes it.
    pub async fn turn(&self, digest: &Digest) -> Result<Turn, LoadError> {
        self.artifacts.turn(digest).await
    }

    /// As [`load`](Self::load), of bytes whose digest is known, by who has the turn to make it.
    pub async fn load_in_turn(
        &self,
        digest: Digest,
        bytes: Bytes,
        grants: &Grants,
        turn: Turn,
    ) -> Result<Component, LoadError> {
        let granted = grants.clone();
        let inspected = off_thread(move || Inspected::new(digest, bytes, &granted)).await?;
        let Inspected { code, code_digest, .. } = &inspected;
        let compiled = match inspected.is_of_runtime {
            // The runtime has a turn of its own: other scripts run in it as well.
            true => self.artifacts.get(code_digest, code).await?,
            false => self.artifacts.make(code_digest, code, turn).await?,
        };
        self.link(compiled, inspected, grants).await
    }

    /// The component of this digest, if it was compiled before, which needs no bytes of it, and can run with these grants. Why
    /// it cannot is told by [`load`](Self::load).
    pub async fn load_kept(&self, digest: &Digest, grants: &Grants) -> Option<Component> {
        if let Some(kept) = self.artifacts.kept(digest).await {
            let inspected = Inspected::unread(digest.clone());
            return self.link(kept, inspected, grants).await.ok();
        }
        // A script is in the bytes alone.
        let bytes = self.artifacts.kept_bytes(digest).await?;
        let (digest, granted) = (digest.clone(), grants.clone());
        let inspected = off_thread(move || Inspected::new(digest, bytes, &granted)).await.ok()?;
        let kept = self.artifacts.kept(&inspected.code_digest).await?;
        self.link(kept, inspected, grants).await.ok()
    }

    /// Keeps the bytes of a component beside what was compiled of it, for as long as there is room.
    pub async fn keep_bytes(&self, digest: &Digest, bytes: &Bytes) {
        self.artifacts.keep_bytes(digest, bytes).await;
    }

    /// Whether the bytes of this component are kept.
    pub async fn keeps_bytes(&self, digest: &Digest) -> bool {
        self.artifacts.keeps_bytes(digest).await
    }

    /// The bytes of a component, if they are kept.
    pub async fn kept_bytes(&self, digest: &Digest) -> Option<Bytes> {
        self.artifacts.kept_bytes(digest).await
    }

    async fn link(
        &self,
        compiled: wasmtime::component::Component,
        inspected: Inspected,
        grants: &Grants,
    ) -> Result<Component, LoadError> {
        let (engine, grants) = (self.wasmtime.clone(), grants.clone());
        off_thread(move || link(&engine, &compiled, inspected, &grants)).await
    }

    /// Events come from now on: what is compiled takes no more of the processors than they leave. Until then whoever starts the
    /// process waits for it, and it takes its share.
    pub fn begin_to_serve(&self) {
        self.artifacts.begin_to_serve();
    }

    pub(super) fn room(&self) -> Room {
        Room {
            semaphore: self.room.clone(),
            most: self.most,
        }
    }
}

/// A component that was looked into, and may be compiled.
struct Inspected {
    /// Of all of it.
    digest: Digest,
    /// What there is to compile, and the digest of that. They are all of it unless there is a script.
    code: Bytes,
    code_digest: Digest,
    script: Script,
    /// Whether it is a script in a runtime, which other components have in common with it.
    is_of_runtime: bool,
}

impl Inspected {
    fn new(digest: Digest, bytes: Bytes, grants: &Grants) -> Result<Self, LoadError> {
        let split = Script::split(&bytes);
        inspect::check(&bytes, split.is_some(), grants)?;
        Ok(match split {
            Some((code, script)) => Self {
                digest,
                code_digest: Digest::of(&code),
                code,
                script,
                is_of_runtime: true,
            },
            None => Self {
                code: bytes,
                ..Self::unread(digest)
            },
        })
    }

    /// One without a script, that was compiled before.
    fn unread(digest: Digest) -> Self {
        Self {
            code: Bytes::new(),
            code_digest: digest.clone(),
            digest,
            script: Script::default(),
            is_of_runtime: false,
        }
    }
}

/// A handler, ready to be instantiated: a compiled component, or native Rust in the place of one. Clones are the same.
#[derive(Clone)]
pub struct Component {
    code: Code,
    digest: Digest,
    script: Script,
}

/// What a handler is made of.
#[derive(Clone)]
pub(super) enum Code {
    Wasm(HandlerPre),
    Native(Native),
}

impl Component {
    /// A handler in native Rust, which needs no engine to be loaded.
    pub fn native(native: Native) -> Self {
        Self {
            digest: Digest::of(native.name().as_bytes()),
            code: Code::Native(native),
            script: Script::default(),
        }
    }

    /// Whether it is native Rust.
    pub fn is_native(&self) -> bool {
        matches!(self.code, Code::Native(_))
    }

    /// The name of this build: the first 12 hexadecimal digits of its SHA-256. Of native Rust, that of its type's name.
    pub fn release(&self) -> &str {
        self.digest.short()
    }

    /// Its whole SHA-256, in hexadecimal.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The program that it runs, when it is a runtime.
    pub(super) fn script(&self) -> &Script {
        &self.script
    }

    pub(super) fn code(&self) -> &Code {
        &self.code
    }

    /// Whether its instances can save what they have in memory, and load it. Native Rust is replaced by another program only.
    pub(super) fn carries_state(&self) -> bool {
        match &self.code {
            Code::Wasm(pre) => pre.carries_state(),
            Code::Native(_) => false,
        }
    }
}

/// Where instances find their place among all that the engine allows.
#[derive(Debug, Clone)]
pub(super) struct Room {
    semaphore: Arc<Semaphore>,
    most: usize,
}

/// A place for one instance, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _permit: tokio::sync::OwnedSemaphorePermit,
}

impl Room {
    pub(super) fn take(&self) -> Result<Place, LoadError> {
        let permit = self
            .semaphore
            .clone()
            .try_acquire_owned()
            .map_err(|_| LoadError::Full { most: self.most })?;
        Ok(Place { _permit: permit })
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
    inspected: Inspected,
    grants: &Grants,
) -> Result<Component, LoadError> {
    let mut linker = Linker::new(engine);
    capability::link(&mut linker, grants, inspected.is_of_runtime).map_err(|error| LoadError::Engine {
        cause: format!("{error:#}"),
    })?;
    let mismatch = |error: wasmtime::Error| LoadError::Mismatch {
        cause: format!("{error:#}"),
        remedy: inspect::remedy_for_mismatch(&inspected.code),
    };
    let pre = linker.instantiate_pre(component).map_err(mismatch)?;
    let pre = HandlerPre::new(pre).map_err(mismatch)?;
    Ok(Component {
        code: Code::Wasm(pre),
        digest: inspected.digest,
        script: inspected.script,
    })
}

/// What machine code depends on. Whoever compiles and whoever runs must have it alike; how instances find their memory is
/// added for those who run.
pub(super) fn config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(STACK)
        .wasm_backtrace_max_frames(NonZeroUsize::new(FRAMES))
        // Names come from the component's name section. Lines would come from its DWARF, which wasmtime reads anew for
        // each frame of each trap, on the thread of the trap: 50 ms for one event that a client can send at will.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config
}

fn pooling(instances: u32, memory: usize) -> PoolingAllocationConfig {
    const PAGE: usize = 64 << 10;
    const STRUCTURES: usize = 4 << 20;
    const MEMORIES: u32 = 4;
    const TABLES: u32 = 8;
    let parts = PARTS as u32;
    let mut pooling = PoolingAllocationConfig::new();
    pooling
        .total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(parts))
        .total_memories(instances.saturating_mul(MEMORIES))
        .total_tables(instances.saturating_mul(TABLES))
        .total_stacks(instances)
        .max_core_instances_per_component(parts)
        .max_memories_per_component(parts)
        .max_tables_per_component(parts)
        .max_tables_per_module(parts)
        .max_component_instance_size(STRUCTURES)
        .max_core_instance_size(STRUCTURES)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(memory.next_multiple_of(PAGE).max(PAGE));
    pooling
}

/// Moves the engine's clock on, for as long as there is an engine.
fn tick(engine: EngineWeak) -> Result<(), LoadError> {
    let ticker = thread::Builder::new().name("wasm-clock".to_owned());
    let ticking = ticker.spawn(move || {
        loop {
            thread::sleep(TICK);
            let Some(engine) = engine.upgrade() else { return };
            engine.increment_epoch();
        }
    });
    ticking.map(drop).map_err(|error| LoadError::Engine {
        cause: format!("cannot start the clock: {error}"),
    })
}
