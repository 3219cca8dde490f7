//! An app-node whose transport takes its partitions away, takes it for dead, or cannot read its key-value store.
//!
//! Runs the example `faulty`: `target/components/faulty.wasm`.

mod asking;

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
    AckId, AttributePatch, Client, Command, Event, EventId, EventKind, Handshake, KeyValue, KeyValueError, NodeId,
    Partition, Payload, Text,
};
use plugnode_runtime::{AppSettings, Compiler, Dispatch, EngineSettings, Grants, Limits};
use plugnode_transport::{
    Commits, DeadLetters, Delivery, Events, IoNode, IoSession, Lease, Leases, Log, Lost, Memory, MemorySettings,
    Outcome, Result as Answer, Transport, TransportError, Verdict,
};

const SOON: Duration = Duration::from_secs(20);
const TIME: Duration = Duration::from_millis(400);

/// What the store does at present.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Well,
    Slow,
    Failing,
    Hanging,
    /// It answers others.
    Overloaded,
}

/// The key-value store of the memory transport with moods, which counts how many ask it at once.
struct Store {
    memory: Memory,
    mood: StdMutex<Mood>,
    changed: Notify,
    asking: AtomicUsize,
    most: AtomicUsize,
    asked: AtomicUsize,
}

impl Store {
    fn new(memory: &Memory, mood: Mood) -> Arc<Self> {
        Arc::new(Self {
            memory: memory.clone(),
            mood: StdMutex::new(mood),
            changed: Notify::new(),
            asking: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
        })
    }

    fn mood(&self) -> Mood {
        *self.mood.lock().unwrap()
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
        self.changed.notify_waiters();
    }

    async fn asked(&self, times: usize) {
        let asked = async {
            while self.asked.load(Ordering::SeqCst) < times {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(SOON, asked).await.expect("the store is asked");
    }
}

/// Ends with the question, also with one that is given up.
struct Asking<'a>(&'a Store);

impl<'a> Asking<'a> {
    fn begin(store: &'a Store) -> Self {
        let asking = store.asking.fetch_add(1, Ordering::SeqCst) + 1;
        store.most.fetch_max(asking, Ordering::SeqCst);
        store.asked.fetch_add(1, Ordering::SeqCst);
        Self(store)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.asking.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl KeyValue for Store {
    async fn get(&self, bucket: &str, keys: &[Text], most: usize) -> Result<Vec<Option<Bytes>>, KeyValueError> {
        let _asking = Asking::begin(self);
        match self.mood() {
            Mood::Well => {}
            Mood::Slow => sleep(TIME / 4).await,
            Mood::Failing => return Err(KeyValueError::Unavailable("it is away".into())),
            Mood::Hanging | Mood::Overloaded => loop {
                let changed = self.changed.notified();
                if !matches!(self.mood(), Mood::Hanging | Mood::Overloaded) {
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

    async fn has_answered_since(&self, _: std::time::Instant) -> bool {
        !matches!(self.mood(), Mood::Failing | Mood::Hanging)
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
        instances: 4,
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
        key_value: store,
    };
    set(&mut app);
    let engine = Engine::new(EngineSettings {
        max_instances: 8,
        max_memory: 64 << 20,
        cache: None,
        compiler: Compiler::InProcess,
    });
    let settings = AppNodeSettings {
        name: "app".into(),
        apps: vec![AppSource {
            settings: app,
            file: "faulty.wasm".into(),
            component: Ok(component.into()),
        }],
        native: Vec::new(),
        partitions: 4,
        kept_releases: 10,
        // Whatever counts as a failure is the end of an event.
        retries: Retries {
            attempts: 1,
            delay: Duration::ZERO,
        },
    };
    AppNode::start(settings, engine.unwrap(), transport, shutdown)
        .await
        .unwrap()
}

fn memory() -> Memory {
    Memory::new(MemorySettings {
        partitions: 1,
        ..MemorySettings::default()
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
    assert!(shutdown.drained(SOON).await, "everything ends");
}

#[tokio::test]
async fn a_fenced_app_node_joins_anew_and_goes_on() {
    let memory = memory();
    let mut io = join_io(&memory).await;
    let shutdown = Shutdown::new();
    let store = Store::new(&memory, Mood::Well);
    let _app_node = start(memory.clone().into(), store, &shutdown).await;
    io.inbox
        .ingest(vec![connection("a"), message("a", "count", 1)])
        .await
        .unwrap();
    assert_eq!(acks(&mut io, 1).await, [(1, "[1]".into())]);
    for number in 2..5 {
        // Another under its name takes its place, and leaves.
        drop(memory.join_app("app".into()).await.unwrap());
        io.inbox.ingest(vec![message("a", "count", number)]).await.unwrap();
        assert_eq!(acks(&mut io, 1).await, [(number, format!("[{number}]"))]);
    }
    end(shutdown).await;
}

#[tokio::test]
async fn events_wait_for_a_store_that_is_away_and_none_is_given_up_for_it() {
    let memory = memory();
    let mut io = join_io(&memory).await;
    let shutdown = Shutdown::new();
    let store = Store::new(&memory, Mood::Well);
    let _app_node = start(memory.clone().into(), store.clone(), &shutdown).await;
    io.inbox.ingest(vec![connection("a")]).await.unwrap();
    let mut number = 0;
    for mood in [Mood::Failing, Mood::Hanging, Mood::Failing] {
        store.set(mood);
        let asked = store.asked.load(Ordering::SeqCst);
        let events = (number + 1..=number + 3).map(|number| message("a", "count", number));
        io.inbox.ingest(events.collect()).await.unwrap();
        store.asked(asked + 3).await;
        store.set(Mood::Well);
        let expected: Vec<_> = (number + 1..=number + 3)
            .map(|number| (number, format!("[{number}]")))
            .collect();
        assert_eq!(acks(&mut io, 3).await, expected, "in order, each once");
        number += 3;
    }
    assert!(memory.dead_letters(10).await.unwrap().is_empty());
    // What the handler does wrong is still its own fault.
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
    assert!(dead[0].death.reason.contains("time limit"), "{:?}", dead[0].death);
    end(shutdown).await;
}

#[tokio::test]
async fn an_event_that_reads_too_much_for_its_time_has_failed() {
    let memory = memory();
    let mut io = join_io(&memory).await;
    let shutdown = Shutdown::new();
    let store = Store::new(&memory, Mood::Overloaded);
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
    let reason = &dead[0].death.reason;
    assert!(reason.contains("the event reads too much for its time limit"), "{reason}");
    end(shutdown).await;
}

#[tokio::test]
async fn an_event_whose_reads_have_changed_is_handled_again() {
    const CLIENTS: i64 = 8;
    let memory = Memory::new(MemorySettings {
        partitions: 4,
        ..MemorySettings::default()
    });
    let mut io = join_io(&memory).await;
    let shutdown = Shutdown::new();
    let store = Store::new(&memory, Mood::Slow);
    let _app_node = start(memory.clone().into(), store.clone(), &shutdown).await;
    let names: Vec<String> = (0..CLIENTS).map(|number| format!("client-{number}")).collect();
    io.inbox
        .ingest(names.iter().map(|name| connection(name)).collect())
        .await
        .unwrap();
    let mut tallies: Vec<Event> = names
        .iter()
        .zip(0..)
        .map(|(name, number)| message(name, "tally", number))
        .collect();
    for tally in &mut tallies {
        let EventKind::Message { args, .. } = &mut tally.kind else {
            unreachable!()
        };
        args.json = r#"["shared"]"#.into();
    }
    io.inbox.ingest(tallies).await.unwrap();
    let mut told: Vec<String> = acks(&mut io, CLIENTS as usize)
        .await
        .into_iter()
        .map(|(_, args)| args)
        .collect();
    told.sort_unstable();
    let expected: Vec<String> = (1..=CLIENTS).map(|count| format!("[{count}]")).collect();
    assert_eq!(told, expected);
    assert!(
        store.asked.load(Ordering::SeqCst) > CLIENTS as usize,
        "somebody had to read again"
    );
    assert!(memory.dead_letters(10).await.unwrap().is_empty());
    end(shutdown).await;
}

#[tokio::test]
async fn a_stopping_app_node_does_not_wait_for_a_store_that_is_away() {
    let memory = memory();
    let io = join_io(&memory).await;
    let shutdown = Shutdown::new();
    let store = Store::new(&memory, Mood::Hanging);
    let _app_node = start(memory.clone().into(), store.clone(), &shutdown).await;
    io.inbox
        .ingest(vec![connection("a"), message("a", "count", 1)])
        .await
        .unwrap();
    store.asked(2).await;
    end(shutdown).await;
    // The event is the next owner's.
    let mut leases = memory.join_app("other".into()).await.unwrap();
    let mut lease = leases.next().await.unwrap();
    let left = lease.log.next().await.unwrap().unwrap();
    assert_eq!(left.len(), 1);
}

/// A transport that leases what it is told to.
struct Scripted {
    memory: Memory,
    leases: StdMutex<Option<mpsc::UnboundedReceiver<Lease>>>,
}

#[async_trait]
impl Events for Scripted {
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

/// Gives these events once.
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

/// Tells what is committed, or that the lease is another's. A call takes a permit, and waits for it.
struct ScriptedCommits {
    fenced: bool,
    committed: mpsc::UnboundedSender<Outcome>,
    permits: Arc<Semaphore>,
}

#[async_trait]
impl Commits for ScriptedCommits {
    async fn commit(&self, outcomes: Vec<Outcome>) -> Answer<Vec<Lost>> {
        if self.fenced {
            return Err(TransportError::Fenced);
        }
        self.permits.acquire().await.unwrap().forget();
        outcomes
            .into_iter()
            .for_each(|outcome| self.committed.send(outcome).unwrap());
        Ok(Vec::new())
    }

    fn forget_patches(&self, _: Vec<AttributePatch>) {}
}

/// An app-node that is leased what is sent, and its store.
async fn start_scripted(mood: Mood, shutdown: &Shutdown) -> (mpsc::UnboundedSender<Lease>, Arc<Store>) {
    let memory = memory();
    let (leases, next) = mpsc::unbounded_channel();
    let transport = Arc::new(Scripted {
        memory: memory.clone(),
        leases: StdMutex::new(Some(next)),
    });
    let store = Store::new(&memory, mood);
    let transport = Transport {
        events: transport,
        ..memory.into()
    };
    start(transport, store.clone(), shutdown).await;
    (leases, store)
}

/// A lease of these events, whose commits take permits.
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
async fn a_clients_next_event_waits_for_a_commit_only_when_something_was_written() {
    let shutdown = Shutdown::new();
    let (leases, store) = start_scripted(Mood::Well, &shutdown).await;
    let (committed, mut outcomes) = mpsc::unbounded_channel();
    let permits = Arc::new(Semaphore::new(0));
    let events = ["who", "who", "count", "count", "who"].into_iter().zip(1..);
    let events = events.map(|(name, number)| (number, message("a", name, number as i64)));
    leases
        .send(lease(false, events.collect(), &committed, &permits))
        .unwrap();
    // Nothing is committed, and the third event is being handled.
    store.asked(1).await;
    let fourth = timeout(TIME, store.asked(2)).await;
    assert!(fourth.is_err(), "the third has written, and that is not committed");
    permits.add_permits(2);
    store.asked(2).await;
    permits.add_permits(10);
    for sequence in 1..=5 {
        let outcome = timeout(SOON, outcomes.recv()).await.expect("it is committed").unwrap();
        assert_eq!(outcome.id.sequence, sequence);
        assert!(matches!(outcome.verdict, Verdict::Done(_)), "{outcome:?}");
    }
    end(shutdown).await;
}

#[tokio::test]
async fn a_partition_that_comes_back_waits_for_what_is_still_running_of_it() {
    let shutdown = Shutdown::new();
    let (leases, store) = start_scripted(Mood::Slow, &shutdown).await;
    let (committed, mut outcomes) = mpsc::unbounded_channel();
    let permits = Arc::new(Semaphore::new(10));
    let lease = |fenced, events| lease(fenced, events, &committed, &permits);
    // While the count of `a` is under way, the commit of `b` finds that the lease is another's.
    let counts = |from: u64| {
        (from..from + 3)
            .map(|n| (n, message("a", "count", n as i64)))
            .collect::<Vec<_>>()
    };
    let mut events = counts(1);
    events.push((9, message("b", "who", 9)));
    leases.send(lease(true, events)).unwrap();
    store.asked(1).await;
    leases.send(lease(false, counts(1))).unwrap();
    for sequence in 1..=3 {
        let outcome = timeout(SOON, outcomes.recv()).await.expect("it is committed").unwrap();
        assert_eq!(outcome.id.sequence, sequence);
        assert!(matches!(outcome.verdict, Verdict::Done(_)), "{outcome:?}");
    }
    assert_eq!(store.most.load(Ordering::SeqCst), 1, "one event of a client at a time");
    assert_eq!(
        store.asked.load(Ordering::SeqCst),
        4,
        "and what had not begun was passed over"
    );
    end(shutdown).await;
}

/// Asks with what attributes an event reaches the handler, given those that the io-node sends.
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
async fn own_patches_reach_next_events_through_a_move() {
    let memory = memory();
    let mut io = join_io(&memory).await;
    let shutdown = Shutdown::new();
    let store = Store::new(&memory, Mood::Well);
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
    // Another owner knows of it.
    drop(memory.join_app("app".into()).await.unwrap());
    assert_eq!(
        attributes(&mut io, 4, r#"{"rank":7}"#, 0).await,
        r#"{"nick":"ada","rank":7}"#
    );
    // It has applied the first, and somebody else has changed it since; then the second as well.
    let sent = r#"{"nick":"eve","x":1}"#;
    assert_eq!(attributes(&mut io, 5, sent, 2).await, r#"{"nick":"eve"}"#);
    assert_eq!(attributes(&mut io, 6, sent, 3).await, sent);
    // Nothing is left of it for the next owner.
    io.inbox.ingest(vec![patch(r#"{"y":1}"#, 7)]).await.unwrap();
    acks(&mut io, 1).await;
    let gone = event(
        "a",
        EventKind::Disconnect(plugnode_message::DisconnectReason::Client.into()),
    );
    io.inbox.ingest(vec![gone]).await.unwrap();
    end(shutdown).await;
    let mut leases = memory.join_app("other".into()).await.unwrap();
    let lease = leases.next().await.unwrap();
    assert_eq!(lease.patches, []);
}
