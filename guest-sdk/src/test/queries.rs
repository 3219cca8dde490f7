//! Cluster queries in the kit, answered by its single io-node, always in time.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::clients::Clients;
use super::effects::Command;
use crate::payload::Payload;
use crate::placeholder;

/// The name of the kit's io-node.
pub(super) const NODE: &str = "test";

/// The token and the result of a cluster query; none for other commands. `collect`'s event has already reached the clients.
pub(super) fn run(command: &Command, clients: &mut Clients) -> Option<(Vec<u8>, Payload)> {
    let (token, mut result, attachments) = match command {
        Command::Collect { to, event, token, .. } => {
            let (result, attachments) = collect(clients, to, event);
            (token, result, attachments)
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
                let subscribed = clients.connected().flat_map(|client| &client.channels);
                subscribed.for_each(|channel| *channels.entry(channel).or_default() += 1);
            }
            let count = channels.len();
            let named: BTreeMap<_, _> = channels.into_iter().take(*most as usize).collect();
            (token, json!({ "count": count, "channels": named }), Vec::new())
        }
        Command::Settle { token, .. } => (token, json!({}), Vec::new()),
        _ => return None,
    };
    result["nodes"] = json!([NODE]);
    result["silent"] = json!([]);
    let json = json!([result]).to_string();
    Some((token.clone(), Payload { json, attachments }))
}

fn collect(clients: &mut Clients, to: &super::Audience, event: &str) -> (Value, Vec<Vec<u8>>) {
    let (mut answers, mut missing, mut attachments) = (Vec::new(), Vec::new(), Vec::new());
    for (id, client) in clients.audience(to) {
        let Some(answer) = client.answers.get(event) else {
            missing.push(id);
            continue;
        };
        let mut args: Value = serde_json::from_str(&answer.json).expect("the SDK writes arguments as valid JSON");
        let first = attachments.len();
        placeholder::renumber(&mut args, &mut |index| Some(first + index));
        attachments.extend(answer.attachments.iter().cloned());
        answers.push(json!({ "id": id, "args": args }));
    }
    (json!({ "answers": answers, "missing": missing }), attachments)
}
