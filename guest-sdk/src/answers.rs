//! The results of cluster queries, which ask all io-nodes. Each is parsed from a [`Reply`].
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
//!                 // A client may answer anything.
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
//! Every result lists the io-nodes that answered in time (`nodes`) and those that did not (`silent`). Its other fields cover
//! only `nodes`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::incoming::Reply;
use crate::payload::{ArgsError, Payload};
use crate::placeholder;
use crate::surrogates::replace_lone_surrogates;

/// The result of [`Audience::collect`](crate::Audience::collect).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Collected {
    /// The clients that answered, with their answers.
    pub answers: Vec<Answer>,
    /// The clients that received the event but did not answer in time or have disconnected.
    pub missing: Vec<String>,
    /// The io-nodes that answered.
    pub nodes: Vec<String>,
    /// The io-nodes that did not answer in time.
    pub silent: Vec<String>,
}

/// The answer of one client.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Answer {
    /// The client.
    pub id: String,
    /// The arguments of its acknowledgement, not yet parsed, so that one invalid answer does not affect the others.
    pub payload: Payload,
}

/// The result of [`Audience::find_clients`](crate::Audience::find_clients).
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct Found {
    /// The number of matching clients.
    pub count: u64,
    /// The clients, at most as many as requested.
    pub clients: Vec<FoundClient>,
    /// The io-nodes that answered.
    pub nodes: Vec<String>,
    /// The io-nodes that did not answer in time.
    pub silent: Vec<String>,
}

/// A connected client.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct FoundClient {
    /// Its session id.
    pub id: String,
    /// The io-node that holds its connection.
    #[serde(rename = "io-node")]
    pub io_node: String,
    /// The channels it is subscribed to.
    pub channels: Vec<String>,
    attributes: Box<RawValue>,
}

impl FoundClient {
    /// Parses its attributes, like [`Client::attributes`](crate::Client::attributes).
    pub fn attributes<T: DeserializeOwned>(&self) -> Result<T, ArgsError> {
        serde_json::from_str(self.attributes.get()).map_err(|error| {
            ArgsError(format!(
                "the attributes of client {} do not have the expected type: {error}",
                self.id
            ))
        })
    }
}

/// The result of [`list_channels`](crate::list_channels).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Channels {
    /// The number of channels. A lower bound if an io-node has more channels than were requested.
    pub count: u64,
    /// The number of clients of each channel, for at most as many channels as requested.
    pub channels: BTreeMap<String, u64>,
    /// The io-nodes that answered.
    pub nodes: Vec<String>,
    /// The io-nodes that did not answer in time.
    pub silent: Vec<String>,
}

/// The result of [`settle`](crate::settle).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Settled {
    /// The io-nodes that have carried out all earlier commands.
    pub nodes: Vec<String>,
    /// The io-nodes that did not confirm it in time.
    pub silent: Vec<String>,
}

impl Reply {
    /// Parses the result of [`Audience::collect`](crate::Audience::collect).
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
        let wire: Wire = self.query_result()?;
        let attachments = self.answer.as_ref().map(|answer| answer.attachments.as_slice());
        let answer = |answer: WireAnswer| Answer {
            id: answer.id,
            payload: own_payload(answer.args.get(), attachments.unwrap_or_default()),
        };
        Ok(Collected {
            answers: wire.answers.into_iter().map(answer).collect(),
            missing: wire.missing,
            nodes: wire.nodes,
            silent: wire.silent,
        })
    }

    /// Parses the result of [`Audience::find_clients`](crate::Audience::find_clients).
    pub fn found(&self) -> Result<Found, ArgsError> {
        self.query_result()
    }

    /// Parses the result of [`list_channels`](crate::list_channels).
    pub fn channels(&self) -> Result<Channels, ArgsError> {
        self.query_result()
    }

    /// Parses the result of [`settle`](crate::settle).
    pub fn settled(&self) -> Result<Settled, ArgsError> {
        self.query_result()
    }

    /// Parses the single argument of a cluster query's answer.
    fn query_result<T: DeserializeOwned>(&self) -> Result<T, ArgsError> {
        let answer = self.answer.as_ref();
        let answer = answer.ok_or_else(|| ArgsError("the reply has no answer".into()))?;
        let (result,) = serde_json::from_str(&replace_lone_surrogates(&answer.json))
            .map_err(|error| ArgsError(format!("the reply belongs to another kind of query: {error}")))?;
        Ok(result)
    }
}

/// One client's arguments, with only the attachments they refer to out of those of the whole reply.
fn own_payload(json: &str, reply_attachments: &[Vec<u8>]) -> Payload {
    let (mut json, mut attachments) = (json.to_owned(), Vec::new());
    if !reply_attachments.is_empty()
        && json.contains(placeholder::MARKER)
        && let Ok(mut value) = serde_json::from_str::<Value>(&replace_lone_surrogates(&json))
    {
        placeholder::renumber(&mut value, &mut |index| {
            attachments.push(reply_attachments.get(index)?.clone());
            Some(attachments.len() - 1)
        });
        json = value.to_string();
    }
    Payload { json, attachments }
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
    fn each_answer_gets_its_own_attachments() {
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
        assert!(bob.payload.arg::<f64>(0).is_err(), "invalid answer, parsed alone");
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
    fn parses_clients_and_channels() {
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
    fn refuses_reply_to_another_query() {
        let none = Reply {
            token: Vec::new(),
            answer: None,
        };
        assert_eq!(none.settled().unwrap_err().to_string(), "the reply has no answer");
        let error = reply(r#"["yes"]"#, vec![]).found().unwrap_err().to_string();
        assert!(
            error.starts_with("the reply belongs to another kind of query"),
            "{error}"
        );
    }
}
