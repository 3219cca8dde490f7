//! Writes an event, such as that of a dead letter, as a file of events.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::effects::arguments_of;
use super::entry::reason_name;
use super::notation::{arguments, key, text};
use plugnode_message::{CallAction, Event, EventKind, Handshake, PRESENCE};

/// Contents of a file with this event.
///
/// # Errors
/// For a reply, which needs the event before it.
pub(in super::super) fn file_of_event(event: &Event) -> Result<String> {
    let mut file = "[[event]]\n".to_owned();
    let mut put = |name: &str, value: &str| {
        let _ = writeln!(file, "{name} = {value}");
    };
    put("namespace", &text(event.namespace.as_str()));
    if let Some(client) = &event.client {
        put("client", &text(client.id.as_str()));
        let attributes: Value = serde_json::from_str(&client.attributes).unwrap_or_default();
        if attributes.as_object().is_some_and(|keys| !keys.is_empty()) {
            put("attributes", &arguments(&attributes));
        }
    }
    put("received-at-ms", &event.received_at_ms.to_string());
    match &event.kind {
        EventKind::Connection(handshake) => put("connection", &connection(handshake)),
        EventKind::Message { event, args, ack } => {
            put("message", &text(event));
            put("args", &arguments(&arguments_of(args)));
            if ack.is_some() {
                put("ack", "true");
            }
        }
        EventKind::Disconnect(gone) => {
            put("disconnect", &text(reason_name(&gone.reason)));
            if let Some(channels) = &gone.channels {
                put(
                    "channels",
                    &arguments(&serde_json::from_str(channels).unwrap_or_default()),
                );
            }
        }
        EventKind::Custom {
            kind,
            data,
            content_type,
        } => custom(&mut put, kind, data, content_type.as_deref()),
        EventKind::Call(call) => match &call.action {
            CallAction::Event {
                kind,
                data,
                content_type,
            } => custom(&mut put, kind, data, content_type.as_deref()),
            CallAction::Commands(_) => bail!("cannot save a call of the server API that no handler receives"),
        },
        EventKind::Channels(change) => {
            let client = event.client.as_ref().map(|client| change.content(&client.id));
            custom(
                &mut put,
                PRESENCE,
                &client.unwrap_or_default(),
                Some("application/json"),
            );
        }
        // Handlers receive it as a custom event.
        EventKind::Timer { kind, data, .. } => custom(&mut put, kind, data, None),
        EventKind::Reply { .. } | EventKind::LateReply { .. } => {
            bail!("cannot save a reply by itself: save the event that makes the request, and add the reply to the file")
        }
    }
    Ok(file)
}

fn custom(put: &mut impl FnMut(&str, &str), kind: &str, data: &[u8], content_type: Option<&str>) {
    put("custom", &text(kind));
    match std::str::from_utf8(data) {
        Ok(data) => put("data", &text(data)),
        Err(_) => put("base64", &text(&BASE64.encode(data))),
    }
    if let Some(content_type) = content_type {
        put("content-type", &text(content_type));
    }
}

fn connection(handshake: &Handshake) -> String {
    let mut keys = Vec::new();
    if let Some(auth) = &handshake.auth {
        let auth = serde_json::from_str(auth).unwrap_or_default();
        keys.push(format!("auth = {}", arguments(&auth)));
    }
    if !handshake.query.is_empty() {
        keys.push(format!("query = {}", text(&handshake.query)));
    }
    let headers = handshake.headers.iter();
    let headers: Vec<_> = headers
        .map(|(name, value)| format!("{} = {}", key(name), text(value)))
        .collect();
    if !headers.is_empty() {
        keys.push(format!("headers = {{ {} }}", headers.join(", ")));
    }
    if let Some(address) = &handshake.remote_addr {
        keys.push(format!("remote-addr = {}", text(address)));
    }
    keys.push(format!("transport = {}", text(&handshake.transport)));
    if handshake.recovered {
        keys.push("recovered = true".to_owned());
    }
    format!("{{ {} }}", keys.join(", "))
}
