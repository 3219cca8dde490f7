//! Merges the answers of all io-nodes to a question into one reply, for a handler or a caller of the API: a JSON array with one object.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use plugnode_message::json::with_placeholders_moved;
use plugnode_message::{NodeId, PartialAnswer, Payload};

/// Merges the answers of these io-nodes, and names those that were silent. Describes up to `most` clients or channels in all; each io-node may
/// have described as many.
pub(crate) fn of(heard: BTreeMap<NodeId, PartialAnswer>, silent: Vec<NodeId>, most: u32) -> Payload {
    let mut summary = Summary {
        most: most as usize,
        ..Summary::default()
    };
    let nodes: Vec<_> = heard.keys().map(|node| node.as_str().to_owned()).collect();
    for (node, part) in heard {
        summary.add(&node, part);
    }
    let Summary {
        mut fields,
        answers,
        attachments,
        ..
    } = summary;
    let silent: Vec<_> = silent.iter().map(NodeId::as_str).collect();
    fields.insert("nodes".into(), nodes.into());
    fields.insert("silent".into(), silent.into());
    let fields = Value::Object(fields).to_string();
    // The answers of clients are passed on unparsed.
    let json = match answers {
        Some(answers) => format!(r#"[{{"answers":[{}],{}]"#, answers.join(","), &fields[1..]),
        None => format!("[{fields}]"),
    };
    Payload {
        json: json.into(),
        attachments,
    }
}

#[derive(Default)]
struct Summary {
    fields: Map<String, Value>,
    /// The answers of clients, as JSON.
    answers: Option<Vec<String>>,
    attachments: Vec<bytes::Bytes>,
    /// Clients or channels to describe.
    most: usize,
}

impl Summary {
    fn add(&mut self, node: &NodeId, part: PartialAnswer) {
        match part {
            PartialAnswer::Settled => {}
            PartialAnswer::Acks { answers, missing } => {
                for (client, answer) in answers {
                    let (args, id) = (self.take_answer(answer), Value::from(client.as_str()));
                    let answer = format!(r#"{{"args":{args},"id":{id}}}"#);
                    self.answers.get_or_insert_default().push(answer);
                }
                let missing = missing.iter().map(|client| client.as_str().into());
                self.list("missing").extend(missing);
                self.answers.get_or_insert_default();
            }
            PartialAnswer::Clients { count, clients } => {
                self.count(count);
                let room = self.most.saturating_sub(self.list("clients").len());
                for client in clients.into_iter().take(room) {
                    let attributes: Value = serde_json::from_str(&client.attributes).unwrap_or_default();
                    let channels: Vec<_> = client.channels.iter().map(|channel| channel.as_str()).collect();
                    self.list("clients").push(json!({
                        "id": client.id.as_str(), "io-node": node.as_str(), "attributes": attributes, "channels": channels,
                    }));
                }
            }
            PartialAnswer::Channels { count, channels } => {
                let most = self.most;
                let known = self.channels();
                for (channel, clients) in channels {
                    if known.len() >= most && !known.contains_key(channel.as_str()) {
                        continue;
                    }
                    let sum = known.entry(channel.as_str()).or_insert_with(|| 0.into());
                    *sum = (sum.as_u64().unwrap_or_default() + u64::from(clients)).into();
                }
                // Rooms that are counted but not named may be among those that other io-nodes name.
                let (named, most) = (known.len() as u64, u64::from(count));
                let before = self.fields.get("count").and_then(Value::as_u64).unwrap_or_default();
                self.fields.insert("count".into(), before.max(named).max(most).into());
            }
        }
    }

    fn count(&mut self, more: u32) {
        let count = self.fields.entry("count").or_insert_with(|| 0.into());
        *count = (count.as_u64().unwrap_or_default() + u64::from(more)).into();
    }

    fn list(&mut self, name: &str) -> &mut Vec<Value> {
        let list = self.fields.entry(name).or_insert_with(|| json!([]));
        list.as_array_mut().expect("inserted with this type")
    }

    fn channels(&mut self) -> &mut Map<String, Value> {
        let channels = self.fields.entry("channels").or_insert_with(|| json!({}));
        channels.as_object_mut().expect("inserted with this type")
    }

    /// Takes over the attachments of an answer, and returns its JSON with their new numbers.
    fn take_answer(&mut self, answer: Payload) -> String {
        if answer.attachments.is_empty() {
            return answer.json.to_string();
        }
        let args = with_placeholders_moved(&answer.json, self.attachments.len());
        self.attachments.extend(answer.attachments);
        args
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use plugnode_message::{Channel, ClientDescription};

    fn summed(parts: impl IntoIterator<Item = (&'static str, PartialAnswer)>) -> (Value, Vec<Bytes>) {
        summed_up_to(u32::MAX, parts)
    }

    fn summed_up_to(most: u32, parts: impl IntoIterator<Item = (&'static str, PartialAnswer)>) -> (Value, Vec<Bytes>) {
        let heard = parts
            .into_iter()
            .map(|(node, part)| (NodeId::from(node), part))
            .collect();
        let payload = of(heard, vec!["late".into()], most);
        (serde_json::from_str(&payload.json).unwrap(), payload.attachments)
    }

    #[test]
    fn answers_keep_their_attachments() {
        let answer = |client: &str, data: &'static str| {
            let payload = Payload {
                json: r#"[{"a":{"_placeholder":true,"num":0}}]"#.into(),
                attachments: vec![Bytes::from_static(data.as_bytes())],
            };
            (client.into(), payload)
        };
        let acks = |answers, missing| PartialAnswer::Acks { answers, missing };
        let (value, attachments) = summed([
            ("a", acks(vec![answer("1", "one")], vec![])),
            ("b", acks(vec![answer("2", "two")], vec!["3".into()])),
        ]);
        let placed = |number: u64| json!([{"a": {"_placeholder": true, "num": number}}]);
        assert_eq!(
            value,
            json!([{
                "answers": [{"id": "1", "args": placed(0)}, {"id": "2", "args": placed(1)}],
                "missing": ["3"], "nodes": ["a", "b"], "silent": ["late"],
            }])
        );
        assert_eq!(attachments, ["one", "two"]);
    }

    #[test]
    fn counts_clients_and_channels_over_all_nodes() {
        let here = |count, id: &str| PartialAnswer::Clients {
            count,
            clients: vec![ClientDescription {
                id: id.into(),
                attributes: r#"{"name":"x"}"#.into(),
                channels: vec!["room".into()],
            }],
        };
        let (value, _) = summed([("a", here(1, "1")), ("b", here(9, "2"))]);
        assert_eq!(value[0]["count"], 10);
        let second = json!({"id": "2", "io-node": "b", "attributes": {"name": "x"}, "channels": ["room"]});
        assert_eq!(value[0]["clients"][1], second);
        let (value, _) = summed_up_to(1, [("a", here(1, "1")), ("b", here(9, "2"))]);
        assert_eq!(
            (&value[0]["count"], value[0]["clients"].as_array().map(Vec::len)),
            (&json!(10), Some(1))
        );

        let channels = |names: &[(&str, u32)]| PartialAnswer::Channels {
            count: names.len() as u32,
            channels: names
                .iter()
                .map(|(name, clients)| (Channel::from(*name), *clients))
                .collect(),
        };
        let (value, _) = summed([("a", channels(&[("x", 1), ("y", 2)])), ("b", channels(&[("y", 3)]))]);
        assert_eq!(value[0]["count"], 2);
        assert_eq!(value[0]["channels"], json!({"x": 1, "y": 5}));
    }

    #[test]
    fn answers_of_no_client_are_an_empty_list() {
        let nobody = PartialAnswer::Acks {
            answers: Vec::new(),
            missing: Vec::new(),
        };
        let (value, _) = summed([("a", nobody)]);
        assert_eq!(value[0]["answers"], json!([]));
        assert_eq!(value[0]["missing"], json!([]));
        assert_eq!(
            summed([("a", PartialAnswer::Settled)]).0,
            json!([{"nodes": ["a"], "silent": ["late"]}])
        );
    }
}
