//! How the kit answers what a handler asks of all io-nodes: as a cluster of one, which is always in time.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::clients::Clients;
use super::effects::Command;
use crate::payload::Payload;

/// The one io-node.
pub(super) const NODE: &str = "test";

/// The token and the answer, if this command asks for one. The clients have been sent what they are asked already.
pub(super) fn answer(command: &Command, clients: &mut Clients) -> Option<(Vec<u8>, Payload)> {
    let (token, mut told, attachments) = match command {
        Command::Collect { to, event, token, .. } => {
            let (told, attachments) = collected(clients, to, event);
            (token, told, attachments)
        }
        Command::FindClients { who, most, token, .. } => {
            let found: Vec<Value> = clients
                .audience(who)
                .map(|(id, client)| {
                    json!({
                        "id": id,
                        "io-node": NODE,
                        "attributes": client.attributes,
                        "channels": client.channels,
                    })
                })
                .collect();
            let named = &found[..found.len().min(*most as usize)];
            (token, json!({ "count": found.len(), "clients": named }), Vec::new())
        }
        Command::ListChannels {
            namespace, most, token, ..
        } => {
            let mut channels = BTreeMap::<&str, u64>::new();
            if namespace.as_ref().is_none_or(|name| *name == clients.namespace) {
                let subscribed = clients.live().flat_map(|client| &client.channels);
                subscribed.for_each(|channel| *channels.entry(channel).or_default() += 1);
            }
            let count = channels.len();
            let named: BTreeMap<_, _> = channels.into_iter().take(*most as usize).collect();
            (token, json!({ "count": count, "channels": named }), Vec::new())
        }
        Command::Settle { token, .. } => (token, json!({}), Vec::new()),
        _ => return None,
    };
    told["nodes"] = json!([NODE]);
    told["silent"] = json!([]);
    let json = json!([told]).to_string();
    Some((token.clone(), Payload { json, attachments }))
}

fn collected(clients: &mut Clients, to: &super::Audience, event: &str) -> (Value, Vec<Vec<u8>>) {
    let (mut answers, mut missing, mut attachments) = (Vec::new(), Vec::new(), Vec::new());
    for (id, client) in clients.audience(to) {
        let Some(answer) = client.answers.get(event) else {
            missing.push(id);
            continue;
        };
        let mut args: Value = serde_json::from_str(&answer.json).expect("the SDK writes arguments as JSON");
        shift(&mut args, attachments.len());
        attachments.extend(answer.attachments.iter().cloned());
        answers.push(json!({ "id": id, "args": args }));
    }
    (json!({ "answers": answers, "missing": missing }), attachments)
}

/// Has placeholders name attachments that are so many places further on.
fn shift(value: &mut Value, places: usize) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| shift(item, places)),
        Value::Object(fields) if fields.get("_placeholder") == Some(&Value::Bool(true)) => {
            let number = fields.get("num").and_then(Value::as_u64).unwrap_or_default();
            fields.insert("num".into(), (number + places as u64).into());
        }
        Value::Object(fields) => fields.values_mut().for_each(|field| shift(field, places)),
        _ => {}
    }
}
