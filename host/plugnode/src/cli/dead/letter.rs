//! A dead letter as text for people and as JSON for programs. In text from clients, unprintable characters are escaped.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::{Value, json};

use super::super::format::{self, plain, time};
use plugnode_message::{CallAction, Channel, Event, EventKind, Handshake, LATE_REPLY, PRESENCE, Payload};
use plugnode_transport::{DeadContent, DeadLetter};

const COLUMNS: [&str; 8] = [
    "ID",
    "WHEN",
    "CLIENT",
    "NAMESPACE",
    "EVENT",
    "ATTEMPTS",
    "RELEASE",
    "REASON",
];

/// Formats letters as a table.
pub(super) fn table(letters: &[DeadLetter]) -> String {
    format::table(&COLUMNS, letters.iter().map(row))
}

fn row(letter: &DeadLetter) -> [String; COLUMNS.len()] {
    let (namespace, client) = match event(letter) {
        Some(event) => (
            event.namespace.to_string(),
            event.client.as_ref().map(|client| client.id.to_string()),
        ),
        None => ("-".to_owned(), None),
    };
    [
        letter.id.to_string(),
        time(letter.died_at_ms),
        plain(&client.unwrap_or_else(|| "-".to_owned())),
        plain(&namespace),
        plain(&kind_and_name(letter)),
        letter.cause.attempts.to_string(),
        plain(letter.cause.release.as_deref().unwrap_or("-")),
        plain(letter.cause.reason.lines().next().unwrap_or_default()),
    ]
}

/// Formats all of a letter as text.
pub(super) fn in_words(letter: &DeadLetter) -> String {
    let mut page = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(page, "{name:<12}{}", plain(value));
    };
    line("id", &letter.id.to_string());
    line("died", &time(letter.died_at_ms));
    line("attempts", &letter.cause.attempts.to_string());
    line("release", letter.cause.release.as_deref().unwrap_or("-"));
    match &letter.content {
        DeadContent::Event(event) => {
            line("namespace", event.namespace.as_str());
            if let Some(client) = &event.client {
                line("client", client.id.as_str());
                line("io-node", client.io_node.as_str());
                line("attributes", &client.attributes);
            }
            line("received", &time(event.received_at_ms));
            line("event", &kind_and_name(letter));
            let content = content(event, |bytes| json!(format!("{} bytes", bytes.len())));
            for (name, value) in content.as_object().into_iter().flatten() {
                match value {
                    Value::String(text) => line(name, text),
                    value => line(name, &value.to_string()),
                }
            }
        }
        DeadContent::Foreign(bytes) => {
            line(
                "content",
                &format!("{} bytes of an event that this version does not know", bytes.len()),
            );
            line("", &String::from_utf8_lossy(&bytes[..bytes.len().min(500)]));
        }
    }
    page.push_str("reason\n");
    for reason in letter.cause.reason.lines() {
        let _ = writeln!(page, "  {}", plain(reason));
    }
    page
}

/// The JSON of a letter in a list.
pub(super) fn summary(letter: &DeadLetter) -> Value {
    let event = event(letter);
    json!({
        "id": letter.id.to_string(),
        "died_at": time(letter.died_at_ms),
        "died_at_ms": letter.died_at_ms,
        "namespace": event.map(|event| event.namespace.as_str()),
        "client": event.and_then(|event| event.client.as_ref()).map(|client| client.id.as_str()),
        "kind": event.map_or("foreign", |event| event.kind.word()),
        "event": event.and_then(name),
        "attempts": letter.cause.attempts,
        "release": letter.cause.release,
        "reason": letter.cause.reason,
    })
}

/// The JSON of all of a letter.
pub(super) fn in_json(letter: &DeadLetter) -> Value {
    let mut whole = summary(letter);
    match &letter.content {
        DeadContent::Event(event) => {
            whole["client"] = json!(event.client.as_ref().map(|client| json!({
                "id": client.id.as_str(),
                "io_node": client.io_node.as_str(),
                "attributes": parsed(&client.attributes),
            })));
            whole["received_at"] = json!(time(event.received_at_ms));
            whole["received_at_ms"] = json!(event.received_at_ms);
            whole["content"] = content(event, |bytes| json!(BASE64.encode(bytes)));
        }
        DeadContent::Foreign(bytes) => whole["content"] = json!({ "base64": BASE64.encode(bytes) }),
    }
    whole
}

/// The contents of an event, depending on its kind. `show` formats bytes.
fn content(event: &Event, show: impl Fn(&Bytes) -> Value) -> Value {
    let payload = |payload: &Payload| -> (Value, Value) {
        let attachments: Vec<_> = payload.attachments.iter().map(&show).collect();
        (parsed(&payload.json), attachments.into())
    };
    match &event.kind {
        EventKind::Connection(handshake) => handshake_in_json(handshake),
        EventKind::Message { args, ack, .. } => {
            let (args, attachments) = payload(args);
            let ack = ack.as_ref().map(ToString::to_string);
            json!({ "args": args, "attachments": attachments, "ack": ack })
        }
        EventKind::Disconnect(gone) => json!({ "disconnect": format!("{:?}", gone.reason) }),
        EventKind::Reply { token, answer } => {
            let (answer, attachments) = answer.as_ref().map(payload).unwrap_or_default();
            json!({ "token": show(token), "answer": answer, "attachments": attachments })
        }
        EventKind::LateReply { client, token, answer } => {
            let (answer, attachments) = payload(answer);
            json!({ "asked_by": client.as_str(), "token": show(token), "answer": answer, "attachments": attachments })
        }
        EventKind::Timer { fired, data, .. } => {
            json!({ "timer": &*fired.key, "due": time(fired.due_ms), "missed": fired.missed, "data": show(data) })
        }
        EventKind::Call(call) => match &call.action {
            CallAction::Event { data, content_type, .. } => {
                let content_type = content_type.as_ref().map(|media| media.to_string());
                json!({ "data": show(data), "content_type": content_type, "api_node": call.api_node.as_str() })
            }
            CallAction::Commands(commands) => {
                json!({ "commands": commands.len(), "api_node": call.api_node.as_str() })
            }
        },
        EventKind::Channels(change) => {
            let names = |channels: &[Channel]| -> Vec<String> { channels.iter().map(ToString::to_string).collect() };
            json!({ "joined": names(&change.joined), "left": names(&change.left) })
        }
        EventKind::Custom { data, content_type, .. } => {
            let content_type = content_type.as_ref().map(|media| media.to_string());
            json!({ "data": show(data), "content_type": content_type })
        }
    }
}

fn handshake_in_json(handshake: &Handshake) -> Value {
    let headers: serde_json::Map<String, Value> = handshake
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().into()))
        .collect();
    json!({
        "auth": handshake.auth.as_deref().map(parsed),
        "query": handshake.query,
        "headers": headers,
        "remote_addr": handshake.remote_addr,
        "transport": handshake.transport,
        "recovered": handshake.recovered,
    })
}

fn event(letter: &DeadLetter) -> Option<&Event> {
    match &letter.content {
        DeadContent::Event(event) => Some(event),
        DeadContent::Foreign(_) => None,
    }
}

/// Name of an event, if events of its kind have one.
fn name(event: &Event) -> Option<&str> {
    match &event.kind {
        EventKind::Message { event, .. } => Some(event),
        EventKind::Custom { kind, .. } | EventKind::Timer { kind, .. } => Some(kind),
        EventKind::LateReply { .. } => Some(LATE_REPLY),
        EventKind::Channels(_) => Some(PRESENCE),
        EventKind::Call(call) => match &call.action {
            CallAction::Event { kind, .. } => Some(kind),
            CallAction::Commands(_) => None,
        },
        _ => None,
    }
}

/// Kind and name of a letter's event.
fn kind_and_name(letter: &DeadLetter) -> String {
    let Some(event) = event(letter) else {
        return "foreign".to_owned();
    };
    match name(event) {
        Some(name) => format!("{} {name}", event.kind.word()),
        None => event.kind.word().to_owned(),
    }
}

/// Parses JSON; text that is not JSON becomes a string.
fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|_| json.into())
}
