//! Native handlers in a pool, on threads and in place: dispatch, limits, and containment of their faults.

use std::borrow::Borrow;
use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use plugnode_sdk::prelude::*;
use plugnode_sdk::{config, context, kv, log};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::task::TaskTracker;

use super::Native;
use crate::{
    AppSettings, Compiler, Component, Dispatch, Engine, EngineSettings, Failure, Grants, HandlerSettings, Job,
    JobOutcome, Limits, LoadError, Pool,
};
use plugnode_message::{
    Change, Command, Effects, Event, EventId, EventKind, KeyChange, KeyValue, KeyValueError, Partition, Payload, Read,
    Seen, Text,
};
use plugnode_process::shutdown::Shutdown;

const LIMIT: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of a value.
const VALUE: usize = 100;

/// Does what each event names. Counts events in a cell that is `Send`, or not.
struct TestHandler<C> {
    seen: C,
    word: &'static str,
    stopped: Option<Sender<&'static str>>,
}

type OnThread = TestHandler<Rc<Cell<u32>>>;
type InPlace = TestHandler<Cell<u32>>;

/// The handler on a thread, and in place. `start` prints which one a failing test uses.
fn both() -> [Native; 2] {
    [Native::of::<OnThread>(), Native::in_place::<InPlace>()]
}

impl<C: Default> TestHandler<C> {
    fn new(word: &'static str, stopped: Option<Sender<&'static str>>) -> Self {
        let seen = C::default();
        Self { seen, word, stopped }
    }
}

impl<C: Default> Default for TestHandler<C> {
    fn default() -> Self {
        Self::new("default", None)
    }
}

impl<C: Default + Borrow<Cell<u32>> + 'static> Handler for TestHandler<C> {
    fn on_start(&mut self) -> Result {
        match config::get("start")?.as_deref() {
            Some("refuse") => Err(Error::reject("not today")),
            Some("panic") => panic!("no start"),
            _ => Ok(()),
        }
    }

    fn on_connection(&mut self, client: &Client, handshake: &Handshake) -> Result {
        if handshake.query.contains("intruder") {
            client.refuse("members only")?;
        }
        Ok(())
    }

    fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
        let seen = self.seen.borrow();
        seen.set(seen.get() + 1);
        match message.event.as_str() {
            "say" => client.emit("said", (context().instance, seen.get(), self.word))?,
            "panic" => {
                client.emit("never", ())?;
                panic!("told to");
            }
            "sleep" => std::thread::sleep(LIMIT * 3),
            "reserved" => client.emit("disconnect", ())?,
            "attach" => client.emit("bytes", vec![plugnode_sdk::Binary(vec![1]); 10])?,
            "overload" => client.emit("bytes", vec![plugnode_sdk::Binary(vec![1]); 11])?,
            "long" => client.emit(&"e".repeat(1_025), ())?,
            "join long" => client.join("c".repeat(1_025))?,
            "join fit" => client.join("c".repeat(1_024))?,
            "many" => (0..10).try_for_each(|_| client.emit("one", ()))?,
            "keep" => {
                let bucket = kv::open("mine")?;
                let before: Option<u32> = bucket.get("count")?;
                bucket.set("count", &(before.unwrap_or(0) + 1))?;
                let after: Option<u32> = bucket.get("count")?;
                client.emit("kept", (before, after, bucket.keys()?))?;
            }
            "read" => {
                let bucket = kv::open("mine")?;
                (0..300).try_for_each(|_| bucket.get::<u32>("count").map(drop))?;
            }
            // With its quotes it is as large as may be, or larger by one.
            "fit" => kv::open("mine")?.set("count", &"x".repeat(VALUE - 2))?,
            "swell" => kv::open("mine")?.set("count", &"x".repeat(VALUE - 1))?,
            "pry" => drop(kv::open("yours")?),
            "log" => log::info!("a line"),
            _ => return Err(Error::retry("again")),
        }
        Ok(())
    }

    fn on_no_client(&mut self, client: &Client) -> Result {
        client.emit("who", ())?;
        Ok(())
    }

    fn on_stop(&mut self) {
        if let Some(stopped) = &self.stopped {
            stopped.try_send(self.word).expect("a test waits for it");
        }
    }
}

/// A key-value store that always gives the same answer.
enum Store {
    /// At once, at the expense of the task's budget.
    Ready(Mutex<()>),
    /// After a moment.
    Slow,
    /// Never.
    Silent,
}

impl Store {
    async fn reach(&self) {
        match self {
            Self::Ready(lock) => drop(lock.lock().await),
            Self::Slow => tokio::time::sleep(Duration::from_millis(1)).await,
            Self::Silent => pending().await,
        }
    }
}

#[async_trait]
impl KeyValue for Store {
    async fn get(
        &self,
        bucket: &str,
        keys: &[Text],
        _: usize,
    ) -> std::result::Result<Vec<Option<Bytes>>, KeyValueError> {
        assert_eq!(bucket, "mine");
        self.reach().await;
        Ok(keys.iter().map(|_| Some(Bytes::from_static(b"41"))).collect())
    }

    async fn keys(
        &self,
        _: &str,
        _: &str,
        _: u64,
        _: usize,
    ) -> std::result::Result<(Vec<Text>, Option<u64>), KeyValueError> {
        self.reach().await;
        Ok((vec!["count".into()], None))
    }

    async fn count(&self, _: &str) -> std::result::Result<u64, KeyValueError> {
        Ok(1)
    }

    async fn has_answered_since(&self, _: std::time::Instant) -> bool {
        !matches!(self, Self::Silent)
    }
}

struct App {
    pool: Arc<Pool>,
    shutdown: Shutdown,
    done: Sender<JobOutcome>,
    outcomes: Receiver<JobOutcome>,
    sequence: u64,
}

fn settings(instances: usize) -> AppSettings {
    settings_with(instances, Store::Slow)
}

fn settings_with(instances: usize, store: Store) -> AppSettings {
    AppSettings {
        namespace: "/".into(),
        node: "app".into(),
        handler: HandlerSettings {
            instances,
            max_instances: None,
            dispatch: Dispatch::RoundRobin,
            admission: true,
            failure_acks: true,
            presence: Default::default(),
            limits: Limits {
                time: LIMIT,
                commands: 5,
                value: VALUE,
                ..Limits::default()
            },
            grants: Grants {
                keyvalue: vec!["mine".into()],
                http: Vec::new(),
            },
            config: [("greeting".to_owned(), "hello".to_owned())].into(),
        },
        key_value: Arc::new(store),
    }
}

async fn start(native: Native, settings: AppSettings) -> std::result::Result<App, LoadError> {
    println!("{native:?}");
    let engine = Engine::new(EngineSettings {
        max_instances: 4,
        max_memory: 1 << 20,
        cache: None,
        compiler: Compiler::InProcess,
    })?;
    let shutdown = Shutdown::new();
    let pool = Pool::start(&engine, Component::native(native), settings, &shutdown).await?;
    let (done, outcomes) = channel(100);
    Ok(App {
        pool,
        shutdown,
        done,
        outcomes,
        sequence: 0,
    })
}

impl App {
    /// With a client that instance 0 has seen.
    async fn with_ada(native: Native, settings: AppSettings) -> Self {
        let mut app = start(native, settings).await.expect("it starts");
        app.connect("ada", "").await;
        app
    }

    async fn handle(&mut self, client: &str, kind: EventKind) -> std::result::Result<Effects, Failure> {
        self.sequence += 1;
        let id = EventId {
            partition: Partition(0),
            sequence: self.sequence,
        };
        self.pool.submit(Job {
            id,
            attempt: 1,
            event: Arc::new(Event {
                namespace: "/".into(),
                client: Some(plugnode_message::Client {
                    id: client.into(),
                    io_node: "io".into(),
                    attributes: "{}".into(),
                    patched: 0,
                }),
                received_at_ms: 0,
                kind,
            }),
            on_trial: None,
            done: self.done.clone(),
            token: TaskTracker::new().token(),
        });
        let handled = tokio::time::timeout(PATIENCE, self.outcomes.recv()).await;
        let handled = handled.expect("it is handled in time").expect("somebody handles it");
        assert_eq!(handled.id, id);
        handled.result
    }

    async fn connect(&mut self, client: &str, query: &str) -> Effects {
        let handshake = plugnode_message::Handshake {
            auth: None,
            query: query.into(),
            headers: [].into(),
            remote_addr: None,
            transport: "websocket".into(),
            recovered: false,
        };
        let connected = self.handle(client, EventKind::Connection(Box::new(handshake))).await;
        connected.expect("it is handled")
    }

    async fn tell(&mut self, client: &str, event: &str) -> std::result::Result<Effects, Failure> {
        let args = Payload {
            json: "[]".into(),
            attachments: Vec::new(),
        };
        let event = event.into();
        self.handle(client, EventKind::Message { event, args, ack: None }).await
    }

    /// Sends an event, and returns what the handler emits: each event with its arguments.
    async fn told(&mut self, client: &str, event: &str) -> Vec<String> {
        let effects = self.tell(client, event).await.expect("it is handled");
        let sent = effects.commands.into_iter().filter_map(|command| match command {
            Command::Publish { event, args, .. } => Some(format!("{event}{}", args.json)),
            _ => None,
        });
        sent.collect()
    }
}

#[tokio::test]
async fn round_robin_introduces_clients_to_each_instance() {
    for native in both() {
        let mut app = App::with_ada(native, settings(2)).await;
        assert_eq!(app.told("ada", "say").await, ["who[]", r#"said[1,1,"default"]"#]);
        assert_eq!(app.told("ada", "say").await, [r#"said[0,1,"default"]"#]);
        assert_eq!(app.told("ada", "say").await, [r#"said[1,2,"default"]"#]);
    }
}

#[tokio::test]
async fn closure_makes_handler_and_stop_is_called() {
    let (stopped, mut stops) = channel(1);
    let free = stopped.clone();
    let on_thread = Native::made_by(move || OnThread::new("bound", Some(stopped.clone())));
    let in_place = Native::made_in_place_by(move || InPlace::new("free", Some(free.clone())));
    for (native, word) in [(on_thread, "bound"), (in_place, "free")] {
        let mut app = App::with_ada(native, settings(1)).await;
        assert_eq!(app.told("ada", "say").await, [format!(r#"said[0,1,"{word}"]"#)]);
        app.pool.retire();
        app.shutdown.begin();
        assert!(app.shutdown.drained(PATIENCE).await);
        assert_eq!(stops.recv().await, Some(word));
    }
}

#[tokio::test]
async fn panic_costs_its_event_and_instance() {
    for native in both() {
        let mut settings = settings(1);
        // With RUST_BACKTRACE, a panic takes long.
        settings.handler.limits.time = PATIENCE;
        let mut app = App::with_ada(native, settings).await;
        app.told("ada", "say").await;
        let failure = app.tell("ada", "panic").await.expect_err("it panics").to_string();
        assert!(
            failure.contains("the handler panicked: told to") && failure.contains("message \"panic\""),
            "{failure}"
        );
        assert_eq!(app.told("ada", "say").await, ["who[]", r#"said[0,1,"default"]"#]);
    }
}

#[tokio::test]
async fn event_over_its_time_limit_fails() {
    for (native, why) in both()
        .into_iter()
        .zip(["its thread cannot be stopped", "give it a thread"])
    {
        let mut app = App::with_ada(native, settings(1)).await;
        let failure = app.tell("ada", "sleep").await.expect_err("it sleeps").to_string();
        assert!(
            failure.contains("time limit of 200ms reached") && failure.contains(why),
            "{failure}"
        );
        assert_eq!(app.told("ada", "say").await, ["who[]", r#"said[0,1,"default"]"#]);
    }
}

#[tokio::test]
async fn contract_and_limits_apply_to_native_handlers() {
    for native in both() {
        let mut app = App::with_ada(native, settings(1)).await;
        let failure = |told: std::result::Result<Effects, Failure>| told.expect_err("it fails").to_string();
        assert!(failure(app.tell("ada", "reserved").await).contains("reserved by Socket.IO"));
        let limit = "has 1025 bytes; a name may have 1024";
        assert!(failure(app.tell("ada", "long").await).contains(&format!("the name of the event {limit}")));
        assert!(failure(app.tell("ada", "join long").await).contains(&format!("the name of the channel {limit}")));
        assert_eq!(
            app.tell("ada", "join fit").await.expect("it is taken").commands.len(),
            1
        );
        let many = failure(app.tell("ada", "many").await);
        assert!(many.contains("used up its limit of commands"), "{many}");
        assert_eq!(app.told("ada", "attach").await.len(), 1);
        let refused = failure(app.tell("ada", "overload").await);
        assert!(
            refused.contains("11 attachments are over the limit of 10") && refused.contains("raise `attachments`"),
            "{refused}"
        );
        assert_eq!(app.tell("ada", "fit").await.expect("it is stored").writes.len(), 1);
        assert!(failure(app.tell("ada", "swell").await).contains("value of 101 bytes is over"));
        assert!(failure(app.tell("ada", "pry").await).contains("`yours` is not granted"));
        let again = app.tell("ada", "nothing").await.expect_err("it fails");
        assert!(matches!(again, Failure::Retry(words) if words == "again"));
        assert!(app.told("ada", "log").await.is_empty());
    }
}

#[tokio::test]
async fn instance_limit_applies_to_native_handlers() {
    for native in both() {
        let error = start(native, settings(50)).await.err();
        assert!(matches!(error, Some(LoadError::Full { .. })), "{error:?}");
    }
}

async fn reads_and_writes(native: Native, store: Store) {
    let mut app = App::with_ada(native, settings_with(1, store)).await;
    let effects = app.tell("ada", "keep").await.expect("it is handled");
    let Command::Publish { args, .. } = &effects.commands[0] else {
        panic!("{effects:?}")
    };
    assert_eq!(&*args.json, r#"[41,42,["count"]]"#);
    let (bucket, key) = (Text::from("mine"), Text::from("count"));
    let change = Change::set("42");
    let seen = Seen::Value(Bytes::from_static(b"41"));
    let write = KeyChange {
        bucket: bucket.clone(),
        key: key.clone(),
        change,
    };
    assert_eq!(effects.writes, [write]);
    assert_eq!(effects.reads, [Read { bucket, key, seen }]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_are_read_at_once_and_written_at_commit() {
    for native in both() {
        reads_and_writes(native, Store::Slow).await;
    }
}

#[tokio::test]
async fn in_place_handler_cannot_wait_on_current_thread_runtime() {
    let [on_thread, in_place] = both();
    reads_and_writes(on_thread, Store::Slow).await;
    let mut app = App::with_ada(in_place.clone(), settings_with(1, Store::Slow)).await;
    let failure = app.tell("ada", "keep").await.expect_err("it cannot wait").to_string();
    assert!(
        failure.contains("give it a thread of its own, by `Native::of`"),
        "{failure}"
    );
    reads_and_writes(in_place, Store::Ready(Mutex::default())).await;
}

#[tokio::test]
async fn ready_answers_are_read_without_limit() {
    for native in both() {
        let mut app = App::with_ada(native, settings_with(1, Store::Ready(Mutex::default()))).await;
        assert!(app.told("ada", "read").await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_store_makes_event_fail_as_unavailable() {
    for native in both() {
        let mut app = App::with_ada(native, settings_with(1, Store::Silent)).await;
        let failure = app.tell("ada", "keep").await.expect_err("there is no answer");
        assert!(matches!(failure, Failure::Unavailable(_)), "{failure}");
    }
}

#[tokio::test]
async fn clients_awaiting_admission_are_admitted_or_refused() {
    let refusals = |effects: Effects| match &effects.commands[..] {
        [Command::Admit { refusal, .. }] => refusal.as_ref().map(|refusal| refusal.message.to_string()),
        _ => panic!("{effects:?}"),
    };
    for native in both() {
        let mut app = start(native, settings(1)).await.expect("it starts");
        assert_eq!(refusals(app.connect("ada", "").await), None);
        assert_eq!(
            refusals(app.connect("eve", "intruder").await).as_deref(),
            Some("members only")
        );
    }
}

#[tokio::test]
async fn start_failure_names_its_reason() {
    for (how, why) in [("refuse", "refused: not today"), ("panic", "panicked: no start")] {
        for native in both() {
            let mut settings = settings(1);
            settings.handler.config.insert("start".into(), how.into());
            let error = start(native, settings)
                .await
                .err()
                .expect("it does not start")
                .to_string();
            assert!(
                error.contains("the native handler does not start") && error.contains(why),
                "{error}"
            );
        }
    }
}
