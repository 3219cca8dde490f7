//! The chat of socket.io-cluster: clients see each other's messages, who joins and who leaves. A new client receives the last
//! fifteen messages.
//!
//! The handler keeps no state in memory: names are attributes of the clients, and the history is in bucket `default`. Any instance
//! can handle any event, and a new release can take over during a conversation.
//!
//! | from a client | acknowledgement |
//! |---|---|
//! | `message` text | `{ok: MESSAGE}` or `{error}` |
//! | `set name` name | `{ok: name}` or `{error}` |
//!
//! | to clients | recipients |
//! |---|---|
//! | `welcome` `{name, release}`, `history` `[MESSAGE, …]` | the new client |
//! | `joined` `{id, name}`, `left` `{id, name}`, `renamed` `{id, name, was}`, `message` MESSAGE | all other clients |
//!
//! A MESSAGE is `{id, from, name, body, at, release}`; `release` is the release that handled it. A client can set its initial name
//! with `auth: {name}`.
//!
//! `examples/js/chat`, `examples/ts/chat` and `examples/python/chat` are the same chat; each can replace any other while clients
//! are connected.

mod history;
mod text;

use plugnode_sdk::context;
use plugnode_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The handler.
#[derive(Default)]
pub struct Chat;

#[derive(Serialize)]
struct Said<'a> {
    id: &'a str,
    from: &'a str,
    name: &'a str,
    body: &'a str,
    at: u64,
    release: &'a str,
}

/// The attributes of a client; its `auth` is the same.
#[derive(Default, Deserialize)]
struct Person {
    name: Option<String>,
}

impl Handler for Chat {
    fn on_connection(&mut self, client: &Client, handshake: &Handshake) -> Result {
        let wanted = handshake.auth::<Person>().and_then(|person| person.name);
        if let Some(name) = wanted.and_then(|name| text::name(&name)) {
            client.patch_attributes(&json!({ "name": name }))?;
        }
        let name = name_of(client);
        client.emit("welcome", json!({ "name": name, "release": context().release }))?;
        client.emit("history", history::last()?)?;
        client.broadcast("joined", json!({ "id": client.id(), "name": name }))?;
        Ok(())
    }

    fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
        match message.event.as_str() {
            "message" => say(client, message),
            "set name" => rename(client, message),
            // Like any Socket.IO server, ignores events without a listener.
            _ => Ok(()),
        }
    }

    fn on_disconnect(&mut self, client: &Client, _: &DisconnectReason) -> Result {
        client.broadcast("left", json!({ "id": client.id(), "name": name_of(client) }))?;
        Ok(())
    }
}

plugnode_sdk::export!(Chat);

fn say(client: &Client, message: &Incoming) -> Result {
    let Some(body) = message.arg::<String>(0).ok().and_then(|body| text::body(&body)) else {
        return Ok(message.ack(json!({ "error": text::BODY_RULE }))?);
    };
    let context = context();
    let said = Said {
        id: &context.id,
        from: client.id(),
        name: &name_of(client),
        body: &body,
        at: context.received_at_ms,
        release: &context.release,
    };
    history::add(said.at, said.id, &said)?;
    client.broadcast("message", &said)?;
    message.ack(json!({ "ok": said }))?;
    Ok(())
}

fn rename(client: &Client, message: &Incoming) -> Result {
    let Some(name) = message.arg::<String>(0).ok().and_then(|name| text::name(&name)) else {
        return Ok(message.ack(json!({ "error": text::NAME_RULE }))?);
    };
    let was = name_of(client);
    if was != name {
        client.patch_attributes(&json!({ "name": name }))?;
        client.broadcast("renamed", json!({ "id": client.id(), "name": name, "was": was }))?;
    }
    message.ack(json!({ "ok": name }))?;
    Ok(())
}

fn name_of(client: &Client) -> String {
    let name = client.attributes::<Person>().unwrap_or_default().name;
    name.unwrap_or_else(|| format!("guest {}", client.id().chars().take(4).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugnode_sdk::test::{Kit, Sent, handshake};
    use serde_json::Value;

    fn named(name: &str) -> Handshake {
        Handshake {
            auth: Some(json!({ "name": name }).to_string()),
            ..handshake()
        }
    }

    fn bodies(history: &Sent) -> Vec<String> {
        let said = history.arg::<Vec<Value>>(0).unwrap();
        said.iter()
            .map(|said| said["body"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn announces_joins_and_leaves() {
        let mut app = Kit::<Chat>::new();
        let ada = app.connect_with("ada", named(" Ada\tL. "));
        let bob = app.connect("bobby");
        assert_eq!(
            app.take_sent_to(&ada)[2],
            Sent::new("joined", json!({ "id": "bobby", "name": "guest bobb" }))
        );
        app.disconnect(&ada, DisconnectReason::TransportClose);
        assert_eq!(
            app.sent_to(&bob)[2],
            Sent::new("left", json!({ "id": "ada", "name": "Ada L." }))
        );
    }

    #[test]
    fn message_reaches_others_and_is_acknowledged() {
        let mut app = Kit::<Chat>::with_instances(3);
        let ada = app.connect_with("ada", named("Ada"));
        let bob = app.connect("bob");
        app.take_sent_to(&ada);
        let answer = app.ask(&ada, "message", " hello ").unwrap().arg::<Value>(0).unwrap();
        let heard = app.sent_to(&bob).last().unwrap();
        assert_eq!(heard, &Sent::new("message", &answer["ok"]));
        assert_eq!(
            (&answer["ok"]["name"], &answer["ok"]["body"]),
            (&json!("Ada"), &json!("hello"))
        );
        assert!(app.sent_to(&ada).is_empty());
    }

    #[test]
    fn new_client_gets_last_fifteen_messages_in_order() {
        let mut app = Kit::<Chat>::with_instances(4);
        app.connect("ada");
        for number in 0..20 {
            app.message("ada", "message", format!("{number}"));
        }
        app.connect("bob");
        let expected = (5..20).map(|number| number.to_string()).collect::<Vec<_>>();
        assert_eq!(bodies(&app.sent_to("bob")[1]), expected);
        assert_eq!(app.keys("default").len(), 15);
    }

    #[test]
    fn leaves_other_keys_of_the_bucket_alone() {
        let mut app = Kit::<Chat>::new()
            .with_value("default", "aaa", 1)
            .with_value("default", "zzz", 1);
        app.connect("ada");
        for _ in 0..20 {
            app.message("ada", "message", "again");
        }
        assert_eq!(app.keys("default").len(), 17);
    }

    #[test]
    fn every_instance_sees_a_changed_name() {
        let mut app = Kit::<Chat>::with_instances(2);
        app.connect_with("ada", named("Ada"));
        app.connect("bob");
        let answer = app.ask("ada", "set name", "Countess").unwrap();
        assert_eq!(answer.arg::<Value>(0).unwrap(), json!({ "ok": "Countess" }));
        for _ in 0..2 {
            app.message("ada", "message", "hi");
        }
        let heard = app.sent_to("bob");
        assert_eq!(
            heard[2],
            Sent::new("renamed", json!({ "id": "ada", "name": "Countess", "was": "Ada" }))
        );
        assert!(
            heard[3..]
                .iter()
                .all(|sent| sent.arg::<Value>(0).unwrap()["name"] == "Countess")
        );
    }

    #[test]
    fn answers_invalid_input_with_error() {
        let mut app = Kit::<Chat>::new();
        app.connect("ada");
        app.connect("bob");
        app.take_sent_to("bob");
        for (event, args) in [
            ("message", json!("  ")),
            ("message", json!({})),
            ("set name", json!("")),
        ] {
            let answer = app.ask("ada", event, args).unwrap().arg::<Value>(0).unwrap();
            assert!(answer["error"].is_string(), "{event}: {answer}");
        }
        assert!(app.sent_to("bob").is_empty() && app.keys("default").is_empty());
    }
}
