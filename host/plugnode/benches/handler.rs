//! Measures the runtime alone: one event through a warm instance, including its pool and commands, and the creation of an
//! instance.
//!
//! Runs the `echo` example, which publishes each message back to its client: `target/components/echo.wasm`, built by `make build`,
//! or `echo.wasm` in the folder PLUGNODE_COMPONENTS.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use plugnode::message::{
    Client, Event, EventId, EventKind, Handshake, KeyValue, KeyValueError, Partition, Payload, Text,
};
use plugnode::shutdown::Shutdown;
use plugnode_runtime::{
    AppSettings, Compiler, Component, Dispatch, Engine, EngineSettings, Grants, HandlerSettings, Job, Limits, Pool,
};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

criterion_group!(benches, message, instance);
criterion_main!(benches);

/// A message of 100 bytes to an instance that knows its client, and back.
fn message(criterion: &mut Criterion) {
    let runtime = runtime();
    let (engine, component) = runtime.block_on(load());
    let shutdown = Shutdown::new();
    let pool = runtime.block_on(start(&engine, &component, 1, &shutdown));
    let (done, mut handled) = mpsc::channel(1);
    let tasks = TaskTracker::new();
    let message = event(EventKind::Message {
        event: "echo".into(),
        args: Payload {
            json: format!("[{:?}]", "x".repeat(96)).into(),
            attachments: Vec::new(),
        },
        ack: None,
    });
    let mut sequence = 0;
    let mut job = |event: &Arc<Event>| {
        sequence += 1;
        let id = EventId {
            partition: Partition(0),
            sequence,
        };
        Job {
            id,
            attempt: 1,
            event: event.clone(),
            on_trial: None,
            done: done.clone(),
            token: tasks.token(),
        }
    };
    runtime.block_on(async {
        pool.submit(job(&event(EventKind::Connection(Box::new(handshake())))));
        handled.recv().await.expect("an outcome").result.expect("effects");
    });
    criterion.bench_function("message", |bencher| {
        bencher.iter_custom(|times| {
            runtime.block_on(async {
                let begin = Instant::now();
                for _ in 0..times {
                    pool.submit(job(&message));
                    let effects = handled.recv().await.expect("an outcome").result.expect("effects");
                    assert_eq!(effects.commands.len(), 1);
                }
                begin.elapsed()
            })
        });
    });
}

/// The creation and drop of an instance: the difference between pools of sixteen and of eight instances, divided by eight.
fn instance(criterion: &mut Criterion) {
    const MORE: usize = 8;
    let runtime = runtime();
    let (engine, component) = runtime.block_on(load());
    let shutdown = Shutdown::new();
    let pools = |size: usize, times: u64| {
        runtime.block_on(async {
            let begin = Instant::now();
            for _ in 0..times {
                let pool = start(&engine, &component, size, &shutdown).await;
                pool.retire();
                // The instances' tasks end and free their stores when they are polled next.
                for _ in 0..size {
                    tokio::task::yield_now().await;
                }
            }
            begin.elapsed()
        })
    };
    criterion.bench_function("instance", |bencher| {
        bencher.iter_custom(|times| {
            let fewer = pools(MORE, times);
            let more = pools(2 * MORE, times);
            more.saturating_sub(fewer) / MORE as u32
        });
    });
}

/// A single thread, so that wake-ups of other threads are not measured.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

async fn load() -> (Engine, Component) {
    let components = std::env::var_os("PLUGNODE_COMPONENTS").map(PathBuf::from);
    let components =
        components.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/components").into());
    let path = components.join("echo.wasm");
    let bytes = std::fs::read(&path).unwrap_or_else(|error| {
        eprintln!("cannot read {}: {error}", path.display());
        eprintln!("build it with `make build`; or set PLUGNODE_COMPONENTS=target/wasm32-wasip2/release after");
        eprintln!("  cargo build --release --target wasm32-wasip2 -p echo");
        std::process::exit(1)
    });
    let settings = EngineSettings {
        max_instances: 64,
        max_memory: Limits::default().memory,
        cache: None,
        compiler: Compiler::InProcess,
    };
    let engine = Engine::new(settings).expect("an engine");
    let component = engine.load(bytes.into(), &Grants::default()).await.expect("a handler");
    (engine, component)
}

async fn start(engine: &Engine, component: &Component, instances: usize, shutdown: &Shutdown) -> Arc<Pool> {
    let settings = AppSettings {
        namespace: "/".into(),
        node: "bench".into(),
        handler: HandlerSettings {
            instances,
            max_instances: None,
            dispatch: Dispatch::RoundRobin,
            presence: Default::default(),
            admission: false,
            failure_acks: true,
            limits: Limits {
                time: Duration::from_secs(10),
                ..Limits::default()
            },
            grants: Grants::default(),
            config: BTreeMap::new(),
        },
        key_value: Arc::new(Empty),
    };
    Pool::start(engine, component.clone(), settings, shutdown)
        .await
        .expect("a pool")
}

fn event(kind: EventKind) -> Arc<Event> {
    let client = Client {
        id: "dSx1hPeqFBSPQVm4AAAB".into(),
        io_node: "io".into(),
        attributes: "{}".into(),
        patched: 0,
    };
    Arc::new(Event {
        namespace: "/".into(),
        client: Some(client),
        received_at_ms: 0,
        kind,
    })
}

fn handshake() -> Handshake {
    Handshake {
        auth: None,
        query: "EIO=4&transport=websocket".into(),
        headers: [].into(),
        remote_addr: None,
        transport: "websocket".into(),
        recovered: false,
    }
}

/// An empty key-value store.
struct Empty;

#[async_trait]
impl KeyValue for Empty {
    async fn get(&self, _bucket: &str, keys: &[Text], _most: usize) -> Result<Vec<Option<Bytes>>, KeyValueError> {
        Ok(vec![None; keys.len()])
    }

    async fn keys(
        &self,
        _bucket: &str,
        _prefix: &str,
        _cursor: u64,
        _most: usize,
    ) -> Result<(Vec<Text>, Option<u64>), KeyValueError> {
        Ok((Vec::new(), None))
    }

    async fn count(&self, _: &str) -> Result<u64, KeyValueError> {
        Ok(0)
    }

    async fn has_answered_since(&self, _: std::time::Instant) -> bool {
        true
    }
}
