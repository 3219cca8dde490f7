//! The JSON that a webhook sends of an event. Documented in `docs/webhooks.md`; fields are added, not changed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::settings::{Topic, WebhookEvent};
use plugnode_message::{Command, DisconnectReason, Event, EventId, EventKind};
use plugnode_transport::Verdict;

/// Bytes of the reason of a dead letter that are sent.
const MAX_REASON: usize = 4_096;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    /// When the io-node received the event, in milliseconds since the Unix epoch.
    timestamp_ms: u64,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    /// The id of the event.
    event: String,
    namespace: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<Client<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<Connection<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disconnect: Option<Disconnect<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter: Option<DeadLetter<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom: Option<Custom<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Custom<'a> {
    kind: &'a str,
    /// The content, if it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    /// Other content.
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl<'a> Custom<'a> {
    fn new(kind: &'a str, data: &'a [u8]) -> Self {
        let json = serde_json::from_slice(data).ok();
        let base64 = json.is_none().then(|| STANDARD.encode(data));
        Self {
            kind,
            data: json,
            base64,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Client<'a> {
    id: &'a str,
    io_node: &'a str,
    attributes: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Connection<'a> {
    transport: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_addr: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Disconnect<'a> {
    reason: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeadLetter<'a> {
    /// The kind of the event.
    kind: &'static str,
    /// The name of a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    reason: &'a str,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<&'a str>,
}

/// What there is to tell of an event with this verdict.
pub(super) fn topics_of<'v>(event: &Event, verdict: &'v Verdict) -> Vec<Topic<'v>> {
    let of_client = match event.kind {
        EventKind::Connection(_) if !verdict.refuses() => Some(WebhookEvent::Connection),
        EventKind::Disconnect(_) => Some(WebhookEvent::Disconnect),
        _ => None,
    };
    let is_dead = matches!(verdict, Verdict::Dead(..));
    let events = of_client.into_iter().chain(is_dead.then_some(WebhookEvent::DeadLetter));
    let commands = verdict.effects().commands.iter().enumerate();
    let customs = commands.filter_map(|(index, command)| match command {
        Command::Custom { kind, data, .. } => Some(Topic::Custom { index, kind, data }),
        _ => None,
    });
    events.map(Topic::Event).chain(customs).collect()
}

/// The id of a delivery, the same each time that the event is handled. The ids of events begin anew with the data of the transport, so the
/// time of the event is part of it.
pub(super) fn id(topic: &Topic<'_>, id: EventId, event: &Event) -> String {
    let (time, name) = (event.received_at_ms, topic.name());
    match topic {
        Topic::Event(_) => format!("{id}-{time:x}-{name}"),
        Topic::Custom { index, .. } => format!("{id}-{time:x}-{name}-{index}"),
    }
}

/// The JSON of an event.
pub(super) fn body(topic: &Topic<'_>, id: EventId, event: &Event, verdict: &Verdict) -> Bytes {
    let client = event.client.as_ref().map(|client| Client {
        id: client.id.as_str(),
        io_node: client.io_node.as_str(),
        attributes: serde_json::from_str(&client.attributes).ok(),
    });
    let mut data = Data {
        event: id.to_string(),
        namespace: event.namespace.as_str(),
        client,
        connection: None,
        disconnect: None,
        dead_letter: None,
        custom: None,
    };
    match (topic, &event.kind, verdict) {
        (
            Topic::Custom {
                kind, data: content, ..
            },
            ..,
        ) => data.custom = Some(Custom::new(kind, content)),
        (Topic::Event(WebhookEvent::Connection), EventKind::Connection(handshake), _) => {
            data.connection = Some(Connection {
                transport: &handshake.transport,
                remote_addr: handshake.remote_addr.as_deref(),
            });
        }
        (Topic::Event(WebhookEvent::Disconnect), EventKind::Disconnect(departure), _) => {
            data.disconnect = Some(Disconnect {
                reason: reason(&departure.reason),
            });
        }
        (Topic::Event(WebhookEvent::DeadLetter), kind, Verdict::Dead(cause, _)) => {
            data.dead_letter = Some(DeadLetter {
                kind: kind.word(),
                name: match kind {
                    EventKind::Message { event, .. } => Some(event),
                    _ => None,
                },
                reason: beginning(&cause.reason),
                attempts: cause.attempts,
                app: cause.app.as_ref().map(|app| app.as_str()),
                release: cause.release.as_deref(),
            });
        }
        _ => {}
    }
    let body = Body {
        kind: topic.name(),
        timestamp_ms: event.received_at_ms,
        data,
    };
    serde_json::to_vec(&body).expect("it has only texts and numbers").into()
}

/// The reason of a disconnect, in the words of the contract with handlers.
fn reason(reason: &DisconnectReason) -> &str {
    match reason {
        DisconnectReason::Client => "client",
        DisconnectReason::Server => "server",
        DisconnectReason::TransportClose => "transport-close",
        DisconnectReason::TransportError => "transport-error",
        DisconnectReason::PingTimeout => "ping-timeout",
        DisconnectReason::ParseError => "parse-error",
        DisconnectReason::ServerShutdown => "server-shutdown",
        DisconnectReason::NodeLost => "node-lost",
        DisconnectReason::Other(text) => beginning(text),
    }
}

fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_REASON)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugnode_message::{Effects, Handshake, Partition};
    use plugnode_transport::DeadLetterCause;
    use serde_json::{Value, json};

    const ID: EventId = EventId {
        partition: Partition(1),
        sequence: 5,
    };

    fn event(kind: EventKind) -> Event {
        Event {
            namespace: "/chat".into(),
            client: Some(plugnode_message::Client {
                id: "alice".into(),
                io_node: "io-1".into(),
                attributes: r#"{"userId":7}"#.into(),
                patched: 0,
            }),
            received_at_ms: 123,
            kind,
        }
    }

    fn sent(event: &Event, verdict: &Verdict) -> Vec<Value> {
        let topics = topics_of(event, verdict);
        let bodies = topics.iter().map(|topic| body(topic, ID, event, verdict));
        bodies.map(|body| serde_json::from_slice(&body).unwrap()).collect()
    }

    #[test]
    fn tells_of_connection_and_dead_letter() {
        let handshake = Handshake {
            auth: None,
            query: "".into(),
            headers: [].into(),
            remote_addr: Some("10.0.0.1:5".into()),
            transport: "websocket".into(),
            recovered: false,
        };
        let event = event(EventKind::Connection(Box::new(handshake)));
        let connection = json!({
            "type": "connection",
            "timestampMs": 123,
            "data": {
                "event": ID.to_string(),
                "namespace": "/chat",
                "client": { "id": "alice", "ioNode": "io-1", "attributes": { "userId": 7 } },
                "connection": { "transport": "websocket", "remoteAddr": "10.0.0.1:5" },
            },
        });
        assert_eq!(
            sent(&event, &Verdict::Done(Effects::default())),
            std::slice::from_ref(&connection)
        );
        let cause = DeadLetterCause {
            reason: "ü".repeat(MAX_REASON),
            attempts: 3,
            release: None,
            app: Some("/{room}".into()),
        };
        let both = sent(&event, &Verdict::Dead(cause, Effects::default()));
        assert_eq!((both.len(), &both[0]), (2, &connection));
        let letter = &both[1]["data"]["deadLetter"];
        assert_eq!(letter["reason"].as_str().map(str::len), Some(MAX_REASON));
        assert_eq!(
            (&letter["kind"], &letter["attempts"], &letter["app"]),
            (&json!("connection"), &json!(3), &json!("/{room}"))
        );
    }

    #[test]
    fn tells_of_disconnect_with_reason() {
        let event = event(EventKind::Disconnect(DisconnectReason::NodeLost.into()));
        let told = sent(&event, &Verdict::Done(Effects::default()));
        assert_eq!(told[0]["type"], "disconnect");
        assert_eq!(told[0]["data"]["disconnect"], json!({ "reason": "node-lost" }));
    }
}
