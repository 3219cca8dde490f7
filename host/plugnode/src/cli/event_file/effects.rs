//! Commands and writes of an event as JSON, with the keys of a file of events.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use plugnode_message::json::without_lone_surrogates;
use plugnode_message::{Audience, Change, Command, KeyChange, Namespace, Payload, Question, Scope, Selection};

/// Arguments, with `{ base64 = … }` in place of each attachment.
pub(super) fn arguments_of(payload: &Payload) -> Value {
    let json = without_lone_surrogates(&payload.json);
    let mut args = serde_json::from_str(&json).unwrap_or_else(|_| json!(&*json));
    if !payload.attachments.is_empty() {
        fill(&mut args, &payload.attachments);
    }
    args
}

/// Replaces placeholders by attachments.
fn fill(value: &mut Value, attachments: &[Bytes]) {
    let number = value
        .as_object()
        .filter(|keys| keys.get("_placeholder") == Some(&Value::Bool(true)))
        .and_then(|keys| keys.get("num")?.as_u64());
    match (number.and_then(|number| attachments.get(number as usize)), value) {
        (Some(bytes), value) => *value = json!({ "base64": BASE64.encode(bytes) }),
        (None, Value::Array(items)) => items.iter_mut().for_each(|item| fill(item, attachments)),
        (None, Value::Object(keys)) => keys.values_mut().for_each(|value| fill(value, attachments)),
        _ => {}
    }
}

/// Inserts bytes: as text under `name` if they are UTF-8, else as `base64`.
fn put_bytes(keys: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => keys.insert(name.to_owned(), text.into()),
        Err(_) => keys.insert("base64".to_owned(), BASE64.encode(bytes).into()),
    };
}

/// A write to the key-value store.
pub(super) fn write(change: &KeyChange) -> Value {
    let mut keys = Map::new();
    keys.insert("bucket".to_owned(), (*change.bucket).into());
    keys.insert("key".to_owned(), (*change.key).into());
    match &change.change {
        Change::Set { value, ttl_ms } => {
            put_bytes(&mut keys, "set", value);
            if let Some(ttl) = ttl_ms {
                keys.insert("ttl-ms".to_owned(), (*ttl).into());
            }
        }
        Change::Delete => drop(keys.insert("delete".to_owned(), true.into())),
        Change::Add(number) => drop(keys.insert("add".to_owned(), (*number).into())),
    }
    keys.into()
}

/// A command. `own` is the namespace of the event, which is left out.
pub(super) fn command_in_json(command: &Command, own: &Namespace) -> Map<String, Value> {
    let mut keys = Map::new();
    let mut put = |name: &str, value: Value| drop(keys.insert(name.to_owned(), value));
    match command {
        Command::Publish {
            to,
            event,
            args,
            volatile,
            local,
        } => {
            put("emit", (**event).into());
            put("args", arguments_of(args));
            if *volatile {
                put("volatile", true.into());
            }
            if *local {
                put("local", true.into());
            }
            put_audience(&mut keys, to, own);
        }
        Command::Subscribe { who, channels } => {
            put("join", channels.iter().map(|channel| channel.as_str()).collect());
            put_audience(&mut keys, who, own);
        }
        Command::Unsubscribe { who, channels } => {
            put("leave", channels.iter().map(|channel| channel.as_str()).collect());
            put_audience(&mut keys, who, own);
        }
        Command::Ack { id, args } => {
            put("ack", id.to_string().into());
            put("args", arguments_of(args));
        }
        Command::Request {
            to,
            event,
            args,
            timeout_ms,
            token: _,
        } => {
            put("request", (**event).into());
            put("args", arguments_of(args));
            put("timeout-ms", (*timeout_ms).into());
            put_audience(&mut keys, to, own);
        }
        Command::Disconnect { who, close_transport } => {
            let what = if *close_transport { "connection" } else { "namespace" };
            put("disconnect", what.into());
            put_audience(&mut keys, who, own);
        }
        Command::PatchAttributes {
            namespace,
            client,
            patch,
            number: _,
        } => {
            put("attributes", serde_json::from_str(patch).unwrap_or_default());
            put("clients", json!([client.as_str()]));
            put_namespace(&mut keys, namespace, own);
        }
        Command::Custom { io_node, kind, data } => {
            put("custom", (**kind).into());
            if let Some(node) = io_node {
                put("io-node", node.as_str().into());
            }
            put_bytes(&mut keys, "data", data);
        }
        Command::Admit { refusal, .. } => match refusal {
            Some(refusal) => {
                put("refuse", (*refusal.message).into());
                if let Some(data) = &refusal.data {
                    put("info", serde_json::from_str(data).unwrap_or_default());
                }
            }
            None => put("admit", true.into()),
        },
        Command::Ask {
            question, timeout_ms, ..
        } => {
            match question {
                Question::Settled => put("ask", "settled".into()),
                Question::Acks { to, event, args } => {
                    put("ask", "acks".into());
                    put("event", (**event).into());
                    put("args", arguments_of(args));
                    put("timeout-ms", (*timeout_ms).into());
                    put_audience(&mut keys, to, own);
                    return keys;
                }
                Question::Clients { who, most } => {
                    put("ask", "clients".into());
                    put("most", (*most).into());
                    put("timeout-ms", (*timeout_ms).into());
                    put_audience(&mut keys, who, own);
                    return keys;
                }
                Question::Channels { namespace, most } => {
                    put("ask", "channels".into());
                    put("most", (*most).into());
                    put("timeout-ms", (*timeout_ms).into());
                    put_namespace(&mut keys, namespace, own);
                    return keys;
                }
            }
            put("timeout-ms", (*timeout_ms).into());
        }
        Command::Fire { kind, data, .. } => {
            put("fire", (**kind).into());
            put_bytes(&mut keys, "data", data);
        }
        // A command without words of its own is shown by its fields.
        other => {
            if let Ok(Value::Object(fields)) = serde_json::to_value(other) {
                keys.extend(fields);
            }
        }
    }
    keys
}

/// Inserts the keys of an audience: none for all clients of the event's namespace.
fn put_audience(keys: &mut Map<String, Value>, audience: &Audience, own: &Namespace) {
    let Selection { clients, channels } = &audience.except;
    if let Scope::Only(Selection { clients, channels }) = &audience.to {
        // An empty list of clients is kept: without it, the audience would be all clients.
        if !clients.is_empty() || channels.is_empty() {
            keys.insert(
                "clients".to_owned(),
                clients.iter().map(|client| client.as_str()).collect(),
            );
        }
        if !channels.is_empty() {
            let channels = channels.iter().map(|channel| channel.as_str()).collect();
            keys.insert("channels".to_owned(), channels);
        }
    }
    if !clients.is_empty() {
        let clients = clients.iter().map(|client| client.as_str()).collect();
        keys.insert("except-clients".to_owned(), clients);
    }
    if !channels.is_empty() {
        let channels = channels.iter().map(|channel| channel.as_str()).collect();
        keys.insert("except-channels".to_owned(), channels);
    }
    put_namespace(keys, &audience.namespace, own);
}

fn put_namespace(keys: &mut Map<String, Value>, namespace: &Namespace, own: &Namespace) {
    if namespace != own {
        keys.insert("namespace".to_owned(), namespace.as_str().into());
    }
}
