//! What comes back from asking all io-nodes: each kind of question has its answer here, which is read from a
//! [`Reply`](crate::Reply).
//!
//! ```
//! use std::time::Duration;
//!
//! use plugnode_sdk::prelude::*;
//! use plugnode_sdk::{all, list_channels, to};
//!
//! #[derive(Default)]
//! struct Quiz;
//!
//! impl Handler for Quiz {
//!     fn on_message(&mut self, _: &Client, message: &Incoming) -> Result {
//!         match message.event.as_str() {
//!             "poll" => to("players").collect("guess", (), Duration::from_secs(5), "guesses")?,
//!             "who" => all().find_clients(100, Duration::from_secs(1), "who")?,
//!             _ => list_channels(100, Duration::from_secs(1), "channels")?,
//!         }
//!         Ok(())
//!     }
//!
//!     fn on_reply(&mut self, client: &Client, reply: &Reply) -> Result {
//!         match reply.token.as_slice() {
//!             b"guesses" => {
//!                 let collected = reply.collected()?;
//!                 // What a client answers may be anything.
//!                 let guesses = collected.answers.iter().filter_map(|answer| answer.payload.arg::<u32>(0).ok());
//!                 client.emit("guesses", (guesses.collect::<Vec<_>>(), collected.missing.len()))?;
//!             }
//!             b"who" => {
//!                 let found = reply.found()?;
//!                 let names = found.clients.iter().map(|client| client.id.as_str());
//!                 client.emit("who", (found.count, names.collect::<Vec<_>>()))?;
//!             }
//!             _ => client.emit("channels", (reply.channels()?.channels,))?,
//!         }
//!         Ok(())
//!     }
//! }
//! ```
//!
//! An answer is as good as the io-nodes that gave theirs in time, and says so: `nodes` have answered, `silent` ones have
//! not, and nothing else in it is known of these.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::incoming::Reply;
use crate::payload::{ArgsError, Payload};
use crate::surrogates::without_lone;

/// What came of [`Audience::collect`](crate::Audience::collect).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Collected {
    /// The clients that answered, and what.
    pub answers: Vec<Answer>,
    /// The clients that were sent the event and did not answer in time, or are gone since.
    pub missing: Vec<String>,
    /// The io-nodes that told of their clients,
    pub nodes: Vec<String>,
    /// and those that did not in time.
    pub silent: Vec<String>,
}

/// What one client answered.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Answer {
    /// The client.
    pub id: String,
    /// The arguments of its acknowledgement, not yet parsed: one client that answers what it should not spoils no other's.
    pub payload: Payload,
}

/// What came of [`Audience::find_clients`](crate::Audience::find_clients).
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct Found {
    /// How many there are.
    pub count: u64,
    /// As many of them as were asked for.
    pub clients: Vec<FoundClient>,
    /// The io-nodes that told of their clients,
    pub nodes: Vec<String>,
    /// and those that did not in time.
    pub silent: Vec<String>,
}

/// A client that is there.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct FoundClient {
    /// Its session id.
    pub id: String,
    /// The io-node that holds its connection.
    #[serde(rename = "io-node")]
    pub io_node: String,
    /// The channels that it is subscribed to.
    pub channels: Vec<String>,
    attributes: Box<RawValue>,
}

impl FoundClient {
    /// Its attributes, as [`Client::attributes`](crate::Client::attributes) reads them.
    pub fn attributes<T: DeserializeOwned>(&self) -> Result<T, ArgsError> {
        serde_json::from_str(self.attributes.get()).map_err(|error| {
            ArgsError(format!(
                "the attributes of client {} are not those expected: {error}",
                self.id
            ))
        })
    }
}

/// What came of [`list_channels`](crate::list_channels).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Channels {
    /// How many there are. A lower bound when an io-node has more than it names.
    pub count: u64,
    /// As many of them as were asked for, and how many clients each has.
    pub channels: BTreeMap<String, u64>,
    /// The io-nodes that told of their channels,
    pub nodes: Vec<String>,
    /// and those that did not in time.
    pub silent: Vec<String>,
}

/// What came of [`settle`](crate::settle).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Settled {
    /// The io-nodes that have carried everything out,
    pub nodes: Vec<String>,
    /// and those of which that is not known.
    pub silent: Vec<String>,
}

impl Reply {
    /// Reads this as the answer to [`Audience::collect`](crate::Audience::collect).
    pub fn collected(&self) -> Result<Collected, ArgsError> {
        #[derive(Deserialize)]
        struct Wire {
            answers: Vec<WireAnswer>,
            missing: Vec<String>,
            nodes: Vec<String>,
            silent: Vec<String>,
        }
        #[derive(Deserialize)]
        struct WireAnswer {
            id: String,
            args: Box<RawValue>,
        }
        let wire: Wire = self.told()?;
        let attachments = self.answer.as_ref().map(|answer| answer.attachments.as_slice());
        let answer = |answer: WireAnswer| Answer {
            id: answer.id,
            payload: alone(answer.args.get(), attachments.unwrap_or_default()),
        };
        Ok(Collected {
            answers: wire.answers.into_iter().map(answer).collect(),
            missing: wire.missing,
            nodes: wire.nodes,
            silent: wire.silent,
        })
    }

    /// Reads this as the answer to [`Audience::find_clients`](crate::Audience::find_clients).
    pub fn found(&self) -> Result<Found, ArgsError> {
        self.told()
    }

    /// Reads this as the answer to [`list_channels`](crate::list_channels).
    pub fn channels(&self) -> Result<Channels, ArgsError> {
        self.told()
    }

    /// Reads this as the answer to [`settle`](crate::settle).
    pub fn settled(&self) -> Result<Settled, ArgsError> {
        self.told()
    }

    /// The one argument of an answer that io-nodes gave.
    fn told<T: DeserializeOwned>(&self) -> Result<T, ArgsError> {
        let answer = self.answer.as_ref();
        let answer = answer.ok_or_else(|| ArgsError("the reply is without an answer".into()))?;
        let (told,) = serde_json::from_str(&without_lone(&answer.json))
            .map_err(|error| ArgsError(format!("the reply is not to that question: {error}")))?;
        Ok(told)
    }
}

/// Arguments with the attachments that they name, out of those of several.
fn alone(json: &str, of_all: &[Vec<u8>]) -> Payload {
    let (mut json, mut attachments) = (json.to_owned(), Vec::new());
    if !of_all.is_empty()
        && json.contains("_placeholder")
        && let Ok(mut value) = serde_json::from_str::<Value>(&without_lone(&json))
    {
        renumber(&mut value, of_all, &mut attachments);
        json = value.to_string();
    }
    Payload { json, attachments }
}

/// Takes what the placeholders name, and has them name it where it is then.
fn renumber(value: &mut Value, of_all: &[Vec<u8>], taken: &mut Vec<Vec<u8>>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| renumber(item, of_all, taken)),
        Value::Object(fields) if fields.get("_placeholder") == Some(&Value::Bool(true)) => {
            let number = fields.get("num").and_then(Value::as_u64);
            if let Some(attachment) = number.and_then(|number| of_all.get(number as usize)) {
                fields.insert("num".into(), taken.len().into());
                taken.push(attachment.clone());
            }
        }
        Value::Object(fields) => fields.values_mut().for_each(|field| renumber(field, of_all, taken)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Binary;

    fn reply(json: &str, attachments: Vec<Vec<u8>>) -> Reply {
        Reply {
            token: Vec::new(),
            answer: Some(Payload {
                json: json.into(),
                attachments,
            }),
        }
    }

    #[test]
    fn each_answer_has_its_own_attachments() {
        let json = r#"[{"answers":[
            {"id":"ada","args":[{"_placeholder":true,"num":0},7]},
            {"id":"bob","args":[1e999]},
            {"id":"cyd","args":[{"file":{"_placeholder":true,"num":2}},{"_placeholder":true,"num":1}]}
        ],"missing":["dan"],"nodes":["one"],"silent":["two"]}]"#;
        let collected = reply(json, vec![vec![1], vec![2], vec![3]]).collected().unwrap();
        let [ada, bob, cyd] = collected.answers.as_slice() else {
            panic!("{collected:?}")
        };
        assert_eq!(ada.payload.args::<(Binary, u32)>().unwrap(), (Binary(vec![1]), 7));
        assert!(bob.payload.arg::<f64>(0).is_err(), "and the others are still there");
        assert_eq!(cyd.id, "cyd");
        assert_eq!(cyd.payload.arg::<Binary>(1).unwrap(), Binary(vec![2]));
        let file: BTreeMap<String, Binary> = cyd.payload.arg(0).unwrap();
        assert_eq!(file["file"], Binary(vec![3]));
        assert_eq!(
            (collected.missing, collected.silent),
            (vec!["dan".into()], vec!["two".into()])
        );
    }

    #[test]
    fn clients_and_channels_are_read() {
        let json = r#"[{"count":7,"clients":[{"id":"ada","io-node":"one","attributes":{"age":36},"channels":["news"]}],
            "nodes":["one"],"silent":[],"more":1}]"#;
        let found = reply(json, vec![]).found().unwrap();
        assert_eq!((found.count, found.clients.len()), (7, 1));
        let ages: BTreeMap<String, u32> = found.clients[0].attributes().unwrap();
        assert_eq!(ages["age"], 36);
        let json = r#"[{"count":2,"channels":{"news":3,"sport":1},"nodes":[],"silent":["one"]}]"#;
        let channels = reply(json, vec![]).channels().unwrap();
        assert_eq!((channels.count, channels.channels["news"]), (2, 3));
        assert_eq!(reply(json, vec![]).settled().unwrap().silent, ["one"]);
    }

    #[test]
    fn a_reply_to_something_else_is_an_error() {
        let none = Reply {
            token: Vec::new(),
            answer: None,
        };
        assert_eq!(
            none.settled().unwrap_err().to_string(),
            "the reply is without an answer"
        );
        let error = reply(r#"["yes"]"#, vec![]).found().unwrap_err().to_string();
        assert!(error.starts_with("the reply is not to that question"), "{error}");
    }
}
