//! An app-node over the memory transport that loses partitions, is declared dead, or cannot read the key-value store.
//!
//! It runs the example `faulty`, `target/components/faulty.wasm`.

mod commands;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use bytes::Bytes;

use super::*;
use plugnode_message::{
    AckId, AttributePatch, Client, Command, DisconnectReason, Event, EventId, EventKind, Fired, Handshake, KeyValue,
    KeyValueError, NodeId, Partition, Payload, Text,
};
use plugnode_runtime::{AppSettings, Compiler, Dispatch, EngineSettings, Grants, HandlerSettings, Limits};
use plugnode_transport::{
    Commits, ConflictedOutcome, DeadLetters, Delivery, Events, IoNode, IoSession, Lease, Leases, Log, Memory, Outcome,
    Result as Answer, Transport, TransportError, TransportSettings, Verdict,
};

const SOON: Duration = Duration::from_secs(20);
const TIME: Duration = Duration::from_millis(400);

/// How the store answers.
#[derive(Clone, Copy, PartialEq)]
enum StoreMode {
    Normal,
    Slow,
    Failing,
    Hanging,
    /// As `Hanging`, but other nodes get answers.
    Overloaded,
}

/// The key-value store of the memory transport in one of these modes. It counts reads.
struct Store {
    memory: Memory,
    mode: StdMutex<StoreMode>,
    changed: Notify,
    running_reads: AtomicUsize,
    max_running_reads: AtomicUsize,
    reads: AtomicUsize,
}

impl Store {
    fn new(memory: &Memory, mode: StoreMode) -> Arc<Self> {
        Arc::new(Self {
            memory: memory.clone(),
            mode: StdMutex::new(mode),
            changed: Notify::new(),
            running_reads: AtomicUsize::new(0),
            max_running_reads: AtomicUsize::new(0),
            reads: AtomicUsize::new(0),
        })
    }

    fn mode(&self) -> StoreMode {
        *self.mode.lock().unwrap()
    }

    fn set(&self, mode: StoreMode) {
        *self.mode.lock().unwrap() = mode;
        self.changed.notify_waiters();
    }

    async fn wait_for_reads(&self, count: usize) {
        let read = async {
            while self.reads.load(Ordering::SeqCst) < count {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(SOON, read).await.expect("the store is read");
    }
}

/// Counts a read as running, also one that is cancelled.
struct RunningRead<'a>(&'a Store);

impl<'a> RunningRead<'a> {
    fn begin(store: &'a Store) -> Self {
        let running = store.running_reads.fetch_add(1, Ordering::SeqCst) + 1;
        store.max_running_reads.fetch_max(running, Ordering::SeqCst);
        store.reads.fetch_add(1, Ordering::SeqCst);
        Self(store)
    }
}

impl Drop for RunningRead<'_> {
    fn drop(&mut self) {
        self.0.running_reads.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl KeyValue for Store {
    async fn get(&self, bucket: &str, keys: &[Text], most: usize) -> Result<Vec<Option<Bytes>>, KeyValueError> {
        let _running = RunningRead::begin(self);
        match self.mode() {
            StoreMode::Normal => {}
            StoreMode::Slow => sleep(TIME / 4).await,
            StoreMode::Failing => return Err(KeyValueError::Unavailable("it is away".into())),
            StoreMode::Hanging | StoreMode::Overloaded => loop {
                let changed = self.changed.notified();
                if !matches!(self.mode(), StoreMode::Hanging | StoreMode::Overloaded) {
                    break;
                }
                changed.await;
            },
        }
        self.memory.get(bucket, keys, most).await
    }

    async fn keys(
        &self,
        bucket: &str,
        prefix: &str,
        cursor: u64,
        most: usize,
    ) -> Result<(Vec<Text>, Option<u64>), KeyValueError> {
        self.memory.keys(bucket, prefix, cursor, most).await
    }

    async fn count(&self, bucket: &str) -> Result<u64, KeyValueError> {
        self.memory.count(bucket).await
    }

    async fn has_answered_since(&self, _: std::time::Instant) -> bool {
        !matches!(self.mode(), StoreMode::Failing | StoreMode::Hanging)
    }
}

async fn start(transport: Transport, store: Arc<Store>, shutdown: &Shutdown) -> AppNode {
    start_with(|_| {}, transport, store, shutdown).await
}

/// With other settings of its app.
async fn start_with(
    set: impl FnOnce(&mut AppSettings),
    transport: Transport,
    store: Arc<Store>,
    shutdown: &Shutdown,
) -> AppNode {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/components/faulty.wasm");
    let component =
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; build it by `make test`", path.display()));
    let mut app = AppSettings {
        namespace: "/".into(),
        node: "app".into(),
        handler: HandlerSettings {
            instances: 4,
            max_instances: None,
            dispatch: Dispatch::RoundRobin,
            admission: false,
            failure_acks: true,
            limits: Limits {
                time: TIME,
                ..Limits::default()
            },
            grants: Grants {
                keyvalue: vec!["default".into()],
                http: Vec::new(),
            },
            config: BTreeMap::new(),
            presence: Default::default(),
        },
        key_value: store,
    };
    set(&mut app);
    let engine = Engine::new(EngineSettings {
        max_instances: 8,
        max_memory: 64 << 20,
        cache: None,
        compiler: Compiler::InProcess,
    });
    let settings = AppNodeSetup {
        name: "app".into(),
        apps: vec![AppSource {
            settings: app,
            file: "faulty.wasm".into(),
            component: Ok(component.into()),
        }],
        native: Vec::new(),
        webhooks: Webhooks::default(),
        partitions: 4,
        settings: AppNodeSettings {
            kept_releases: 10,
            // Each failed attempt that counts makes a dead letter.
            retries: Retries {
                attempts: 1,
                delay: Duration::ZERO,
            },
            ..AppNodeSettings::default()
        },
    };
    AppNode::start(settings, engine.unwrap(), transport, shutdown)
        .await
        .unwrap()
}

fn memory() -> Memory {
    Memory::new(TransportSettings {
        partitions: 1,
        ..TransportSettings::default()
    })
}

async fn join_io(memory: &Memory) -> IoSession {
    memory.join_io(IoNode::without_address("io")).await.unwrap()
}

fn event(client: &str, kind: EventKind) -> Event {
    Event {
        namespace: "/".into(),
        client: Some(Client {
            id: client.into(),
            io_node: "io".into(),
            attributes: "{}".into(),
            patched: 0,
        }),
        received_at_ms: 0,
        kind,
    }
}

fn connection(client: &str) -> Event {
    let handshake = Handshake {
        auth: None,
        query: "".into(),
        headers: [].into(),
        remote_addr: None,
        transport: "websocket".into(),
        recovered: false,
    };
    event(client, EventKind::Connection(Box::new(handshake)))
}

fn message(client: &str, name: &str, number: i64) -> Event {
    let ack = AckId {
        namespace: "/".into(),
        client: client.into(),
        number,
    };
    let args = Payload {
        json: "[]".into(),
        attachments: Vec::new(),
    };
    event(
        client,
        EventKind::Message {
            event: name.into(),
            args,
            ack: Some(ack),
        },
    )
}

/// The next acknowledgements, as number and arguments.
async fn acks(session: &mut IoSession, count: usize) -> Vec<(i64, String)> {
    let mut acks = Vec::new();
    while acks.len() < count {
        let commands = timeout(SOON, session.outbox.next())
            .await
            .expect("commands come")
            .unwrap();
        acks.extend(commands.into_iter().filter_map(|command| match command {
            Command::Ack { id, args } => Some((id.number, args.json.to_string())),
            _ => None,
        }));
    }
    acks
}

async fn end(shutdown: Shutdown) {
    shutdown.begin();
    assert!(shutdown.drained(SOON).await, "all tasks end");
}

#[tokio::test]
async fn fenced_app_node_joins_again() {
    let memory = memory();
    let mut io = join_io(&memory).await;
    let shutdown = Shutdown::new();
    let store = Store::new(&memory, StoreMode::Normal);
    let _app_node = start(memory.clone().into(), store, &shutdown).await;
    io.inbox
        .ingest(vec![connection("a"), message("a", "count", 1)])
        .await
        .unwrap();
    assert_eq!(acks(&mut io, 1).await, [(1, "[1]".into())]);
    for number in 2..5 {
        // Another node of the same name joins, which fences this one, and leaves.
        drop(memory.join_app("app".into()).await.unwrap());
        io.inbox.ingest(vec![message("a", "count", number)]).await.unwrap();
        assert_eq!(acks(&mut io, 1).await, [(number, format!("[{number}]"))]);
    }
    end(shutdown).await;
}

#[tokio::test]
async fn events_wait_while_store_is_unavailable() {
    let memory = memory();
    let mut io = join_io(&memory).await;
    let shutdown = Shutdown::new();
    let store = Store::new(&memory, StoreMode::Normal);
    let _app_node = start(memory.clone().into(), store.clone(), &shutdown).await;
    io.inbox.ingest(vec![connection("a")]).await.unwrap();
    let mut number = 0;
    for mode in [StoreMode::Failing, StoreMode::Hanging, StoreMode::Failing] {
        store.set(mode);
        let reads = store.reads.load(Ordering::SeqCst);
        let events = (number + 1..=number + 3).map(|number| message("a", "count", number));
        io.inbox.ingest(events.collect()).await.unwrap();
        store.wait_for_reads(reads + 3).await;
        store.set(StoreMode::Normal);
        let expected: Vec<_> = (number + 1..=number + 3)
            .map(|number| (number, format!("[{number}]")))
            .collect();
        assert_eq!(acks(&mut io, 3).await, expected, "in order, each once");
        number += 3;
    }
    assert!(memory.dead_letters(10).await.unwrap().is_empty());
    // A failure of the handler itself still counts.
    io.inbox
        .ingest(vec![message("a", "loop", 100), message("a", "where", 101)])
        .await
        .unwrap();
    let [failed, (number, answer)] = &acks(&mut io, 2).await[..] else {
        panic!("two are answered");
    };
    assert_eq!((failed.0, *number), (100, 101));
    assert!(failed.1.contains(r#""code":"failed""#), "{failed:?}");
    assert!(answer.contains(r#""attempt":1"#), "{answer}");
    let dead = memory.dead_letters(10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert!(dead[0].cause.reason.contains("time limit"), "{:?}", dead[0].cause);
    end(shutdown).await;
}

#[tokio::test]
async fn event_fails_if_reads_exceed_time_limit() {
    let memory = memory();
    let mut io = join_io(&memory).await;
    let shutdown = Shutdown::new();
    let store = Store::new(&memory, StoreMode::Overloaded);
    let _app_node = start(memory.clone().into(), store, &shutdown).await;
    io.inbox
        .ingest(vec![
            connection("a"),
            message("a", "count", 1),
            message("a", "where", 2),
        ])
        .await
        .unwrap();
    let answers = acks(&mut io, 2).await;
    assert_eq!(answers.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2]);
    assert!(answers[0].1.contains("failed"), "{answers:?}");
    let dead = memory.dead_letters(10).await.unwrap();
    assert_eq!(dead.len(), 1);
    let reason = &dead[0].cause.reason;
    assert!(
        reason.contains("the event reads too much for its time limit"),
        "{reason}"
    );
    end(shutdown).await;
}

#[tokio::test]
async fn event_is_handled_again_after_conflict() {
    const CLIENTS: i64 = 8;
    let memory = Memory::new(TransportSettings {
        partitions: 4,
        ..TransportSettings::default()
    });
    let mut io = join_io(&memory).await;
    let shutdown = Shutdown::new();
    let store = Store::new(&memory, StoreMode::Slow);
    let _app_node = start(memory.clone().into(), store.clone(), &shutdown).await;
    let names: Vec<String> = (0..CLIENTS).map(|number| format!("client-{number}")).collect();
    io.inbox
        .ingest(names.iter().map(|name| connection(name)).collect())
        .await
        .unwrap();
    let mut events: Vec<Event> = names
        .iter()
        .zip(0..)
        .map(|(name, number)| message(name, "tally", number))
        .collect();
    for event in &mut events {
        let EventKind::Message { args, .. } = &mut event.kind else {
            unreachable!()
        };
        args.json = r#"["shared"]"#.into();
    }
    io.inbox.ingest(events).await.unwrap();
    let mut counts: Vec<String> = acks(&mut io, CLIENTS as usize)
        .await
        .into_iter()
        .map(|(_, args)| args)
        .collect();
    counts.sort_unstable();
    let expected: Vec<String> = (1..=CLIENTS).map(|count| format!("[{count}]")).collect();
    assert_eq!(counts, expected);
    assert!(
        store.reads.load(Ordering::SeqCst) > CLIENTS as usize,
        "some events read again"
    );
    assert!(memory.dead_letters(10).await.unwrap().is_empty());
    end(shutdown).await;
}

#[tokio::test]
async fn stops_while_store_is_unavailable() {
    let memory = memory();
    let io = join_io(&memory).await;
    let shutdown = Shutdown::new();
    let store = Store::new(&memory, StoreMode::Hanging);
    let _app_node = start(memory.clone().into(), store.clone(), &shutdown).await;
    io.inbox
        .ingest(vec![connection("a"), message("a", "count", 1)])
        .await
        .unwrap();
    store.wait_for_reads(2).await;
    end(shutdown).await;
    // The event is left to the next owner.
    let mut leases = memory.join_app("other".into()).await.unwrap();
    let mut lease = leases.next().await.unwrap();
    let left = lease.log.next().await.unwrap().unwrap();
    assert_eq!(left.len(), 1);
}

/// A transport whose leases a test makes.
struct ScriptedEvents {
    memory: Memory,
    leases: StdMutex<Option<mpsc::UnboundedReceiver<Lease>>>,
}

#[async_trait]
impl Events for ScriptedEvents {
    async fn join_io(&self, node: IoNode) -> Answer<IoSession> {
        self.memory.join_io(node).await
    }

    async fn join_app(&self, _: NodeId) -> Answer<Box<dyn Leases>> {
        let leases = self.leases.lock().unwrap().take();
        Ok(Box::new(ScriptedLeases(leases.expect("it joins once"))))
    }
}

struct ScriptedLeases(mpsc::UnboundedReceiver<Lease>);

#[async_trait]
impl Leases for ScriptedLeases {
    async fn next(&mut self) -> Answer<Lease> {
        match self.0.recv().await {
            Some(lease) => Ok(lease),
            None => std::future::pending().await,
        }
    }
}

/// Delivers these events once.
struct ScriptedLog(Option<Vec<Delivery>>);

#[async_trait]
impl Log for ScriptedLog {
    async fn next(&mut self) -> Answer<Option<Vec<Delivery>>> {
        match self.0.take() {
            Some(deliveries) => Ok(Some(deliveries)),
            None => std::future::pending().await,
        }
    }
}

/// Reports what is committed, or fails because the lease is fenced. Each call needs a permit.
struct ScriptedCommits {
    fenced: bool,
    committed: mpsc::UnboundedSender<Outcome>,
    permits: Arc<Semaphore>,
}

#[async_trait]
impl Commits for ScriptedCommits {
    async fn commit(&self, outcomes: Vec<Outcome>) -> Answer<Vec<ConflictedOutcome>> {
        if self.fenced {
            return Err(TransportError::Fenced);
        }
        self.permits.acquire().await.unwrap().forget();
        outcomes
            .into_iter()
            .for_each(|outcome| self.committed.send(outcome).unwrap());
        Ok(Vec::new())
    }
}

/// Starts an app-node that gets the leases that are sent.
async fn start_scripted(mode: StoreMode, shutdown: &Shutdown) -> (mpsc::UnboundedSender<Lease>, Arc<Store>) {
    let memory = memory();
    let (leases, next) = mpsc::unbounded_channel();
    let transport = Arc::new(ScriptedEvents {
        memory: memory.clone(),
        leases: StdMutex::new(Some(next)),
    });
    let store = Store::new(&memory, mode);
    let transport = Transport {
        events: transport,
        ..memory.into()
    };
    start(transport, store.clone(), shutdown).await;
    (leases, store)
}

/// A lease with these events, whose commits need permits.
fn lease(
    fenced: bool,
    events: Vec<(u64, Event)>,
    committed: &mpsc::UnboundedSender<Outcome>,
    permits: &Arc<Semaphore>,
) -> Lease {
    let partition = Partition(0);
    let deliver = |(sequence, event)| Delivery {
        id: EventId { partition, sequence },
        event: Arc::new(event),
        attempts: 0,
    };
    Lease {
        partition,
        log: Box::new(ScriptedLog(Some(events.into_iter().map(deliver).collect()))),
        commits: Arc::new(ScriptedCommits {
            fenced,
            committed: committed.clone(),
            permits: permits.clone(),
        }),
        patches: Vec::new(),
    }
}

#[tokio::test]
async fn next_event_waits_for_commit_only_after_writes() {
    let shutdown = Shutdown::new();
    let (leases, store) = start_scripted(StoreMode::Normal, &shutdown).await;
    let (committed, mut outcomes) = mpsc::unbounded_channel();
    let permits = Arc::new(Semaphore::new(0));
    let events = ["who", "who", "count", "count", "who"].into_iter().zip(1..);
    let events = events.map(|(name, number)| (number, message("a", name, number as i64)));
    leases
        .send(lease(false, events.collect(), &committed, &permits))
        .unwrap();
    // The third event is being handled although nothing is committed.
    store.wait_for_reads(1).await;
    let fourth = timeout(TIME, store.wait_for_reads(2)).await;
    assert!(fourth.is_err(), "the third event has written, and is not committed");
    permits.add_permits(2);
    store.wait_for_reads(2).await;
    permits.add_permits(10);
    for sequence in 1..=5 {
        let outcome = timeout(SOON, outcomes.recv()).await.expect("a commit comes").unwrap();
        assert_eq!(outcome.id.sequence, sequence);
        assert!(matches!(outcome.verdict, Verdict::Done(_)), "{outcome:?}");
    }
    end(shutdown).await;
}

#[tokio::test]
async fn patches_are_forgotten_with_the_disconnect_only() {
    let shutdown = Shutdown::new();
    let (leases, _store) = start_scripted(StoreMode::Normal, &shutdown).await;
    let (committed, mut outcomes) = mpsc::unbounded_channel();
    let permits = Arc::new(Semaphore::new(0));
    let gone = event("a", EventKind::Disconnect(DisconnectReason::Client.into()));
    let patch = |number| AttributePatch {
        namespace: "/".into(),
        client: "a".into(),
        number,
        patch: r#"{"x":1}"#.into(),
    };
    // `b` is handled and committed after the disconnect was handled and before it is committed.
    let events = vec![(5, message("a", "who", 5)), (6, message("b", "who", 6)), (7, gone)];
    let lease = Lease {
        patches: vec![patch(3), patch(4)],
        ..lease(false, events, &committed, &permits)
    };
    leases.send(lease).unwrap();
    permits.add_permits(10);
    for sequence in 5..=7 {
        let outcome = timeout(SOON, outcomes.recv()).await.expect("a commit comes").unwrap();
        let forgotten: Vec<u64> = outcome.forget.iter().map(|patch| patch.number).collect();
        let expected: &[u64] = if outcome.id.sequence == 7 { &[3, 4] } else { &[] };
        assert_eq!(forgotten, expected, "{sequence}");
    }
    end(shutdown).await;
}

#[tokio::test]
async fn waiting_events_of_periodic_timer_are_merged() {
    let shutdown = Shutdown::new();
    let (leases, _store) = start_scripted(StoreMode::Normal, &shutdown).await;
    let (committed, mut outcomes) = mpsc::unbounded_channel();
    let permits = Arc::new(Semaphore::new(0));
    let timer = |key: &str, is_periodic| {
        let fired = Fired {
            key: key.into(),
            due_ms: 1,
            missed: 0,
            is_periodic,
        };
        let (kind, data) = ("tests.tick/1".into(), Bytes::new());
        event("a", EventKind::Timer { fired, kind, data })
    };
    // The first event writes, so the others wait until it is committed.
    let events = vec![
        (1, message("a", "count", 1)),
        (2, timer("tick", true)),
        (3, timer("tick", true)),
        (4, message("a", "who", 4)),
        (5, timer("tick", false)),
        (6, timer("tock", true)),
        (7, timer("tick", true)),
    ];
    leases.send(lease(false, events, &committed, &permits)).unwrap();
    permits.add_permits(20);
    let mut order = Vec::new();
    for _ in 1..=7 {
        let outcome = timeout(SOON, outcomes.recv()).await.expect("a commit comes").unwrap();
        order.push(outcome.id.sequence);
    }
    assert_eq!(order, [1, 3, 7, 2, 4, 5, 6]);
    end(shutdown).await;
}

#[tokio::test]
async fn events_of_one_timer_of_the_app_are_handled_in_order() {
    let shutdown = Shutdown::new();
    let (leases, _store) = start_scripted(StoreMode::Normal, &shutdown).await;
    let (committed, mut outcomes) = mpsc::unbounded_channel();
    let permits = Arc::new(Semaphore::new(20));
    let timer = |number| {
        let fired = Fired {
            key: "tick".into(),
            due_ms: number,
            missed: 0,
            is_periodic: false,
        };
        let (kind, data) = ("tests.tick/1".into(), Bytes::new());
        let kind = EventKind::Timer { fired, kind, data };
        let client = None;
        (
            number,
            Event {
                client,
                ..event("a", kind)
            },
        )
    };
    let events = (1..=200).map(timer).collect();
    leases.send(lease(false, events, &committed, &permits)).unwrap();
    permits.add_permits(200);
    for sequence in 1..=200 {
        let outcome = timeout(SOON, outcomes.recv()).await.expect("a commit comes").unwrap();
        assert_eq!(outcome.id.sequence, sequence);
    }
    end(shutdown).await;
}

#[tokio::test]
async fn returning_partition_waits_for_running_events() {
    let shutdown = Shutdown::new();
    let (leases, store) = start_scripted(StoreMode::Slow, &shutdown).await;
    let (committed, mut outcomes) = mpsc::unbounded_channel();
    let permits = Arc::new(Semaphore::new(10));
    let lease = |fenced, events| lease(fenced, events, &committed, &permits);
    // While the count of `a` is running, the commit of `b` fails because the lease is fenced.
    let counts = |from: u64| {
        (from..from + 3)
            .map(|n| (n, message("a", "count", n as i64)))
            .collect::<Vec<_>>()
    };
    let mut events = counts(1);
    events.push((9, message("b", "who", 9)));
    leases.send(lease(true, events)).unwrap();
    store.wait_for_reads(1).await;
    leases.send(lease(false, counts(1))).unwrap();
    for sequence in 1..=3 {
        let outcome = timeout(SOON, outcomes.recv()).await.expect("a commit comes").unwrap();
        assert_eq!(outcome.id.sequence, sequence);
        assert!(matches!(outcome.verdict, Verdict::Done(_)), "{outcome:?}");
    }
    assert_eq!(
        store.max_running_reads.load(Ordering::SeqCst),
        1,
        "one event of a client at a time"
    );
    assert_eq!(
        store.reads.load(Ordering::SeqCst),
        4,
        "events that had not started are skipped"
    );
    end(shutdown).await;
}

/// The attributes that the handler sees if the io-node sends these.
async fn attributes(io: &mut IoSession, number: i64, sent: &str, patched: u64) -> String {
    let mut asking = message("a", "who", number);
    let client = asking.client.as_mut().unwrap();
    (client.attributes, client.patched) = (sent.to_owned().into(), patched);
    io.inbox.ingest(vec![asking]).await.unwrap();
    let (_, answer) = acks(io, 1).await.remove(0);
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    answer[0]["attributes"].to_string()
}

#[tokio::test]
async fn next_events_see_patches_after_partition_moves() {
    let memory = memory();
    let mut io = join_io(&memory).await;
    let shutdown = Shutdown::new();
    let store = Store::new(&memory, StoreMode::Normal);
    let _app_node = start(memory.clone().into(), store, &shutdown).await;
    let patch = |patch: &str, number| {
        let mut event = message("a", "patch", number);
        if let EventKind::Message { args, .. } = &mut event.kind {
            args.json = format!("[{patch}]").into();
        }
        event
    };
    // The io-node has applied nothing yet.
    io.inbox
        .ingest(vec![
            connection("a"),
            patch(r#"{"nick":"ada","x":1}"#, 1),
            patch(r#"{"x":null}"#, 2),
        ])
        .await
        .unwrap();
    acks(&mut io, 2).await;
    assert_eq!(
        attributes(&mut io, 3, r#"{"rank":7}"#, 0).await,
        r#"{"nick":"ada","rank":7}"#
    );
    // The next owner gets the patches.
    drop(memory.join_app("app".into()).await.unwrap());
    assert_eq!(
        attributes(&mut io, 4, r#"{"rank":7}"#, 0).await,
        r#"{"nick":"ada","rank":7}"#
    );
    // The io-node has applied the first, and another change after it; then also the second.
    let sent = r#"{"nick":"eve","x":1}"#;
    assert_eq!(attributes(&mut io, 5, sent, 2).await, r#"{"nick":"eve"}"#);
    assert_eq!(attributes(&mut io, 6, sent, 3).await, sent);
    // After the disconnect, the next owner gets no patches.
    io.inbox.ingest(vec![patch(r#"{"y":1}"#, 7)]).await.unwrap();
    acks(&mut io, 1).await;
    let gone = event("a", EventKind::Disconnect(DisconnectReason::Client.into()));
    io.inbox.ingest(vec![gone]).await.unwrap();
    end(shutdown).await;
    let mut leases = memory.join_app("other".into()).await.unwrap();
    let lease = leases.next().await.unwrap();
    assert_eq!(lease.patches, []);
}
