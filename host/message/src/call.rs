//! Calls of the server API: what a program outside of the cluster asks for.
//!
//! A call is an event that no client sent. An app-node commits its commands without a handler, or gives its custom event to one. The
//! answer is a command to the API node, part of the same commit; so is the record of the call's idempotency key.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{AckId, Change, Command, EventId, KeyChange, Namespace, NodeId, Payload, Read, Seen, SessionId, Text};

/// Prefix of the buckets of idempotency keys; the caller's name follows. It is reserved: handlers cannot open them.
const CALL_BUCKETS: &str = "plugnode:calls:";
/// How long an idempotency key is kept.
const KEPT_MS: u64 = 86_400_000;
/// Bytes of an acknowledgement that is kept with the key, to be repeated.
const MAX_KEPT_ANSWER: usize = 64 << 10;
/// Prefix of the client in the ack-id of a call. Session ids have no colon.
const CALLER: &str = "plugnode:call:";

/// A call of the server API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The API node, which waits for the answer.
    pub api_node: NodeId,
    /// Number of the call at that node.
    pub id: u64,
    /// Name of the caller, by which its open events are counted. It is the name of a key of the API.
    pub caller: Text,
    /// Calls and events of clients with the same value are handled in order: a client's id, or a text that is no client's id.
    pub order: SessionId,
    /// Makes repetitions of the call have no effect.
    pub key: Option<CallKey>,
    /// What is to be done.
    pub action: CallAction,
}

/// The idempotency key of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallKey {
    /// The bucket of the caller's keys.
    pub bucket: Text,
    /// The key, which is the caller's own.
    pub name: Text,
    /// SHA-256 of the call's content.
    pub digest: [u8; 32],
}

/// What a call asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallAction {
    /// Carry out these commands.
    Commands(Vec<Command>),
    /// Give a custom event to the handler of the namespace's app.
    Event {
        /// Its kind.
        kind: Text,
        /// Its content.
        data: Bytes,
        /// The media type of the content.
        content_type: Option<Text>,
    },
}

/// The answer to a call, on its way to the API node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallAnswer {
    /// The API node.
    pub api_node: NodeId,
    /// Number of the call.
    pub call: u64,
    /// The answer.
    pub outcome: CallOutcome,
}

/// The outcome of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallOutcome {
    /// The call was carried out.
    Done {
        /// The event that carried it out.
        event: EventId,
        /// The handler's acknowledgement, if it made one in that event.
        answer: Option<Payload>,
        /// Whether an earlier call with the same key did it.
        repeated: bool,
    },
    /// A handler acknowledged the call's event in a later event.
    Acknowledged(Payload),
    /// An earlier call with the same key had another content. Nothing was done.
    KeyReused,
    /// The call could not be committed, for this reason. Nothing was done.
    Refused(String),
    /// The handler failed, and the event became a dead letter.
    Failed(EventId),
}

/// The record of an idempotency key.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct CallRecord {
    digest: [u8; 32],
    event: EventId,
    answer: Option<Payload>,
}

impl Call {
    /// The answer with this outcome.
    pub fn answer(&self, outcome: CallOutcome) -> Command {
        Command::CallAnswer(CallAnswer {
            api_node: self.api_node.clone(),
            call: self.id,
            outcome,
        })
    }

    /// The ack-id by which a handler acknowledges the event of this call.
    pub fn ack_id(&self, namespace: &Namespace) -> AckId {
        AckId {
            namespace: namespace.clone(),
            client: format!("{CALLER}{}", self.api_node).into(),
            number: self.id as i64,
        }
    }

    /// Size in bytes, as limits count it.
    pub fn size(&self) -> usize {
        self.key.as_ref().map_or(0, |key| key.name.len())
            + match &self.action {
                CallAction::Commands(commands) => commands.iter().map(Command::size).sum(),
                CallAction::Event { kind, data, .. } => kind.len() + data.len(),
            }
    }
}

impl CallKey {
    /// A key of this caller.
    pub fn new(caller: &str, name: Text, digest: [u8; 32]) -> Self {
        let bucket = format!("{CALL_BUCKETS}{caller}").into();
        Self { bucket, name, digest }
    }

    /// The read that a commit checks: the key is not recorded.
    pub fn is_new(&self) -> Read {
        Read {
            bucket: self.bucket.clone(),
            key: self.name.clone(),
            seen: Seen::Nothing,
        }
    }

    /// The write that records the key, for a day.
    pub fn record(&self, event: EventId, answer: Option<&Payload>) -> KeyChange {
        let record = CallRecord {
            digest: self.digest,
            event,
            answer: answer.filter(|answer| answer.size() <= MAX_KEPT_ANSWER).cloned(),
        };
        let value = postcard::to_extend(&record, Vec::new()).expect("memory takes what is written to it");
        KeyChange {
            bucket: self.bucket.clone(),
            key: self.name.clone(),
            change: Change::Set {
                value: value.into(),
                ttl_ms: Some(KEPT_MS),
            },
        }
    }

    /// The outcome of a call whose key has this record.
    pub fn repeated(&self, record: &[u8]) -> CallOutcome {
        match postcard::from_bytes::<CallRecord>(record) {
            Ok(record) if record.digest == self.digest => CallOutcome::Done {
                event: record.event,
                answer: record.answer,
                repeated: true,
            },
            Ok(_) => CallOutcome::KeyReused,
            Err(error) => CallOutcome::Refused(format!("the record of the idempotency key cannot be read: {error}")),
        }
    }
}

impl Command {
    /// Acknowledges an event of a client or of a call.
    pub fn acknowledge(id: AckId, args: Payload) -> Self {
        match id.client.as_str().strip_prefix(CALLER) {
            Some(api_node) => Self::CallAnswer(CallAnswer {
                api_node: api_node.into(),
                call: id.number as u64,
                outcome: CallOutcome::Acknowledged(args),
            }),
            None => Self::Ack { id, args },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, EventKind, Partition};

    fn call() -> Call {
        Call {
            api_node: "api.one".into(),
            id: 7,
            caller: "office".into(),
            order: "alice".into(),
            key: Some(CallKey::new("office", "k1".into(), [1; 32])),
            action: CallAction::Commands(Vec::new()),
        }
    }

    fn args() -> Payload {
        Payload {
            json: "[1]".into(),
            attachments: Vec::new(),
        }
    }

    #[test]
    fn ack_id_of_a_call_leads_to_its_api_node() {
        let id: AckId = call().ack_id(&"/".into()).to_string().parse().unwrap();
        assert_eq!(
            Command::acknowledge(id, args()),
            call().answer(CallOutcome::Acknowledged(args()))
        );
        let of_client = AckId {
            namespace: "/".into(),
            client: "alice".into(),
            number: 7,
        };
        assert!(matches!(Command::acknowledge(of_client, args()), Command::Ack { .. }));
    }

    #[test]
    fn record_repeats_the_answer_of_the_same_content_only() {
        let event = EventId {
            partition: Partition(1),
            sequence: 2,
        };
        let key = call().key.unwrap();
        let Change::Set { value, ttl_ms } = key.record(event, Some(&args())).change else {
            panic!("it is set")
        };
        assert_eq!(ttl_ms, Some(KEPT_MS));
        let answer = Some(args());
        assert_eq!(
            key.repeated(&value),
            CallOutcome::Done {
                event,
                answer,
                repeated: true
            }
        );
        let other = CallKey { digest: [2; 32], ..key };
        assert_eq!(other.repeated(&value), CallOutcome::KeyReused);
        assert!(matches!(other.repeated(b"?"), CallOutcome::Refused(_)));
    }

    #[test]
    fn call_is_in_order_with_its_client_and_counts_for_its_caller() {
        let event = Event {
            namespace: "/".into(),
            client: None,
            received_at_ms: 0,
            kind: EventKind::Call(Box::new(call())),
        };
        assert_eq!(event.in_order_with(), Some(&"alice".into()));
        assert_eq!(event.counted_for().as_deref(), Some(&"#office".into()));
    }
}
