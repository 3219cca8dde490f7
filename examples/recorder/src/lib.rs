//! The handler of `plugnode-check`: it records the messages of each client, and reports each of them in every possible way.
//!
//! A client connects with `auth` `{"channel": NAME}`, or with `{"watch": true}` to be told of disconnects, and receives `welcome`
//! when it has joined its channel. For each message `n` with a number, the sender receives `direct`, the client named in the message
//! receives `peer`, and the channel receives `broadcast`; then the message is acknowledged. All of these carry the sender, the
//! number, the count so far and the id of the event. The same event updates the client's [`Record`]. `records` reads records, also
//! after the client's disconnect, and `forget` deletes them. `slow` takes the given time.
//!
//! A message can request more: to increment shared counters, each by a read, an addition and a write (`counters` reads them,
//! `forget-counters` deletes them); to store its number in the client's attributes, which the client's next event must see; and to
//! set a timer of the client, whose event updates the record as well.
//!
//! All data is in bucket `default`, shared by all instances on all app-nodes.

mod fault;
mod record;

use std::time::Duration;

use plugnode_sdk::kv::{self, Bucket};
use plugnode_sdk::prelude::*;
use plugnode_sdk::schedule::Due;
use plugnode_sdk::{client as client_of, context, schedule, to};
use serde::Deserialize;
use serde_json::{Value, json};

pub use record::{Numbers, Record, Timers};

/// The channel of the clients that are told of disconnects.
const WATCHERS: &str = "watchers";
/// The kind of the timers.
const TIMER: &str = "recorder.timer/1";

/// The handler. It keeps no state of clients in memory.
pub struct Recorder {
    /// Number of events that this instance received.
    events: u32,
}

/// The `auth` of a client.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    channel: Option<String>,
    watch: bool,
}

impl Default for Recorder {
    fn default() -> Self {
        fault::on_start();
        Self { events: 0 }
    }
}

impl Handler for Recorder {
    fn on_connection(&mut self, client: &Client, handshake: &Handshake) -> Result {
        self.begin();
        let Auth { channel, watch } = handshake.auth().unwrap_or_default();
        let record = change(client, |record| {
            record.connections += 1;
            record.channel.clone_from(&channel);
        })?;
        if let Some(channel) = channel {
            client.join(channel)?;
        }
        if watch {
            client.join(WATCHERS)?;
        }
        client.emit("welcome", (client.id(), record.connections, &context().id))?;
        Ok(())
    }

    fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
        self.begin();
        match message.event.as_str() {
            "n" => count(client, message),
            // ([id, …]): acks with the record of each client, or null if there is none.
            "records" => {
                let keys = keys(message)?;
                message.ack(bucket()?.get_many::<Value>(&keys)?)?;
                Ok(())
            }
            "forget" => {
                bucket()?.delete_many(&keys(message)?)?;
                message.ack(())?;
                Ok(())
            }
            // ([name, …]): acks with the value of each shared counter, or null if it was never incremented.
            "counters" => {
                message.ack(bucket()?.get_many::<u64>(&counters(message)?)?)?;
                Ok(())
            }
            "forget-counters" => {
                bucket()?.delete_many(&counters(message)?)?;
                message.ack(())?;
                Ok(())
            }
            // (ms): sleeps for this time, then acks with node and release.
            "slow" => {
                std::thread::sleep(Duration::from_millis(message.arg(0)?));
                message.ack(json!({ "node": context().node, "release": context().release }))?;
                Ok(())
            }
            other => Err(Error::reject(format!("unknown event `{other}`"))),
        }
    }

    fn on_timer(&mut self, due: &Due) -> Result {
        self.begin();
        if let Some(client) = &due.client {
            let number = due.data()?;
            change(client, |record| record.timer_is_due(number))?;
        }
        Ok(())
    }

    fn on_disconnect(&mut self, client: &Client, reason: &DisconnectReason) -> Result {
        self.begin();
        let seen = attributes(client)?.number;
        let record = change(client, |record| {
            // Attributes are lost with the io-node.
            if !matches!(reason, DisconnectReason::NodeLost) {
                record.check_attribute(0, seen);
            }
            record.disconnects += 1;
            record.reason = Some(reason_name(reason).into());
        })?;
        to(WATCHERS).emit(
            "gone",
            (client.id(), reason_name(reason), record.disconnects, &context().id),
        )?;
        Ok(())
    }
}

impl Recorder {
    fn begin(&mut self) {
        self.events += 1;
        fault::on_event(self.events);
    }
}

plugnode_sdk::export!(Recorder);

/// Additional requests of a message `n`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Requests {
    /// The id of another client that receives `peer`.
    peer: Option<String>,
    /// `retry` and `panic` fail the first attempt, `fail` every attempt; `reject` makes it a dead letter at once.
    trouble: Option<String>,
    /// Shared counters to increment.
    increment: Vec<String>,
    /// Whether to store its number in the client's attributes.
    attribute: bool,
    /// Bytes to add to the message to the sender.
    padding: usize,
    /// Sets a timer of the client that is due after this many milliseconds.
    timer: Option<u64>,
}

/// The attributes of a client.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Attributes {
    /// The number of the message that set them last.
    number: u64,
}

/// Handles message `n` (number, [`Requests`] or null, optional bytes): emits to the sender, with the bytes, to the other client and
/// to the channel, and then acknowledges, in this order. A requested fault happens halfway.
fn count(client: &Client, message: &Incoming) -> Result {
    let number: u64 = message.arg(0)?;
    let requests: Requests = message.arg::<Option<Requests>>(1)?.unwrap_or_default();
    let bytes: Option<Binary> = message.arg(2)?;
    let seen = attributes(client)?.number;
    let record = change(client, |record| {
        record.add(number);
        record.check_attribute(number, seen);
        if requests.attribute {
            record.attribute = number;
        }
        if requests.timer.is_some() {
            record.set_timer(number);
        }
    })?;
    if let Some(ms) = requests.timer {
        schedule::of_client().after(&number.to_string(), Duration::from_millis(ms), TIMER, &number)?;
    }
    let context = context();
    let (id, count) = (client.id(), record.count);
    match (bytes, requests.padding) {
        (Some(bytes), _) => client.emit("direct", (id, number, count, &context.id, bytes))?,
        (None, 0) => client.emit("direct", (id, number, count, &context.id))?,
        (None, padding) => client.emit("direct", (id, number, count, &context.id, " ".repeat(padding)))?,
    }
    if let Some(peer) = requests.peer {
        client_of(peer).emit("peer", (id, number, count, &context.id))?;
    }
    for name in &requests.increment {
        increment(name)?;
    }
    match requests.trouble.as_deref() {
        Some("reject") => return Err(Error::reject("asked to reject")),
        Some("fail") => return Err(Error::retry("asked to fail")),
        Some("panic") if context.attempt == 1 => panic!("asked to panic"),
        Some(trouble) if context.attempt == 1 => return Err(Error::retry(format!("asked for {trouble}"))),
        _ => {}
    }
    if let Some(channel) = record.channel {
        to(channel).emit("broadcast", (id, number, count, &context.id))?;
    }
    message.ack(json!({
        "number": number,
        "count": count,
        "event": context.id,
        "attempt": context.attempt,
        "node": context.node,
        "instance": context.instance,
        "release": context.release,
    }))?;
    if requests.attribute {
        client.patch_attributes(&json!({ "number": number }))?;
    }
    Ok(())
}

/// Increments a shared counter by a read, an addition and a write.
fn increment(name: &str) -> Result {
    let (bucket, key) = (bucket()?, counter(name));
    let value: u64 = bucket.get(&key)?.unwrap_or_default();
    bucket.set(&key, &(value + 1))?;
    Ok(())
}

fn attributes(client: &Client) -> Result<Attributes> {
    Ok(client.attributes()?)
}

/// Changes the record of a client, and returns the new record.
fn change(client: &Client, change: impl FnOnce(&mut Record)) -> Result<Record> {
    let (bucket, key) = (bucket()?, key(client.id()));
    let mut record: Record = bucket.get(&key)?.unwrap_or_default();
    change(&mut record);
    record.event.clone_from(&context().id);
    bucket.set(&key, &record)?;
    Ok(record)
}

fn bucket() -> Result<Bucket> {
    Ok(kv::open("default")?)
}

fn keys(message: &Incoming) -> Result<Vec<String>> {
    let ids: Vec<String> = message.arg(0)?;
    Ok(ids.iter().map(|id| key(id)).collect())
}

fn key(id: &str) -> String {
    format!("record:{id}")
}

fn counters(message: &Incoming) -> Result<Vec<String>> {
    let names: Vec<String> = message.arg(0)?;
    Ok(names.iter().map(|name| counter(name)).collect())
}

fn counter(name: &str) -> String {
    format!("counter:{name}")
}

/// The name of the reason in the contract.
fn reason_name(reason: &DisconnectReason) -> &str {
    match reason {
        DisconnectReason::ClientDisconnect => "client-disconnect",
        DisconnectReason::ServerDisconnect => "server-disconnect",
        DisconnectReason::TransportClose => "transport-close",
        DisconnectReason::TransportError => "transport-error",
        DisconnectReason::PingTimeout => "ping-timeout",
        DisconnectReason::ParseError => "parse-error",
        DisconnectReason::ServerShutdown => "server-shutdown",
        DisconnectReason::NodeLost => "node-lost",
        DisconnectReason::Other(other) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugnode_sdk::test::{Kit, handshake};

    fn app(clients: &[&str]) -> Kit<Recorder> {
        let mut app = Kit::with_instances(3);
        for id in clients {
            let auth = Some(json!({ "channel": "c", "watch": *id == "watcher" }).to_string());
            app.connect_with(id, Handshake { auth, ..handshake() });
            app.take_sent_to(id);
        }
        app
    }

    fn record(app: &mut Kit<Recorder>, of: &str) -> Option<Record> {
        let answer = app.ask("watcher", "records", (vec![of],)).expect("it acks");
        answer.arg::<Vec<Option<Record>>>(0).expect("records").remove(0)
    }

    fn counters_of(app: &mut Kit<Recorder>, names: &[&str]) -> Vec<Option<u64>> {
        let answer = app.ask("watcher", "counters", (names,)).expect("it acks");
        answer.arg(0).expect("values")
    }

    fn names(app: &mut Kit<Recorder>, of: &str) -> Vec<String> {
        app.take_sent_to(of).into_iter().map(|sent| sent.event).collect()
    }

    #[test]
    fn counts_message_and_emits_in_call_order() {
        let mut app = app(&["ada", "bob", "watcher"]);
        let answer: Value = app
            .ask("ada", "n", (1, json!({ "peer": "bob" }), Binary(vec![7])))
            .expect("it acks")
            .arg(0)
            .expect("a value");
        assert_eq!((&answer["number"], &answer["count"]), (&json!(1), &json!(1)));
        assert_eq!(
            app.sent_to("ada")[0].arg::<Binary>(4).expect("the bytes"),
            Binary(vec![7])
        );
        assert_eq!(names(&mut app, "ada"), ["direct", "broadcast"]);
        assert_eq!(names(&mut app, "bob"), ["peer", "broadcast"]);
        assert_eq!(names(&mut app, "watcher"), ["broadcast"]);
        let record = record(&mut app, "ada").expect("it was seen");
        assert_eq!((record.count, record.connections, record.disconnects), (1, 1, 0));
    }

    #[test]
    fn reports_disconnect_and_keeps_record() {
        let mut app = app(&["ada", "watcher"]);
        app.message("ada", "n", (1, None::<String>));
        app.take_sent_to("watcher");
        app.disconnect("ada", DisconnectReason::NodeLost);
        let gone = app.take_sent_to("watcher").remove(0);
        let (id, reason): (String, String) = (gone.arg(0).expect("an id"), gone.arg(1).expect("a reason"));
        assert_eq!(
            (gone.event.as_str(), id.as_str(), reason.as_str()),
            ("gone", "ada", "node-lost")
        );
        let last = record(&mut app, "ada").expect("it was seen");
        assert_eq!(
            (last.disconnects, last.late, last.reason.as_deref()),
            (1, 0, Some("node-lost"))
        );
        app.ask("watcher", "forget", (vec!["ada"],)).expect("it acks");
        assert_eq!(record(&mut app, "ada"), None);
    }

    #[test]
    fn fault_drops_all_effects() {
        let mut app = app(&["ada", "watcher"]);
        for trouble in ["retry", "panic", "fail", "reject"] {
            let requests = json!({ "trouble": trouble, "increment": ["hits"] });
            assert!(app.try_message("ada", "n", (1, requests)).is_err());
        }
        assert_eq!(counters_of(&mut app, &["hits"]), [None]);
        assert!(app.sent_to("ada").is_empty());
        assert_eq!(record(&mut app, "ada").expect("it was seen").count, 0);
    }

    #[test]
    fn clients_share_counters() {
        let mut app = app(&["ada", "bob", "watcher"]);
        app.message("ada", "n", (1, json!({ "increment": ["hits", "ada"] })));
        app.message("bob", "n", (1, json!({ "increment": ["hits"] })));
        assert_eq!(counters_of(&mut app, &["hits", "ada", "bob"]), [Some(2), Some(1), None]);
        app.ask("watcher", "forget-counters", (vec!["hits"],)).expect("it acks");
        assert_eq!(counters_of(&mut app, &["hits", "ada"]), [None, Some(1)]);
    }

    #[test]
    fn next_event_sees_the_attributes() {
        let mut app = app(&["ada", "watcher"]);
        for number in 1..=3 {
            app.message("ada", "n", (number, json!({ "attribute": number != 2 })));
        }
        app.disconnect("ada", DisconnectReason::ClientDisconnect);
        let record = record(&mut app, "ada").expect("it was seen");
        assert_eq!((record.attribute, record.stale.count), (3, 0));
    }

    #[test]
    fn only_sender_receives_padding() {
        let mut app = app(&["ada", "watcher"]);
        app.message("ada", "n", (1, json!({ "padding": 1_000 })));
        let direct = app.take_sent_to("ada").remove(0);
        assert_eq!(direct.arg::<String>(4).expect("the padding").len(), 1_000);
        assert!(app.take_sent_to("watcher")[0].arg::<String>(4).is_err());
    }

    #[test]
    fn rejects_invalid_messages() {
        let mut app = app(&["ada"]);
        assert!(app.try_message("ada", "n", "one").is_err());
        assert!(app.try_message("ada", "what", ()).is_err());
    }
}
