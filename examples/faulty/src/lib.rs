//! Fails on request, so that tests can check the consequences of a handler's faults.
//!
//! The name of an event selects what happens; [`Faulty::on_message`] is the list. Needs bucket `default`.

mod faults;
mod swap;
mod timers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use plugnode_sdk::prelude::*;
use plugnode_sdk::schedule::Due;
use plugnode_sdk::{AckId, all, context, kv, list_channels, presence, settle, to};
use serde_json::{Value, json};

/// Kind of the timer that acknowledges `faulty.late/1`.
const LATE: &str = "faulty.late-ack/1";
/// Timeout of cluster queries.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// The handler, with the state of this instance.
#[derive(Default)]
pub struct Faulty {
    /// Number of messages that this instance handled.
    handled: u64,
    /// Number of `no-client` events.
    no_clients: u64,
    /// Connected clients whose connection event this instance handled.
    met: BTreeSet<String>,
    /// Values stored with `remember`, by client.
    remembered: BTreeMap<String, Value>,
}

impl Handler for Faulty {
    /// Stores the client's `auth` in its attributes, under `auth`. If it has `refuse`, refuses the client with that message and
    /// with `data`; if it has `break`, panics; if it has `address`, sends the client its address.
    fn on_connection(&mut self, client: &Client, handshake: &Handshake) -> Result {
        self.met.insert(client.id().into());
        if let Some(auth) = handshake.auth::<Value>() {
            client.patch_attributes(&json!({ "auth": auth }))?;
            if auth["address"] == true {
                client.emit("address", (&handshake.remote_addr,))?;
            }
            if auth["break"] == true {
                faults::nested_panic();
            }
            if let Some(message) = auth["refuse"].as_str() {
                kv::open("default")?.set("refused", message)?;
                client.refuse_with(message, &auth["data"])?;
            }
        }
        Ok(())
    }

    /// Events of the server API. `faulty.count/1` counts in a key and acknowledges with the count and the data; `faulty.late/1` is
    /// acknowledged by a timer; `faulty.reject/1` is rejected; others are not acknowledged.
    fn on_custom(&mut self, custom: &Custom) -> Result {
        match &*custom.kind {
            "faulty.count/1" => {
                let data: Value = serde_json::from_slice(&custom.data)?;
                let bucket = kv::open("default")?;
                let count = bucket.get::<u64>("customs")?.unwrap_or(0) + 1;
                bucket.set("customs", &count)?;
                all().emit("counted", count)?;
                custom.ack((count, data))?;
            }
            "faulty.late/1" => {
                plugnode_sdk::schedule::of_app().after("late", Duration::from_millis(50), LATE, &custom.ack_id())?;
            }
            presence::KIND => {
                all().emit("presence", serde_json::from_slice::<Value>(&custom.data)?)?;
            }
            "faulty.reject/1" => return Err(Error::reject("asked to reject")),
            _ => {}
        }
        Ok(())
    }

    fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
        self.handled += 1;
        match message.event.as_str() {
            // Faults. None of these is acknowledged.
            "panic" => faults::nested_panic(),
            "loop" => faults::loop_forever(),
            "eat" => faults::exhaust_memory(),
            "half" => faults::panic_after_effects(client)?,
            "fail-reject" => return Err(Error::reject("asked to reject")),
            // (n): fails the first n attempts, or all without n, then acks with the attempt.
            "fail-retry" => return fail_first_attempts(message),
            // (n): emits `flood` n times, with numbers from 0.
            "flood" => (0..message.arg::<u64>(0)?).try_for_each(|number| client.emit("flood", number))?,
            // (bytes): emits `big` with a text of this length.
            "big" => client.emit("big", "x".repeat(message.arg(0)?))?,

            // (ms): keeps the CPU busy for this time, then acks.
            "slow" => {
                faults::busy_wait(Duration::from_millis(message.arg(0)?));
                message.ack(())?;
            }
            // (text): writes a line to standard error, standard output or the log.
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

            // The instance that answers, and what it knows.
            "where" => message.ack(self.location(client))?,
            "who" => message.ack(json!({
                "id": client.id(),
                "io_node": client.io_node(),
                "namespace": client.namespace(),
                "attributes": client.attributes::<Value>()?,
            }))?,
            "no-clients" => message.ack(self.no_clients)?,
            // (value): stores it in this instance's memory for this client. `recall` acks with it, or with null in other instances.
            "remember" => {
                self.remembered.insert(client.id().into(), message.arg(0)?);
                message.ack(())?;
            }
            "recall" => message.ack((self.remembered.get(client.id()),))?,

            // State: counters, keys, attributes, configuration.
            "count" => message.ack(count(client)?)?,
            "set" => {
                let (key, value): (String, Value) = message.args()?;
                kv::open("default")?.set(&key, &value)?;
                message.ack(())?;
            }
            // (key): increments a shared key by reading and writing it. Acks with the count.
            "tally" => {
                let (key, bucket) = (message.arg::<String>(0)?, kv::open("default")?);
                let count = bucket.get::<u64>(&key)?.unwrap_or(0) + 1;
                bucket.set(&key, &count)?;
                message.ack(count)?;
            }
            // (key): the same with compare-and-swap.
            "swap" => message.ack(swap::swap(&message.arg::<String>(0)?)?)?,
            // (key): the same with an increment.
            "increment" => message.ack(kv::open("default")?.increment(&message.arg::<String>(0)?, 1)?)?,
            // (key, number): adds to the key, without reading it.
            "add" => {
                let (key, delta): (String, i64) = message.args()?;
                kv::open("default")?.add(&key, delta)?;
                message.ack(())?;
            }
            // (key, value, ms): sets the key with an expiry.
            "set-for" => {
                let (key, value, ms): (String, Value, u64) = message.args()?;
                kv::open("default")?.set_for(&key, &value, Duration::from_millis(ms))?;
                message.ack(())?;
            }
            // (key, bytes): sets the key to a text of this length.
            "fill" => {
                let (key, bytes): (String, usize) = message.args()?;
                kv::open("default")?.set(&key, &"x".repeat(bytes))?;
                message.ack(())?;
            }
            // (keys): acks with the number of texts under these keys and their total bytes, or with the error.
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

            // Channels: (channel), (channel), (channel, event, argument).
            "join" => {
                client.join(message.arg::<String>(0)?)?;
                message.ack(())?;
            }
            "leave" => {
                client.leave(message.arg::<String>(0)?)?;
                message.ack(())?;
            }
            // (channel): all of its clients leave it.
            "empty" => {
                let channel: String = message.arg(0)?;
                to(channel.as_str()).leave(channel.as_str())?;
                message.ack(())?;
            }
            // (channel): acknowledges the number of its clients, and their ids and names.
            "present" => {
                let channel: String = message.arg(0)?;
                let members = presence::members(&channel)?.into_iter().map(|member| {
                    let attributes: Value = serde_json::from_str(&member.attributes.unwrap_or_default())?;
                    Ok((member.client, attributes["name"].clone()))
                });
                let members = members.collect::<Result<Vec<_>>>()?;
                message.ack(((presence::count(&channel)?, members),))?;
            }
            // (name)
            "name" => {
                client.patch_attributes(&json!({ "name": message.arg::<Value>(0)? }))?;
                message.ack(())?;
            }
            "say" => {
                let (channel, event, argument): (String, String, Value) = message.args()?;
                to(channel).emit(&event, (argument,))?;
                message.ack(())?;
            }
            // (event, argument): emits to all other clients.
            "broadcast" => {
                let (event, argument): (String, Value) = message.args()?;
                client.broadcast(&event, (argument,))?;
                message.ack(())?;
            }
            // (event, argument, ms): sends the client a request; its answer is emitted to it as `replied`.
            "request" => {
                let (event, argument, timeout): (String, Value, u64) = message.args()?;
                client.request(&event, (argument,), Duration::from_millis(timeout), &event)?;
            }
            // Cluster queries; the result is emitted to the client as `replied`.
            // (channel, event, argument, ms): collects the acknowledgements of the clients of a channel.
            "collect" => {
                let (channel, event, argument, timeout): (String, String, Value, u64) = message.args()?;
                to(channel).collect(&event, (argument,), Duration::from_millis(timeout), "collect")?;
            }
            // (most), (most): finds clients, lists channels.
            "find" => all().find_clients(message.arg(0)?, QUERY_TIMEOUT, "find")?,
            "channels" => list_channels(message.arg(0)?, QUERY_TIMEOUT, "channels")?,
            // (channel): joins all clients to it; the result arrives when all io-nodes have done so.
            "gather" => {
                all().join(message.arg::<String>(0)?)?;
                settle(QUERY_TIMEOUT, "gather")?;
            }
            // (close): disconnects the client, or closes its connection if true.
            "kick" if message.arg::<Option<bool>>(0)? == Some(true) => client.close()?,
            "kick" => client.disconnect()?,
            // From then on, the client receives `gone` with id, reason and channels (or null) for every disconnect.
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
        // Makes cluster queries, if the client's `auth` has `ask`.
        if client.attributes::<Value>()?["auth"]["ask"] == true {
            all().collect("any", (), Duration::ZERO, "collect")?;
            all().find_clients(0, QUERY_TIMEOUT, "find")?;
            list_channels(10, QUERY_TIMEOUT, "channels")?;
            settle(QUERY_TIMEOUT, "settle")?;
        }
        let channels = context().channels().map(BTreeSet::from_iter);
        to("watchers").emit("gone", (client.id(), reason_text(reason), channels))?;
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
        if due.kind == LATE {
            let ack: Option<AckId> = due.data()?;
            return Ok(ack.map_or(Ok(()), |ack| ack.answer("late"))?);
        }
        timers::due(due)
    }

    /// Emits `late` to watchers, with the client's id, the token and the answer.
    fn on_late_reply(&mut self, client_id: &str, reply: &Reply) -> Result {
        let answer = reply.answer.as_ref().map(|answer| answer.arg::<Value>(0)).transpose()?;
        let token = String::from_utf8_lossy(&reply.token);
        to("watchers").emit("late", (client_id, token, answer))?;
        Ok(())
    }
}

plugnode_sdk::export!(Faulty);

impl Faulty {
    fn location(&self, client: &Client) -> Value {
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

fn fail_first_attempts(message: &Incoming) -> Result {
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

/// The reason as Socket.IO's server formats it, where it has one.
fn reason_text(reason: &DisconnectReason) -> &str {
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
    fn panic_drops_effects_and_keeps_earlier_counts() {
        let mut app = Kit::<Faulty>::new();
        app.connect("ada");
        assert_eq!(ask(&mut app, "count", ()), 1);
        let failure = app.try_message("ada", "half", ()).unwrap_err();
        assert!(matches!(failure, Failure::Panic(message) if message == "panicked after effects"));
        assert_eq!(ask(&mut app, "get", "half"), Value::Null);
        assert!(app.sent_to("ada").is_empty());
        assert_eq!(ask(&mut app, "count", ()), 2);
    }

    #[test]
    fn refuses_clients_by_auth() {
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
    fn reports_each_kind_of_failure() {
        let mut app = Kit::<Faulty>::new();
        app.connect("ada");
        let panic = app.try_message("ada", "panic", ()).unwrap_err();
        assert!(matches!(panic, Failure::Panic(message) if message.contains("panicked on request")));
        let retry = app.try_message("ada", "fail-retry", ()).unwrap_err();
        assert!(matches!(retry, Failure::Error(Error::Retry(_))));
        assert_eq!(ask(&mut app, "fail-retry", 0), 1);
        let reject = app.try_message("ada", "fail-reject", ()).unwrap_err();
        assert!(matches!(reject, Failure::Error(Error::Reject(_))));
    }

    #[test]
    fn where_and_recall_show_the_dispatch_mode() {
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
    fn echoes_other_events() {
        let mut app = Kit::<Faulty>::new();
        app.connect("ada");
        app.message("ada", "else", (1, 2));
        assert_eq!(app.sent_to("ada"), [Sent::new("else", (1, 2))]);
    }

    #[test]
    fn watchers_receive_id_reason_and_channels_of_disconnects() {
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
