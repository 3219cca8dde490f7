//! The handler that `plugnode-check` speaks to: it counts what each client sends, and says so wherever it can be heard.
//!
//! A client gives `{"channel": NAME}` as `auth`, or `{"watch": true}` to be told of those who go, and hears `welcome`
//! once it is in its channel. Of each message `n` with a number, the sender hears `direct`, another client that the
//! message names hears `peer`, and the channel hears `broadcast`; at last comes the acknowledgement. All of them carry
//! the sender, the number, the count so far and the id of the event. The same event writes the client's [`Record`], which
//! `records` reads, also when the client is long gone, and `forget` deletes. `slow` takes as long as it is told.
//!
//! Everything is in bucket `default`, and each key belongs to one client, so that any number of instances on any number
//! of app-nodes may serve it.

mod fault;
mod record;

use std::time::Duration;

use plugnode_sdk::kv::{self, Bucket};
use plugnode_sdk::prelude::*;
use plugnode_sdk::{client as client_of, context, to};
use serde::Deserialize;
use serde_json::{Value, json};

pub use record::{Numbers, Record};

/// The channel of those who want to know who went.
const WATCHERS: &str = "watchers";

/// The handler. It remembers nothing of its clients.
pub struct Recorder {
    /// How many events this instance was given.
    events: u32,
}

/// What a client gives when it connects.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    channel: Option<String>,
    watch: bool,
}

impl Default for Recorder {
    fn default() -> Self {
        fault::when_it_starts();
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
            // ([id, …]): acks with the record of each, or null for who was never seen.
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
            // (ms): takes so long, and then acks with who answers.
            "slow" => {
                std::thread::sleep(Duration::from_millis(message.arg(0)?));
                message.ack(json!({ "node": context().node, "release": context().release }))?;
                Ok(())
            }
            other => Err(Error::reject(format!("there is no event `{other}` here"))),
        }
    }

    fn on_disconnect(&mut self, client: &Client, reason: &DisconnectReason) -> Result {
        self.begin();
        let record = change(client, |record| {
            record.disconnects += 1;
            record.reason = Some(word(reason).into());
        })?;
        to(WATCHERS).emit("gone", (client.id(), word(reason), record.disconnects, &context().id))?;
        Ok(())
    }
}

impl Recorder {
    fn begin(&mut self) {
        self.events += 1;
        fault::when_it_handles(self.events);
    }
}

plugnode_sdk::export!(Recorder);

/// Message `n` (number, id of another client or null, bytes or null, and perhaps trouble): to the sender with the bytes, to
/// the other client, to the channel, and to whoever waits for an acknowledgement, in this order. Trouble comes when half
/// of it is done.
fn count(client: &Client, message: &Incoming) -> Result {
    let number: u64 = message.arg(0)?;
    let peer: Option<String> = message.arg(1)?;
    let bytes: Option<Binary> = message.arg(2)?;
    let record = change(client, |record| record.add(number))?;
    let context = context();
    let (id, count) = (client.id(), record.count);
    match bytes {
        Some(bytes) => client.emit("direct", (id, number, count, &context.id, bytes))?,
        None => client.emit("direct", (id, number, count, &context.id))?,
    }
    if let Some(peer) = peer {
        client_of(peer).emit("peer", (id, number, count, &context.id))?;
    }
    match message
        .arg::<Option<String>>(3)?
        .filter(|_| context.attempt == 1)
        .as_deref()
    {
        None => {}
        Some("panic") => panic!("asked to panic"),
        Some(trouble) => return Err(Error::retry(format!("asked for {trouble}"))),
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
    Ok(())
}

/// Changes the record of a client, and returns what it is now.
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

/// A word for each reason, as the contract spells it.
fn word(reason: &DisconnectReason) -> &str {
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

    fn names(app: &mut Kit<Recorder>, of: &str) -> Vec<String> {
        app.take_sent_to(of).into_iter().map(|sent| sent.event).collect()
    }

    #[test]
    fn a_message_is_counted_and_heard_in_the_order_of_the_calls() {
        let mut app = app(&["ada", "bob", "watcher"]);
        let answer: Value = app
            .ask("ada", "n", (1, "bob", Binary(vec![7])))
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
    fn who_goes_is_told_and_stays_on_record() {
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
    fn trouble_leaves_nothing() {
        let mut app = app(&["ada", "watcher"]);
        for trouble in ["retry", "panic"] {
            assert!(app.try_message("ada", "n", (1, (), (), trouble)).is_err());
        }
        assert!(app.sent_to("ada").is_empty());
        assert_eq!(record(&mut app, "ada").expect("it was seen").count, 0);
    }

    #[test]
    fn nonsense_is_rejected() {
        let mut app = app(&["ada"]);
        assert!(app.try_message("ada", "n", "one").is_err());
        assert!(app.try_message("ada", "what", ()).is_err());
    }
}
