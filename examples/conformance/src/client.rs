//! The configuration `client`: what suites of client libraries ask for, in a handful of namespaces.

use std::time::Duration;

use plugnode_sdk::kv::{self, Bucket};
use plugnode_sdk::prelude::*;
use plugnode_sdk::{Payload, context};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::date::iso;
use crate::one::one;

/// How long a client may take to acknowledge.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is kept of a client, between its events.
#[derive(Default, Serialize, Deserialize)]
struct Notes {
    handshake: Value,
    /// Whether `abuff1` came, with binary.
    abuff1: bool,
}

/// Refuses whom the namespace has no place for.
pub(crate) fn admit(client: &Client, handshake: &Handshake) -> Result {
    let query: Map<String, Value> = form_urlencoded::parse(handshake.query.as_bytes())
        .map(|(name, value)| (name.into_owned(), Value::from(value)))
        .collect();
    match client.namespace() {
        "/" if query.get("fail").is_some_and(|fail| fail != "") => client.refuse("Auth failed (main namespace)")?,
        "/no" => client.refuse("Auth failed (custom namespace)")?,
        namespace => {
            let auth = handshake.auth().unwrap_or_else(|| Value::Object(Map::new()));
            let handshake = serde_json::json!({ "query": query, "auth": auth });
            match namespace {
                "/abc" => client.emit("handshake", handshake)?,
                "/" => note(client, |notes| notes.handshake = handshake)?,
                _ => {}
            }
        }
    }
    Ok(())
}

pub(crate) fn answer(client: &Client, message: &Incoming) -> Result {
    match (client.namespace(), message.event.as_str()) {
        ("/" | "/foo", "getId") => message.ack(client.id())?,
        ("/", event) => in_main(client, event, message)?,
        _ => {}
    }
    Ok(())
}

fn in_main(client: &Client, event: &str, message: &Incoming) -> Result {
    match event {
        "hi" => client.emit("hi", ())?,
        "echo" => message.ack(&one(&message.payload, 0)?)?,
        "ack" => client.request("ack", (), PATIENCE, "ack")?,
        "getAckDate" => message.ack(now())?,
        "getDate" => client.emit("takeDate", now())?,
        "getDateObj" => client.emit("takeDateObj", serde_json::json!({ "date": now() }))?,
        "getUtf8" => {
            for text in ["てすと", "Я Б Г Д Ж Й", "Ä ä Ü ü ß", "utf8 — string", "utf8 — string"] {
                client.emit("takeUtf8", text)?;
            }
        }
        "false" => client.emit("false", false)?,
        "doge" => client.emit("doge", Binary(b"asdfasdf".into()))?,
        "getbin" => client.emit("takebin", Binary(b"asdfasdf".into()))?,
        "buffa" if is_binary(&message.payload) => client.emit("buffack", ())?,
        "jsonbuff" if is_jsonbuff(&message.payload) => client.emit("jsonbuff-ack", ())?,
        "abuff1" => note(client, |notes| notes.abuff1 = is_binary(&message.payload))?,
        "abuff2" if notes(client)?.abuff1 => client.emit("abuff2-ack", ())?,
        "getHandshake" => message.ack(notes(client)?.handshake)?,
        _ => {}
    }
    Ok(())
}

/// What the client answered to `ack`.
pub(crate) fn acknowledged(client: &Client, reply: &Reply) -> Result {
    #[derive(Deserialize)]
    struct Right {
        test: bool,
    }
    let answer = reply.answer.as_ref().and_then(|answer| answer.args().ok());
    if let Some((5, Right { test: true })) = answer {
        client.emit("got it", ())?;
    }
    Ok(())
}

pub(crate) fn forget(client: &Client) -> Result {
    if client.namespace() == "/" {
        bucket()?.delete(client.id())?;
    }
    Ok(())
}

/// Whether the first argument is binary. An array of numbers, which reads as such, is not.
fn is_binary(payload: &Payload) -> bool {
    !payload.attachments.is_empty() && payload.arg::<Binary>(0).is_ok()
}

fn is_jsonbuff(payload: &Payload) -> bool {
    #[derive(Deserialize)]
    struct JsonBuff {
        hello: String,
        #[serde(rename = "message")]
        _message: Binary,
        goodbye: String,
    }
    let sent = payload.arg::<JsonBuff>(0);
    !payload.attachments.is_empty() && sent.is_ok_and(|sent| sent.hello == "lol" && sent.goodbye == "gotcha")
}

/// When the event was taken in: the same each time it is tried.
fn now() -> String {
    iso(context().received_at_ms)
}

/// A bucket and not the client's attributes, which an event that is on its way already comes without.
fn bucket() -> Result<Bucket> {
    Ok(kv::open("default")?)
}

fn notes(client: &Client) -> Result<Notes> {
    Ok(bucket()?.get(client.id())?.unwrap_or_default())
}

fn note(client: &Client, change: impl FnOnce(&mut Notes)) -> Result {
    let mut notes = notes(client)?;
    change(&mut notes);
    Ok(bucket()?.set(client.id(), &notes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Conformance;
    use plugnode_sdk::test::{Kit, Sent, handshake};

    fn app(namespace: &str) -> Kit<Conformance> {
        // Several instances: what is known of a client does not depend on who handles its events.
        Kit::with_instances(3)
            .with_admission()
            .in_namespace(namespace)
            .with_config("configuration", "client")
    }

    fn asking(query: &str, auth: Option<&str>) -> Handshake {
        Handshake {
            query: query.into(),
            auth: auth.map(Into::into),
            ..handshake()
        }
    }

    #[test]
    fn who_fails_is_refused() {
        let mut main = app("/");
        main.connect_with("ada", asking("EIO=4&fail=true", None));
        main.connect_with("bob", asking("EIO=4&fail=", None));
        let refusal = main.refusal_of("ada").expect("the query says so");
        assert_eq!(
            (refusal.message.as_str(), &refusal.data),
            ("Auth failed (main namespace)", &None)
        );
        assert!(main.refusal_of("bob").is_none());
        assert!(main.sent_to("bob").is_empty());
        let mut no = app("/no");
        no.connect("ada");
        let refusal = no.refusal_of("ada").expect("nobody may come here");
        assert_eq!(refusal.message, "Auth failed (custom namespace)");
    }

    #[test]
    fn the_handshake_is_decoded_and_kept_while_the_client_is_there() {
        let decoded = serde_json::json!({ "query": { "&a": "&=?a", "b": "c d" }, "auth": { "e": "f" } });
        let sent = || asking("%26a=%26%3D%3Fa&b=c+d", Some(r#"{"e": "f"}"#));
        let mut main = app("/");
        main.connect_with("ada", sent());
        let answer = main.ask("ada", "getHandshake", ()).unwrap();
        assert_eq!(answer.arg::<Value>(0).unwrap(), decoded);
        main.disconnect("ada", DisconnectReason::ClientDisconnect);
        assert!(main.keys("default").is_empty());
        let mut abc = app("/abc");
        abc.connect_with("ada", sent());
        assert_eq!(abc.sent_to("ada"), [Sent::new("handshake", &decoded)]);
    }

    #[test]
    fn binary_is_told_from_what_is_like_it() {
        let mut main = app("/");
        main.connect("ada");
        let jsonbuff = |message: Binary| (serde_json::json!("lol"), message);
        main.message("ada", "buffa", (vec![1, 2],));
        main.message("ada", "buffa", "text");
        main.message("ada", "jsonbuff", jsonbuff(Binary(vec![1])));
        assert!(main.sent_to("ada").is_empty());
        main.message("ada", "abuff2", "too early");
        main.message("ada", "buffa", Binary(vec![1]));
        main.message("ada", "abuff1", Binary(vec![1]));
        main.message("ada", "abuff2", "in time");
        main.message("ada", "doge", ());
        let doge = Sent::new("doge", Binary(b"asdfasdf".into()));
        let expected = [Sent::new("buffack", ()), Sent::new("abuff2-ack", ()), doge];
        assert_eq!(main.sent_to("ada"), expected);
    }

    #[test]
    fn only_the_right_acknowledgement_is_got() {
        let mut main = app("/");
        main.connect("ada");
        assert!(main.ask("ada", "ack", ()).is_none());
        assert_eq!(main.take_sent_to("ada"), [Sent::new("ack", ())]);
        for wrong in [r#"[5,{"test":false}]"#, r#"[4,{"test":true}]"#, "[5]", "[]"] {
            main.reply("ada", "ack", Some(payload(wrong)));
        }
        main.reply("ada", "ack", None);
        assert!(main.sent_to("ada").is_empty());
        main.reply("ada", "ack", Some(payload(r#"[5,{"test":true}]"#)));
        assert_eq!(main.sent_to("ada"), [Sent::new("got it", ())]);
    }

    #[test]
    fn what_has_no_handler_is_dropped() {
        for namespace in ["/", "/foo", "/valid"] {
            let mut app = app(namespace);
            app.connect("ada");
            assert!(app.ask("ada", "unknown", 1).is_none());
            let id = app.ask("ada", "getId", ()).map(|answer| answer.json);
            assert_eq!(id, (namespace != "/valid").then(|| r#"["ada"]"#.into()));
            assert!(app.sent_to("ada").is_empty());
        }
    }

    fn payload(json: &str) -> Payload {
        Payload {
            json: json.into(),
            attachments: Vec::new(),
        }
    }
}
