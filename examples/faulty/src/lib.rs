//! Misbehaves on request, so that tests can see what a handler's faults cost, and whom.
//!
//! Each event is a request by its name; [`Faulty::on_message`] is the list. Needs bucket `default`.

mod faults;
mod swap;
mod timers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use plugnode_sdk::prelude::*;
use plugnode_sdk::schedule::Due;
use plugnode_sdk::{all, context, kv, list_channels, settle, to};
use serde_json::{Value, json};

/// How long io-nodes are waited for.
const SOON: Duration = Duration::from_secs(2);

/// The handler, with what this instance remembers.
#[derive(Default)]
pub struct Faulty {
    /// Messages that this instance handled.
    handled: u64,
    /// `no-client` events that it got.
    no_clients: u64,
    /// Clients whose connection it handled and that are still there.
    met: BTreeSet<String>,
    /// What clients asked it to remember.
    remembered: BTreeMap<String, Value>,
}

impl Handler for Faulty {
    /// Keeps what the client gave as `auth` in its attributes, under `auth`. With `refuse` in it, refuses the client with that
    /// as message and with `data`; with `break`, panics; with `address`, tells the client its address.
    fn on_connection(&mut self, client: &Client, handshake: &Handshake) -> Result {
        self.met.insert(client.id().into());
        if let Some(auth) = handshake.auth::<Value>() {
            client.patch_attributes(&json!({ "auth": auth }))?;
            if auth["address"] == true {
                client.emit("address", (&handshake.remote_addr,))?;
            }
            if auth["break"] == true {
                faults::tip_over();
            }
            if let Some(message) = auth["refuse"].as_str() {
                kv::open("default")?.set("refused", message)?;
                client.refuse_with(message, &auth["data"])?;
            }
        }
        Ok(())
    }

    fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
        self.handled += 1;
        match message.event.as_str() {
            // Faults. None of these answers.
            "panic" => faults::tip_over(),
            "loop" => faults::spin(),
            "eat" => faults::devour(),
            "half" => faults::do_half(client)?,
            "fail-reject" => return Err(Error::reject("asked to reject")),
            // (n): fails the first n attempts, or all of them, and then acks with the attempt.
            "fail-retry" => return fail_at_first(message),
            // (n): emits `flood` n times, numbered from 0.
            "flood" => (0..message.arg::<u64>(0)?).try_for_each(|number| client.emit("flood", number))?,
            // (bytes): emits `big` with a text that long.
            "big" => client.emit("big", "x".repeat(message.arg(0)?))?,

            // (ms): is busy that long, and then acks.
            "slow" => {
                faults::be_busy(Duration::from_millis(message.arg(0)?));
                message.ack(())?;
            }
            // (text): prints a line.
            "stderr" => {
                eprintln!("{}", message.arg::<String>(0)?);
                message.ack(())?;
            }
            "stdout" => {
                println!("{}", message.arg::<String>(0)?);
                message.ack(())?;
            }
            "log" => {
                plugnode_sdk::log::warn!("{}", message.arg::<String>(0)?);
                message.ack(())?;
            }

            // Who answers, and what it has seen.
            "where" => message.ack(self.whereabouts(client))?,
            "who" => message.ack(json!({
                "id": client.id(),
                "io_node": client.io_node(),
                "namespace": client.namespace(),
                "attributes": client.attributes::<Value>()?,
            }))?,
            "no-clients" => message.ack(self.no_clients)?,
            // (value): in this instance's memory, for this client. `recall` acks with it, or with null elsewhere.
            "remember" => {
                self.remembered.insert(client.id().into(), message.arg(0)?);
                message.ack(())?;
            }
            "recall" => message.ack((self.remembered.get(client.id()),))?,

            // State: a counter for each client, plain keys, attributes, configuration.
            "count" => message.ack(count(client)?)?,
            "set" => {
                let (key, value): (String, Value) = message.args()?;
                kv::open("default")?.set(&key, &value)?;
                message.ack(())?;
            }
            // (key): counts under a key that all may share, by reading and writing it. Acks with the count.
            "tally" => {
                let (key, bucket) = (message.arg::<String>(0)?, kv::open("default")?);
                let count = bucket.get::<u64>(&key)?.unwrap_or(0) + 1;
                bucket.set(&key, &count)?;
                message.ack(count)?;
            }
            // (key): the same by a handle that compares and swaps,
            "swap" => message.ack(swap::swap(&message.arg::<String>(0)?)?)?,
            // by an increment,
            "increment" => message.ack(kv::open("default")?.increment(&message.arg::<String>(0)?, 1)?)?,
            // and (key, number) by an addition, which does not know the count.
            "add" => {
                let (key, delta): (String, i64) = message.args()?;
                kv::open("default")?.add(&key, delta)?;
                message.ack(())?;
            }
            // (key, value, ms): for a time.
            "set-for" => {
                let (key, value, ms): (String, Value, u64) = message.args()?;
                kv::open("default")?.set_for(&key, &value, Duration::from_millis(ms))?;
                message.ack(())?;
            }
            // (key, bytes): a long text.
            "fill" => {
                let (key, bytes): (String, usize) = message.args()?;
                kv::open("default")?.set(&key, &"x".repeat(bytes))?;
                message.ack(())?;
            }
            // (keys): how many texts there are under these, and how many bytes they have; or why that cannot be read.
            "get-many" => {
                let keys: Vec<String> = message.arg(0)?;
                match kv::open("default")?.get_many::<String>(&keys) {
                    Ok(texts) => {
                        let texts: Vec<String> = texts.into_iter().flatten().collect();
                        message.ack((texts.len(), texts.iter().map(String::len).sum::<usize>()))?;
                    }
                    Err(error) => message.ack(error.to_string())?,
                }
            }
            // (prefix)
            "keys-with" => {
                let mut keys = kv::open("default")?.keys_with(&message.arg::<String>(0)?)?;
                keys.sort();
                message.ack(keys)?;
            }
            "get" => message.ack((kv::open("default")?.get::<Value>(&message.arg::<String>(0)?)?,))?,
            "delete" => {
                kv::open("default")?.delete(&message.arg::<String>(0)?)?;
                message.ack(())?;
            }
            "keys" => {
                let mut keys = kv::open("default")?.keys()?;
                keys.sort();
                message.ack(keys)?;
            }
            "patch" => {
                client.patch_attributes(&message.arg::<Value>(0)?)?;
                message.ack(())?;
            }
            "config" => message.ack((plugnode_sdk::config::get(&message.arg::<String>(0)?)?,))?,

            // (channel), (channel), (channel, event, argument).
            "join" => {
                client.join(message.arg::<String>(0)?)?;
                message.ack(())?;
            }
            "leave" => {
                client.leave(message.arg::<String>(0)?)?;
                message.ack(())?;
            }
            "say" => {
                let (channel, event, argument): (String, String, Value) = message.args()?;
                to(channel).emit(&event, (argument,))?;
                message.ack(())?;
            }
            // (event, argument): to everybody else.
            "broadcast" => {
                let (event, argument): (String, Value) = message.args()?;
                client.broadcast(&event, (argument,))?;
                message.ack(())?;
            }
            // (event, argument, ms): asks the client back; its answer comes to it as `replied`.
            "request" => {
                let (event, argument, timeout): (String, Value, u64) = message.args()?;
                client.request(&event, (argument,), Duration::from_millis(timeout), &event)?;
            }
            // Questions to all io-nodes; the answer comes to the client as `replied`.
            // (channel, event, argument, ms): what the clients of a channel answer to an event.
            "collect" => {
                let (channel, event, argument, timeout): (String, String, Value, u64) = message.args()?;
                to(channel).collect(&event, (argument,), Duration::from_millis(timeout), "collect")?;
            }
            // (most), (most): clients, and channels.
            "find" => all().find_clients(message.arg(0)?, SOON, "find")?,
            "channels" => list_channels(message.arg(0)?, SOON, "channels")?,
            // (channel): everybody joins it, and that has been done everywhere when the answer comes.
            "gather" => {
                all().join(message.arg::<String>(0)?)?;
                settle(SOON, "gather")?;
            }
            // (close): disconnects the client, or closes its connection.
            "kick" if message.arg::<Option<bool>>(0)? == Some(true) => client.close()?,
            "kick" => client.disconnect()?,
            // From then on, is told of every disconnect, as `gone` with id, reason and the channels, or null.
            "watch" => {
                client.join("watchers")?;
                message.ack(())?;
            }

            "timer-after" => timers::after(message)?,
            "timer-every" => timers::every(message)?,
            "timer-cancel" => timers::cancel(message)?,

            event => {
                client.emit(event, &message.payload)?;
                message.ack(&message.payload)?;
            }
        }
        Ok(())
    }

    fn on_disconnect(&mut self, client: &Client, reason: &DisconnectReason) -> Result {
        self.met.remove(client.id());
        self.remembered.remove(client.id());
        // Asks all io-nodes, if the client gave `ask` in its `auth`.
        if client.attributes::<Value>()?["auth"]["ask"] == true {
            all().collect("any", (), Duration::ZERO, "collect")?;
            all().find_clients(0, SOON, "find")?;
            list_channels(10, SOON, "channels")?;
            settle(SOON, "settle")?;
        }
        let channels = context().channels().map(BTreeSet::from_iter);
        to("watchers").emit("gone", (client.id(), word(reason), channels))?;
        Ok(())
    }

    fn on_no_client(&mut self, _: &Client) -> Result {
        self.no_clients += 1;
        Ok(())
    }

    /// Emits `replied` with the token and the first argument of the answer, or null for none.
    fn on_reply(&mut self, client: &Client, reply: &Reply) -> Result {
        let answer = reply.answer.as_ref().map(|answer| answer.arg::<Value>(0)).transpose()?;
        client.emit("replied", (String::from_utf8_lossy(&reply.token), answer))?;
        Ok(())
    }

    fn on_timer(&mut self, due: &Due) -> Result {
        timers::due(due)
    }

    /// Tells watchers, as `late` with the client's id, the token and the answer.
    fn on_late_reply(&mut self, client_id: &str, reply: &Reply) -> Result {
        let answer = reply.answer.as_ref().map(|answer| answer.arg::<Value>(0)).transpose()?;
        let token = String::from_utf8_lossy(&reply.token);
        to("watchers").emit("late", (client_id, token, answer))?;
        Ok(())
    }
}

plugnode_sdk::export!(Faulty);

impl Faulty {
    fn whereabouts(&self, client: &Client) -> Value {
        let context = context();
        json!({
            "node": context.node,
            "instance": context.instance,
            "release": context.release,
            "attempt": context.attempt,
            "event": context.id,
            "handled": self.handled,
            "met": self.met.contains(client.id()),
        })
    }
}

fn fail_at_first(message: &Incoming) -> Result {
    let attempt = context().attempt;
    let failures = message.arg::<Option<u32>>(0)?.unwrap_or(u32::MAX);
    if attempt <= failures {
        return Err(Error::retry(format!("asked to fail attempt {attempt}")));
    }
    message.ack(attempt)?;
    Ok(())
}

fn count(client: &Client) -> Result<u64> {
    let bucket = kv::open("default")?;
    let key = format!("count:{}", client.id());
    let count = bucket.get::<u64>(&key)?.unwrap_or(0) + 1;
    bucket.set(&key, &count)?;
    Ok(count)
}

/// The reason as Socket.IO's own servers spell it, where they have it.
fn word(reason: &DisconnectReason) -> &str {
    match reason {
        DisconnectReason::ClientDisconnect => "client namespace disconnect",
        DisconnectReason::ServerDisconnect => "server namespace disconnect",
        DisconnectReason::TransportClose => "transport close",
        DisconnectReason::TransportError => "transport error",
        DisconnectReason::PingTimeout => "ping timeout",
        DisconnectReason::ParseError => "parse error",
        DisconnectReason::ServerShutdown => "server shutting down",
        DisconnectReason::NodeLost => "node lost",
        DisconnectReason::Other(other) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugnode_sdk::test::{Failure, Kit, Sent, handshake};

    fn ask(app: &mut Kit<Faulty>, event: &str, args: impl plugnode_sdk::Args) -> Value {
        app.ask("ada", event, args)
            .expect("it acks")
            .arg(0)
            .expect("any argument is a value")
    }

    #[test]
    fn counts_survive_a_half_done_event_that_leaves_nothing() {
        let mut app = Kit::<Faulty>::new();
        app.connect("ada");
        assert_eq!(ask(&mut app, "count", ()), 1);
        let failure = app.try_message("ada", "half", ()).unwrap_err();
        assert!(matches!(failure, Failure::Panic(message) if message == "half of it is done"));
        assert_eq!(ask(&mut app, "get", "half"), Value::Null);
        assert!(app.sent_to("ada").is_empty());
        assert_eq!(ask(&mut app, "count", ()), 2);
    }

    #[test]
    fn it_refuses_whom_it_is_asked_to() {
        let mut app = Kit::<Faulty>::new().with_admission();
        for (id, auth) in [
            ("ada", r#"{"name":"ada"}"#),
            ("bob", r#"{"refuse":"full","data":7}"#),
            ("cyd", r#"{"break":true}"#),
        ] {
            let auth = Some(auth.into());
            let _ = app.try_connect(id, Handshake { auth, ..handshake() });
        }
        assert!(app.is_connected("ada") && !app.is_connected("bob") && !app.is_connected("cyd"));
        let refusal = app.refusal_of("bob").unwrap();
        assert_eq!((refusal.message.as_str(), refusal.data.as_deref()), ("full", Some("7")));
        app.message("ada", "gather", "all");
        assert_eq!(app.sent_to("ada")[0].arg::<String>(0).unwrap(), "gather");
    }

    #[test]
    fn faults_are_faults() {
        let mut app = Kit::<Faulty>::new();
        app.connect("ada");
        let panic = app.try_message("ada", "panic", ()).unwrap_err();
        assert!(matches!(panic, Failure::Panic(message) if message.contains("tipped over")));
        let retry = app.try_message("ada", "fail-retry", ()).unwrap_err();
        assert!(matches!(retry, Failure::Error(Error::Retry(_))));
        assert_eq!(ask(&mut app, "fail-retry", 0), 1);
        let reject = app.try_message("ada", "fail-reject", ()).unwrap_err();
        assert!(matches!(reject, Failure::Error(Error::Reject(_))));
    }

    #[test]
    fn round_robin_and_sticky_can_be_told_apart() {
        let mut app = Kit::<Faulty>::with_instances(2);
        app.connect("ada");
        let seen = [0; 3].map(|_| ask(&mut app, "where", ()));
        assert_eq!(seen.clone().map(|at| at["instance"].clone()), [1, 0, 1]);
        assert_eq!(seen.map(|at| at["met"].clone()), [false, true, false]);
        assert_eq!(ask(&mut app, "remember", 7), Value::Null);
        assert_eq!(ask(&mut app, "recall", ()), Value::Null);
        assert_eq!(ask(&mut app, "recall", ()), 7);

        let mut app = Kit::<Faulty>::with_instances(2).sticky();
        app.connect("ada");
        assert_eq!(ask(&mut app, "remember", 7), Value::Null);
        assert_eq!(ask(&mut app, "recall", ()), 7);
        assert_eq!(ask(&mut app, "no-clients", ()), 0);
    }

    #[test]
    fn everything_else_echoes() {
        let mut app = Kit::<Faulty>::new();
        app.connect("ada");
        app.message("ada", "else", (1, 2));
        assert_eq!(app.sent_to("ada"), [Sent::new("else", (1, 2))]);
    }

    #[test]
    fn watchers_hear_who_goes_and_why() {
        let mut app = Kit::<Faulty>::new();
        app.connect("ada");
        app.connect_with(
            "bob",
            Handshake {
                auth: Some("7".into()),
                ..handshake()
            },
        );
        assert_eq!(app.attributes_of("bob"), &json!({"auth": 7}));
        app.message("ada", "watch", ());
        app.message("bob", "join", "here");
        app.message("bob", "kick", ());
        app.connect("cyd");
        app.disconnect("cyd", DisconnectReason::NodeLost);
        assert_eq!(
            app.sent_to("ada"),
            [
                Sent::new("gone", ("bob", "server namespace disconnect", ["here"])),
                Sent::new("gone", ("cyd", "node lost", ())),
            ]
        );
    }
}
