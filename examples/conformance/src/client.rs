//! Configuration `client`: the server of the client libraries' suites, in several namespaces.

use std::time::Duration;

use plugnode_sdk::kv::{self, Bucket};
use plugnode_sdk::prelude::*;
use plugnode_sdk::{Payload, context};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::argument::single_argument;
use crate::date::iso;

/// Timeout of requests to clients.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The stored state of a client.
#[derive(Default, Serialize, Deserialize)]
struct ClientRecord {
    handshake: Value,
    /// Whether the client sent `abuff1` with binary data.
    abuff1: bool,
}

/// Refuses clients as the suites expect, and stores or sends the handshake.
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
                "/" => update(client, |record| record.handshake = handshake)?,
                _ => {}
            }
        }
    }
    Ok(())
}

pub(crate) fn answer(client: &Client, message: &Incoming) -> Result {
    match (client.namespace(), message.event.as_str()) {
        ("/" | "/foo", "getId") => message.ack(client.id())?,
        ("/", event) => answer_in_main(client, event, message)?,
        _ => {}
    }
    Ok(())
}

fn answer_in_main(client: &Client, event: &str, message: &Incoming) -> Result {
    match event {
        "hi" => client.emit("hi", ())?,
        "echo" => message.ack(&single_argument(&message.payload, 0)?)?,
        "ack" => client.request("ack", (), REQUEST_TIMEOUT, "ack")?,
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
        "abuff1" => update(client, |record| record.abuff1 = is_binary(&message.payload))?,
        "abuff2" if record(client)?.abuff1 => client.emit("abuff2-ack", ())?,
        "getHandshake" => message.ack(record(client)?.handshake)?,
        _ => {}
    }
    Ok(())
}

/// Handles the client's answer to `ack`.
pub(crate) fn acknowledged(client: &Client, reply: &Reply) -> Result {
    #[derive(Deserialize)]
    struct Expected {
        test: bool,
    }
    let answer = reply.answer.as_ref().and_then(|answer| answer.args().ok());
    if let Some((5, Expected { test: true })) = answer {
        client.emit("got it", ())?;
    }
    Ok(())
}

pub(crate) fn delete_record(client: &Client) -> Result {
    if client.namespace() == "/" {
        bucket()?.delete(client.id())?;
    }
    Ok(())
}

/// Whether the first argument is binary. An array of numbers, which also reads as `Binary`, is not.
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

/// The time at which the io-node accepted the event, which is the same in each attempt.
fn now() -> String {
    iso(context().received_at_ms)
}

/// The bucket of client records. Attributes would not do: an event that is already on its way comes without new ones.
fn bucket() -> Result<Bucket> {
    Ok(kv::open("default")?)
}

fn record(client: &Client) -> Result<ClientRecord> {
    Ok(bucket()?.get(client.id())?.unwrap_or_default())
}

fn update(client: &Client, change: impl FnOnce(&mut ClientRecord)) -> Result {
    let mut record = record(client)?;
    change(&mut record);
    Ok(bucket()?.set(client.id(), &record)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Conformance;
    use plugnode_sdk::test::{Kit, Sent, handshake};

    fn app(namespace: &str) -> Kit<Conformance> {
        // Several instances, to check that no state is in memory.
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
    fn refuses_clients_as_requested() {
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
    fn stores_decoded_handshake_until_disconnect() {
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
    fn tells_binary_from_arrays_and_texts() {
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
    fn accepts_only_the_expected_acknowledgement() {
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
    fn ignores_unknown_events() {
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
