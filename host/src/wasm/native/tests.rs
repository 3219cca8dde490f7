//! Native handlers in a pool: they are dealt events, held to their limits, and lost to nobody but their own event.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use plugnode_sdk::prelude::*;
use plugnode_sdk::{config, context, kv, log};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::task::TaskTracker;

use super::Native;
use crate::message::{
    self, Command, Effects, Event, EventId, EventKind, KeyValue, KeyValueError, Partition, Payload, Text, Write,
};
use crate::shutdown::Shutdown;
use crate::wasm::{
    AppSettings, Compiler, Component, Dispatch, Engine, EngineSettings, Failure, Grants, Handled, Job, Limits,
    LoadError, Pool,
};

const LIMIT: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(20);

/// Does as it is told. What it has in memory cannot leave its thread.
struct Obedient {
    seen: Rc<Cell<u32>>,
    word: &'static str,
}

impl Default for Obedient {
    fn default() -> Self {
        Self {
            seen: Rc::default(),
            word: "default",
        }
    }
}

impl Handler for Obedient {
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
        self.seen.set(self.seen.get() + 1);
        match message.event.as_str() {
            "say" => client.emit("said", (context().instance, self.seen.get(), self.word))?,
            "panic" => {
                client.emit("never", ())?;
                panic!("told to");
            }
            "sleep" => std::thread::sleep(LIMIT * 3),
            "reserved" => client.emit("disconnect", ())?,
            "many" => (0..10).try_for_each(|_| client.emit("one", ()))?,
            "keep" => {
                let bucket = kv::open("mine")?;
                let before: Option<u32> = bucket.get("count")?;
                bucket.set("count", &(before.unwrap_or(0) + 1))?;
                let after: Option<u32> = bucket.get("count")?;
                client.emit("kept", (before, after, bucket.keys()?))?;
            }
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
}

struct Store;

#[async_trait]
impl KeyValue for Store {
    async fn get(&self, bucket: &str, keys: &[Text]) -> std::result::Result<Vec<Option<Bytes>>, KeyValueError> {
        assert_eq!(bucket, "mine");
        // Somewhere else, for a moment.
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(keys.iter().map(|_| Some(Bytes::from_static(b"41"))).collect())
    }

    async fn keys(&self, _: &str, _: u64) -> std::result::Result<(Vec<Text>, Option<u64>), KeyValueError> {
        Ok((vec!["count".into()], None))
    }
}

struct App {
    pool: Arc<Pool>,
    _shutdown: Shutdown,
    done: Sender<Handled>,
    outcomes: Receiver<Handled>,
    sequence: u64,
}

fn settings(instances: usize) -> AppSettings {
    AppSettings {
        namespace: "/".into(),
        node: "app".into(),
        instances,
        dispatch: Dispatch::RoundRobin,
        admission: true,
        limits: Limits {
            time: LIMIT,
            commands: 5,
            ..Limits::default()
        },
        grants: Grants {
            keyvalue: vec!["mine".into()],
            http: Vec::new(),
        },
        config: [("greeting".to_owned(), "hello".to_owned())].into(),
        key_value: Arc::new(Store),
    }
}

async fn start(native: Native, settings: AppSettings) -> std::result::Result<App, LoadError> {
    let engine = Engine::new(EngineSettings {
        max_instances: 4,
        max_memory: 1 << 20,
        cache: None,
        compiler: Compiler::Here,
    })?;
    let shutdown = Shutdown::new();
    let pool = Pool::start(&engine, Component::native(native), settings, &shutdown).await?;
    let (done, outcomes) = channel(100);
    Ok(App {
        pool,
        _shutdown: shutdown,
        done,
        outcomes,
        sequence: 0,
    })
}

impl App {
    async fn of(instances: usize) -> Self {
        start(Native::of::<Obedient>(), settings(instances))
            .await
            .expect("it starts")
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
                client: Some(message::Client {
                    id: client.into(),
                    io_node: "io".into(),
                    attributes: "{}".into(),
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
        let handshake = message::Handshake {
            auth: None,
            query: query.into(),
            headers: Vec::new(),
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

    /// What it sent, each the event and its arguments.
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
async fn instances_take_turns_and_are_told_of_clients_they_have_not_seen() {
    let mut app = App::of(2).await;
    app.connect("ada", "").await;
    assert_eq!(app.told("ada", "say").await, ["who[]", r#"said[1,1,"default"]"#]);
    assert_eq!(app.told("ada", "say").await, [r#"said[0,1,"default"]"#]);
    assert_eq!(app.told("ada", "say").await, [r#"said[1,2,"default"]"#]);
}

#[tokio::test]
async fn a_handler_can_be_made_of_what_the_program_has() {
    let make = || Obedient {
        seen: Rc::default(),
        word: "made",
    };
    let mut app = start(Native::made_by(make), settings(1)).await.expect("it starts");
    app.connect("ada", "").await;
    assert_eq!(app.told("ada", "say").await, [r#"said[0,1,"made"]"#]);
}

#[tokio::test]
async fn a_panic_costs_its_event_and_its_instance() {
    let mut app = App::of(1).await;
    app.connect("ada", "").await;
    app.told("ada", "say").await;
    let failure = app.tell("ada", "panic").await.expect_err("it panics").to_string();
    assert!(
        failure.contains("the handler panicked: told to") && failure.contains("message \"panic\""),
        "{failure}"
    );
    assert_eq!(app.told("ada", "say").await, ["who[]", r#"said[0,1,"default"]"#]);
}

#[tokio::test]
async fn an_event_that_takes_too_long_is_given_up() {
    let mut app = App::of(1).await;
    app.connect("ada", "").await;
    let failure = app.tell("ada", "sleep").await.expect_err("it sleeps").to_string();
    assert!(failure.contains("time limit of 200ms reached"), "{failure}");
    assert_eq!(app.told("ada", "say").await, ["who[]", r#"said[0,1,"default"]"#]);
}

#[tokio::test]
async fn an_event_is_held_to_the_contract_and_to_its_limits() {
    let mut app = App::of(1).await;
    app.connect("ada", "").await;
    let failure = |told: std::result::Result<Effects, Failure>| told.expect_err("it fails").to_string();
    assert!(failure(app.tell("ada", "reserved").await).contains("event of Socket.IO itself"));
    assert!(failure(app.tell("ada", "many").await).contains("used up its commands"));
    assert!(failure(app.tell("ada", "pry").await).contains("`yours` is not granted"));
    let again = app.tell("ada", "nothing").await.expect_err("it fails");
    assert!(matches!(again, Failure::Retry(words) if words == "again"));
    assert!(app.told("ada", "log").await.is_empty());
}

#[tokio::test]
async fn buckets_are_read_from_the_store_and_written_with_the_event() {
    let mut app = App::of(1).await;
    app.connect("ada", "").await;
    let effects = app.tell("ada", "keep").await.expect("it is handled");
    let Command::Publish { args, .. } = &effects.commands[0] else {
        panic!("{effects:?}")
    };
    assert_eq!(&*args.json, r#"[41,42,["count"]]"#);
    let (bucket, key, value) = ("mine".into(), "count".into(), Some(Bytes::from_static(b"42")));
    assert_eq!(effects.writes, [Write { bucket, key, value }]);
}

#[tokio::test]
async fn clients_at_the_door_are_admitted_or_refused() {
    let mut app = App::of(1).await;
    let refusals = |effects: Effects| match &effects.commands[..] {
        [Command::Admit { refusal, .. }] => refusal.as_ref().map(|refusal| refusal.message.to_string()),
        _ => panic!("{effects:?}"),
    };
    assert_eq!(refusals(app.connect("ada", "").await), None);
    assert_eq!(
        refusals(app.connect("eve", "intruder").await).as_deref(),
        Some("members only")
    );
}

#[tokio::test]
async fn a_handler_that_does_not_start_says_why() {
    for (how, why) in [("refuse", "refused: not today"), ("panic", "panicked: no start")] {
        let mut settings = settings(1);
        settings.config.insert("start".into(), how.into());
        let Err(error) = start(Native::of::<Obedient>(), settings).await else {
            panic!("it starts")
        };
        let error = error.to_string();
        assert!(
            error.contains("the native handler does not start") && error.contains(why),
            "{error}"
        );
    }
}
