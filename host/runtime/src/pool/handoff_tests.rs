//! Hand-off between pools, with `examples/counter`, which counts in memory.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::OnceCell;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::*;
use crate::{Compiler, Component, Dispatch, EngineSettings, Failure, Grants, HandlerSettings, JobOutcome, Limits};
use plugnode_message::{Client, Command, Event, EventId, EventKind, KeyValue, KeyValueError, Partition, Payload, Text};
use plugnode_process::shutdown::Shutdown;

/// Far longer than any step takes.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a slow event takes.
const SLOW: Duration = Duration::from_millis(900);

/// Two releases of the same handler, and a handler without state.
struct Releases {
    engine: Engine,
    first: Component,
    second: Component,
    stateless: Component,
}

async fn releases() -> &'static Releases {
    static RELEASES: OnceCell<Releases> = OnceCell::const_new();
    RELEASES
        .get_or_init(|| async {
            let engine = Engine::new(EngineSettings {
                max_instances: 40,
                max_memory: 64 << 20,
                cache: None,
                compiler: Compiler::InProcess,
            })
            .expect("an engine");
            let counter = read("target/components/counter.wasm");
            // A custom section makes it another component.
            let mut other = counter.clone();
            other.extend([0, 2, 1, b'x']);
            let load = async |bytes: Vec<u8>| engine.load(bytes.into(), &Grants::default()).await.expect("it loads");
            Releases {
                first: load(counter).await,
                second: load(other).await,
                stateless: load(read("tests/fixtures/contract-0.1.0/echo.wasm")).await,
                engine: engine.clone(),
            }
        })
        .await
}

fn read(path: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; build it by `make test`", path.display()))
}

struct NoStore;

#[async_trait]
impl KeyValue for NoStore {
    async fn get(&self, _: &str, keys: &[Text], _: usize) -> Result<Vec<Option<Bytes>>, KeyValueError> {
        Ok(vec![None; keys.len()])
    }

    async fn keys(&self, _: &str, _: &str, _: u64, _: usize) -> Result<(Vec<Text>, Option<u64>), KeyValueError> {
        Ok((Vec::new(), None))
    }

    async fn count(&self, _: &str) -> Result<u64, KeyValueError> {
        Ok(0)
    }

    async fn has_answered_since(&self, _: std::time::Instant) -> bool {
        true
    }
}

fn settings(instances: usize, dispatch: Dispatch, config: &[(&str, &str)]) -> AppSettings {
    AppSettings {
        namespace: "/".into(),
        node: "app".into(),
        handler: HandlerSettings {
            instances,
            max_instances: None,
            dispatch,
            admission: false,
            failure_acks: true,
            presence: Default::default(),
            limits: Limits {
                time: SLOW * 2,
                ..Limits::default()
            },
            grants: Grants::default(),
            config: config
                .iter()
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
        },
        key_value: Arc::new(NoStore),
    }
}

/// The app of these tests: its current pool, and the channel for outcomes.
struct App {
    pool: Arc<Pool>,
    settings: AppSettings,
    shutdown: Shutdown,
    done: Sender<JobOutcome>,
    outcomes: Receiver<JobOutcome>,
    early: VecDeque<JobOutcome>,
    sequence: u64,
}

impl App {
    async fn start(settings: AppSettings) -> Self {
        let releases = releases().await;
        let shutdown = Shutdown::new();
        let pool = Pool::start(&releases.engine, releases.first.clone(), settings.clone(), &shutdown);
        let (done, outcomes) = mpsc::channel(1000);
        Self {
            pool: pool.await.expect("it starts"),
            settings,
            shutdown,
            done,
            outcomes,
            early: VecDeque::new(),
            sequence: 0,
        }
    }

    /// Prepares a successor and hands over to it.
    async fn swap(&mut self, component: &Component, config: &[(&str, &str)]) {
        let mut settings = self.settings.clone();
        settings.handler.config = config
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        let successor = Pool::prepare(&releases().await.engine, component.clone(), settings, &self.shutdown);
        let successor = successor.await.expect("it starts");
        for job in self.pool.hand_over(&successor) {
            successor.submit(job);
        }
        self.pool = successor;
    }

    fn submit(&mut self, client: &str, kind: EventKind) -> u64 {
        self.sequence += 1;
        self.pool.submit(job(self.sequence, client, kind, &self.done));
        self.sequence
    }

    /// Submits a slow event, and waits until the handler has started it.
    async fn say_slowly(&mut self, client: &str, args: &str) -> u64 {
        let sequence = self.say(client, "slow", args);
        while self.pool.backlog() > 0 {
            tokio::task::yield_now().await;
        }
        sequence
    }

    fn say(&mut self, client: &str, event: &str, args: &str) -> u64 {
        self.submit(client, message(event, args))
    }

    /// The outcome of an event.
    async fn outcome(&mut self, sequence: u64) -> JobOutcome {
        loop {
            let at = self.early.iter().position(|handled| handled.id.sequence == sequence);
            if let Some(handled) = at.and_then(|at| self.early.remove(at)) {
                return handled;
            }
            let next = timeout(TIMEOUT, self.outcomes.recv()).await;
            self.early.extend(next.expect("something is handled"));
        }
    }

    async fn connect(&mut self, client: &str) {
        let sequence = self.submit(client, connection());
        self.outcome(sequence).await.result.expect("it connects");
    }

    /// Submits an event, and returns what the handler emits.
    async fn ask(&mut self, client: &str) -> String {
        let sequence = self.say(client, "hi", "[]");
        said(&self.outcome(sequence).await)
    }

    async fn started(&self) {
        timeout(TIMEOUT, self.pool.started()).await.expect("every slot starts");
    }
}

fn job(sequence: u64, client: &str, kind: EventKind, done: &Sender<JobOutcome>) -> Job {
    let client = Client {
        id: client.into(),
        io_node: "io".into(),
        attributes: "{}".into(),
        patched: 0,
    };
    Job {
        id: EventId {
            partition: Partition(0),
            sequence,
        },
        attempt: 1,
        event: Arc::new(Event {
            namespace: "/".into(),
            client: Some(client),
            received_at_ms: 0,
            kind,
        }),
        on_trial: None,
        done: done.clone(),
        token: TaskTracker::new().token(),
    }
}

fn connection() -> EventKind {
    EventKind::Connection(Box::new(plugnode_message::Handshake {
        auth: None,
        query: "".into(),
        headers: [].into(),
        remote_addr: None,
        transport: "websocket".into(),
        recovered: false,
    }))
}

fn message(event: &str, args: &str) -> EventKind {
    EventKind::Message {
        event: event.into(),
        args: Payload {
            json: args.into(),
            attachments: Vec::new(),
        },
        ack: None,
    }
}

/// The events that the handler emitted, such as `anew[0] count[1]`.
fn said(handled: &JobOutcome) -> String {
    let effects = handled.result.as_ref().expect("it is handled");
    let events = effects.commands.iter().map(|command| match command {
        Command::Publish { event, args, .. } => format!("{event}{}", args.json),
        other => panic!("{other:?}"),
    });
    events.collect::<Vec<_>>().join(" ")
}

/// One instance that has counted to 2, replaced by the second release with this configuration.
async fn replaced(old: &[(&str, &str)], new: &[(&str, &str)], snapshot: usize) -> App {
    let mut settings = settings(1, Dispatch::RoundRobin, old);
    settings.handler.limits.snapshot = snapshot;
    let mut app = App::start(settings).await;
    app.connect("ada").await;
    assert_eq!(app.ask("ada").await, "count[1]");
    assert_eq!(app.ask("ada").await, "count[2]");
    app.swap(&releases().await.second, new).await;
    app.started().await;
    app
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_is_handed_over_and_clients_are_not_introduced_again() {
    let mut app = App::start(settings(2, Dispatch::Sticky, &[])).await;
    for client in ["ada", "bob", "cyd", "dee"] {
        app.connect(client).await;
        assert_eq!(app.ask(client).await, "count[1]");
    }
    for round in 2..6 {
        let releases = releases().await;
        let component = [&releases.second, &releases.first][round % 2];
        app.swap(component, &[]).await;
        for client in ["ada", "bob", "cyd", "dee"] {
            let sequence = app.say(client, "hi", "[]");
            let handled = app.outcome(sequence).await;
            assert_eq!(
                (said(&handled), &*handled.release),
                (format!("count[{round}]"), component.release())
            );
            assert!(handled.took > Duration::ZERO);
        }
    }
    app.started().await;
    assert!(app.pool.states_refused().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_late_or_large_state_is_dropped() {
    const ENOUGH: usize = 1 << 20;
    for (old, new, snapshot, reason) in [
        ([("save", "refuse")], [("x", "")], ENOUGH, "save: asked to refuse"),
        ([("save", "panic")], [("x", "")], ENOUGH, "save: "),
        (
            [("save", "loop")],
            [("x", "")],
            ENOUGH,
            "save: time limit of 1.8s reached",
        ),
        (
            [("x", "")],
            [("x", "")],
            12,
            "save: a state of 18 bytes is larger than the limit of 12 bytes",
        ),
        ([("x", "")], [("load", "refuse")], ENOUGH, "load: asked to refuse"),
        ([("x", "")], [("load", "panic")], ENOUGH, "load: "),
        (
            [("x", "")],
            [("load", "loop")],
            ENOUGH,
            "load: time limit of 1.8s reached",
        ),
    ] {
        let mut app = replaced(&old, &new, snapshot).await;
        let refused = app.pool.states_refused();
        let expected = format!("instance 0: {reason}");
        assert!(
            matches!(&refused[..], [only] if only.starts_with(&expected)),
            "{reason}: {refused:?}"
        );
        assert_eq!(app.ask("ada").await, "anew[0] count[1]", "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn release_that_does_not_start_replaces_nothing() {
    let mut app = App::start(settings(1, Dispatch::RoundRobin, &[])).await;
    app.connect("ada").await;
    let releases = releases().await;
    let refusing = settings(1, Dispatch::RoundRobin, &[("start", "refuse")]);
    let successor = Pool::prepare(&releases.engine, releases.second.clone(), refusing, &app.shutdown).await;
    let error = successor.err().expect("it does not start").to_string();
    assert!(
        error.ends_with("its start function refused: asked to refuse"),
        "{error}"
    );
    assert_eq!(app.ask("ada").await, "count[1]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_event_delays_only_its_own_slot_at_handoff() {
    let mut app = App::start(settings(2, Dispatch::RoundRobin, &[])).await;
    let releases = releases().await;
    for client in ["ada", "bob"] {
        app.connect(client).await;
    }
    let slow = app.say_slowly("ada", "[900]").await;
    let begun = Instant::now();
    app.swap(&releases.second, &[]).await;
    for _ in 0..5 {
        let sequence = app.say("bob", "hi", "[]");
        assert_eq!(&*app.outcome(sequence).await.release, releases.second.release());
    }
    assert!(
        begun.elapsed() < SLOW,
        "the slow event held others back: {:?}",
        begun.elapsed()
    );
    let handled = app.outcome(slow).await;
    assert_eq!(&*handled.release, releases.first.release());
    assert!(handled.took >= SLOW);
    app.started().await;
    assert!(app.pool.states_refused().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_wait_until_their_slot_has_its_state() {
    let mut app = App::start(settings(2, Dispatch::Sticky, &[])).await;
    let releases = releases().await;
    // Some of these are in ada's slot, and some in the other.
    let others = ["bob", "cyd", "dee", "eve", "fay", "gil"];
    for client in others.iter().chain(&["ada"]) {
        app.connect(client).await;
    }
    let slow = app.say_slowly("ada", "[900]").await;
    app.swap(&releases.second, &[]).await;
    let waiting: Vec<_> = others.iter().map(|client| app.say(client, "hi", "[]")).collect();
    assert_eq!(said(&app.outcome(slow).await), "count[1]");
    let before_ada = app.early.len();
    assert!(before_ada > 0, "all clients waited for ada");
    assert!(before_ada < others.len(), "no client waited for ada's slot");
    for sequence in waiting {
        assert_eq!(said(&app.outcome(sequence).await), "count[1]");
    }
    assert_eq!(app.ask("ada").await, "count[2]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_passes_through_successor_replaced_before_start() {
    let mut app = App::start(settings(1, Dispatch::RoundRobin, &[])).await;
    let releases = releases().await;
    app.connect("ada").await;
    assert_eq!(app.ask("ada").await, "count[1]");
    let slow = app.say_slowly("ada", "[300]").await;
    app.swap(&releases.second, &[]).await;
    app.swap(&releases.first, &[]).await;
    app.swap(&releases.second, &[]).await;
    assert_eq!(said(&app.outcome(slow).await), "count[2]");
    assert_eq!(app.ask("ada").await, "count[3]");
    assert!(app.pool.states_refused().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn component_without_state_starts_at_once() {
    let mut app = App::start(settings(1, Dispatch::RoundRobin, &[])).await;
    let releases = releases().await;
    app.connect("ada").await;
    app.connect("bob").await;
    let slow = app.say_slowly("ada", "[900]").await;
    let begun = Instant::now();
    app.swap(&releases.stateless, &[]).await;
    assert_eq!(app.ask("bob").await, "hi[]");
    assert!(begun.elapsed() < SLOW, "{:?}", begun.elapsed());
    assert_eq!(said(&app.outcome(slow).await), "count[1]");
    app.swap(&releases.second, &[]).await;
    assert_eq!(app.ask("ada").await, "anew[0] count[1]");
    assert!(app.pool.states_refused().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trapped_instance_hands_over_no_state() {
    let mut app = App::start(settings(1, Dispatch::RoundRobin, &[])).await;
    app.connect("ada").await;
    let panic = app.say("ada", "panic", "[]");
    assert!(matches!(app.outcome(panic).await.result, Err(Failure::Trap(_))));
    app.swap(&releases().await.second, &[]).await;
    assert_eq!(app.ask("ada").await, "anew[0] count[1]");
    assert!(app.pool.states_refused().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prepared_pool_handles_queued_events_only_after_handoff() {
    let releases = releases().await;
    let mut app = App::start(settings(2, Dispatch::RoundRobin, &[])).await;
    let successor = Pool::prepare(
        &releases.engine,
        releases.second.clone(),
        app.settings.clone(),
        &app.shutdown,
    );
    let old = std::mem::replace(&mut app.pool, successor.await.expect("it starts"));
    let early = app.submit("ada", connection());
    let outcome = timeout(Duration::from_millis(200), app.outcomes.recv()).await;
    assert!(outcome.is_err(), "it was handled: {outcome:?}");
    assert!(old.hand_over(&app.pool).is_empty());
    assert_eq!(&*app.outcome(early).await.release, releases.second.release());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_pools_end() {
    let releases = releases().await;
    let app = App::start(settings(2, Dispatch::RoundRobin, &[])).await;
    let prepare = || {
        Pool::prepare(
            &releases.engine,
            releases.second.clone(),
            app.settings.clone(),
            &app.shutdown,
        )
    };
    // One never took over, one took over from a pool that never did, and one had started before.
    drop(prepare().await.expect("it starts"));
    let (first, second) = (prepare().await.expect("it starts"), prepare().await.expect("it starts"));
    first.hand_over(&second);
    timeout(TIMEOUT, second.started()).await.expect("it starts");
    app.pool.hand_over(&second);
    assert_eq!(second.states_refused().len(), 2, "{:?}", second.states_refused());
    drop((first, second));
    app.shutdown.begin();
    assert!(app.shutdown.drained(TIMEOUT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_handoffs_keep_events_once_and_in_order() {
    const CLIENTS: usize = 8;
    const EVENTS: u64 = 10_000;
    let releases = releases().await;
    let settings = settings(4, Dispatch::Sticky, &[]);
    let shutdown = Shutdown::new();
    let first = Pool::start(&releases.engine, releases.first.clone(), settings.clone(), &shutdown);
    let pool = Arc::new(Mutex::new(first.await.expect("it starts")));
    let replacing = tokio::spawn({
        let (pool, shutdown) = (pool.clone(), shutdown.clone());
        async move {
            for round in 0..12 {
                let component = [&releases.second, &releases.first][round % 2].clone();
                let successor = Pool::prepare(&releases.engine, component, settings.clone(), &shutdown).await;
                let successor = successor.expect("it starts");
                take_over(&pool, successor);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    let submit = |job| pool.lock().expect("no task panics").submit(job);
    let (done, mut outcomes) = mpsc::channel(CLIENTS * 2);
    let name = |client: u64| format!("client {client}");
    for client in 0..CLIENTS as u64 {
        submit(job(client, &name(client), connection(), &done));
    }
    let mut counts = BTreeMap::<u64, u64>::new();
    let mut handled_by = BTreeMap::<Arc<str>, u64>::new();
    let mut ended = 0;
    while ended < EVENTS || !replacing.is_finished() {
        let handled = timeout(TIMEOUT, outcomes.recv())
            .await
            .expect("something is handled")
            .expect("it is open");
        let client = handled.id.sequence % CLIENTS as u64;
        if let Some(count) = counts.get(&client) {
            assert_eq!(said(&handled), format!("count[{}]", count + 1), "{}", handled.id);
        }
        counts.entry(client).and_modify(|count| *count += 1).or_default();
        *handled_by.entry(handled.release.clone()).or_default() += 1;
        ended += 1;
        // The number of the client's next event tells which client it is from.
        let sequence = handled.id.sequence + CLIENTS as u64;
        submit(job(sequence, &name(client), message("hi", "[]"), &done));
    }
    replacing.await.expect("every release takes over");
    assert!(
        handled_by.len() == 2 && handled_by.values().all(|count| *count > 100),
        "{handled_by:?}"
    );
}

/// Replaces the pool as the app-node does: under the lock that each submit takes.
fn take_over(pool: &Mutex<Arc<Pool>>, successor: Arc<Pool>) {
    let mut pool = pool.lock().expect("no task panics");
    assert!(pool.states_refused().is_empty(), "{:?}", pool.states_refused());
    for job in pool.hand_over(&successor) {
        successor.submit(job);
    }
    *pool = successor;
}
