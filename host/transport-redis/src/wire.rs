//! Wire format of events, commands and dead letters: one byte for the version, then postcard
//! (<https://postcard.jamesmunns.com/wire-format>).
//!
//! A node never guesses at another version: it leaves such data alone.

use std::fmt;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use plugnode_message::{Command, Event, EventId};
use plugnode_transport::DeadLetterCause;

/// The version that this node writes, and the only one that it reads.
const VERSION: u8 = 1;

/// Field of an outbox entry: a list of commands. In Redis, the number of this run in its call follows.
pub(crate) const OUTBOX_COMMANDS: &str = "c";
/// Field of an outbox entry: for each client the number and the bytes of its newly committed events.
pub(crate) const OUTBOX_SETTLED: &str = "s";

/// Field of an io-node's own outbox entry: the broadcasts before it, see lua/shared/outbox.lua.
pub(crate) const OUTBOX_ORDER: &str = "a";

/// Field of a broadcast: the bytes ever written there, see lua/shared/outbox.lua.
pub(crate) const BROADCAST_BYTES: &str = "b";

/// A dead letter in Redis.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredLetter {
    pub(crate) id: EventId,
    pub(crate) cause: DeadLetterCause,
    pub(crate) died_at_ms: u64,
    pub(crate) content: LetterContent,
}

/// Content of a dead letter.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum LetterContent {
    Event(Event),
    Foreign(Bytes),
}

/// Initial capacity, enough for most values.
const USUAL: usize = 256;
/// Maximum length of an encoded count.
const COUNT: usize = 10;

/// Encodes a value.
pub(crate) fn encode(value: &impl Serialize) -> Bytes {
    let mut written = Vec::with_capacity(USUAL);
    written.push(VERSION);
    extended(value, written).into()
}

fn extended(value: &impl Serialize, written: Vec<u8>) -> Vec<u8> {
    postcard::to_extend(value, written).expect("memory takes what is written to it")
}

/// Encoded commands without their count, so that runs can be joined without decoding.
pub(crate) struct CommandRun {
    count: usize,
    written: Bytes,
}

impl CommandRun {
    /// Encodes commands.
    pub(crate) fn of(commands: &[Command]) -> Self {
        let mut written = Vec::with_capacity(USUAL);
        for command in commands {
            written = extended(command, written);
        }
        Self {
            count: commands.len(),
            written: written.into(),
        }
    }

    /// Its size in bytes.
    pub(crate) fn len(&self) -> usize {
        self.written.len()
    }

    /// Joins runs. The result equals [`encode`] of the list of all their commands.
    pub(crate) fn join(runs: &[&Self]) -> Bytes {
        let count: usize = runs.iter().map(|run| run.count).sum();
        let bytes: usize = runs.iter().map(|run| run.len()).sum();
        let mut written = Vec::with_capacity(1 + COUNT + bytes);
        written.push(VERSION);
        written = extended(&count, written);
        runs.iter().for_each(|run| written.extend_from_slice(&run.written));
        written.into()
    }
}

/// Reason why a value cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// Another release of plugnode wrote it in this version.
    Version(u8),
    /// It is malformed.
    Broken(String),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "it is of version {version}, which this node does not know"),
            Self::Broken(reason) => f.write_str(reason),
        }
    }
}

impl From<&str> for DecodeError {
    fn from(reason: &str) -> Self {
        Self::Broken(reason.into())
    }
}

/// Decodes a value.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (version, rest) = bytes.split_first().ok_or("it is empty")?;
    if *version != VERSION {
        return Err(DecodeError::Version(*version));
    }
    match postcard::take_from_bytes(rest) {
        Ok((value, [])) => Ok(value),
        Ok((_, more)) => Err(DecodeError::Broken(format!("it has {} bytes too many", more.len()))),
        Err(error) => Err(DecodeError::Broken(format!("it is malformed: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugnode_message::{Client, Command, Departure, DisconnectReason, EventKind, Handshake, Text};

    fn event(kind: EventKind) -> Event {
        let client = Client {
            id: "alice".into(),
            io_node: "io".into(),
            attributes: Text::from_static("{}"),
            patched: 0,
        };
        Event {
            namespace: "/".into(),
            client: Some(client),
            received_at_ms: 7,
            kind,
        }
    }

    #[test]
    fn connection_and_disconnect_are_read_back() {
        let handshake = Handshake {
            auth: Some("{}".into()),
            query: "a=b".into(),
            headers: [("host".into(), "x".into())].into(),
            remote_addr: None,
            transport: "polling".into(),
            recovered: false,
        };
        for kind in [
            EventKind::Connection(Box::new(handshake)),
            EventKind::Disconnect(DisconnectReason::Other("tired".into()).into()),
        ] {
            let event = event(kind);
            assert_eq!(decode::<Event>(&encode(&event)).unwrap(), event);
        }
    }

    #[test]
    fn bytes_of_a_disconnect_are_pinned() {
        let written = |departure| encode(&event(EventKind::Disconnect(departure)));
        let without = written(DisconnectReason::PingTimeout.into());
        assert!(without.ends_with(&[2, 4, 0]));
        let with = written(Departure::from_channels(DisconnectReason::PingTimeout, &["a".into()]));
        assert!(with.ends_with(&[&[2, 4, 1, 5][..], br#"["a"]"#].concat()));
    }

    #[test]
    fn unreadable_bytes_are_refused_with_the_reason() {
        let good = encode(&event(EventKind::Disconnect(DisconnectReason::Client.into())));
        for (bytes, reason) in [
            (Vec::new(), "it is empty".to_owned()),
            (
                vec![9, 1, 2],
                "it is of version 9, which this node does not know".into(),
            ),
            ([&good[..], b"more"].concat(), "it has 4 bytes too many".into()),
        ] {
            assert_eq!(decode::<Event>(&bytes).unwrap_err().to_string(), reason);
        }
        for length in 1..good.len() {
            assert!(
                decode::<Event>(&good[..length])
                    .unwrap_err()
                    .to_string()
                    .starts_with("it is malformed")
            );
        }
        for seed in 0..=255_u8 {
            let bytes: Vec<u8> = (0..64)
                .map(|n: u8| seed.wrapping_mul(31).wrapping_add(n.wrapping_mul(97)))
                .collect();
            let _ = decode::<Event>(&[&[VERSION][..], &bytes].concat());
            let _ = decode::<Vec<Command>>(&[&[VERSION][..], &bytes].concat());
        }
    }

    mod arbitrary {
        use proptest::collection::vec;
        use proptest::prelude::*;

        use super::*;
        use plugnode_message::{AckId, Audience, ChannelChange, Payload, Scope, Selection};
        use plugnode_release::Digest;
        use plugnode_testing::arbitrary::{bytes, json, nearly, peak, text};

        fn payload() -> impl Strategy<Value = Payload> {
            (vec(json(), 0..3), vec(bytes(30), 0..3)).prop_map(|(items, attachments)| Payload {
                json: serde_json::Value::from(items).to_string().into(),
                attachments: attachments.into_iter().map(Bytes::from).collect(),
            })
        }

        fn some_event() -> impl Strategy<Value = Event> {
            let message =
                (text(), payload(), proptest::option::of((text(), any::<i64>()))).prop_map(|(name, args, ack)| {
                    let ack = ack.map(|(client, number)| AckId {
                        namespace: "/".into(),
                        client: client.into(),
                        number,
                    });
                    EventKind::Message {
                        event: name.into(),
                        args,
                        ack,
                    }
                });
            let reply = (bytes(20), proptest::option::of(payload())).prop_map(|(token, answer)| EventKind::Reply {
                token: token.into(),
                answer,
            });
            let gone = (text(), proptest::option::of(text())).prop_map(|(reason, channels)| {
                EventKind::Disconnect(Departure {
                    reason: DisconnectReason::Other(reason),
                    channels: channels.map(Text::from),
                })
            });
            let custom = (text(), bytes(30)).prop_map(|(kind, data)| EventKind::Custom {
                kind: kind.into(),
                data: data.into(),
                content_type: None,
            });
            let late = (text(), bytes(20), payload()).prop_map(|(client, token, answer)| EventKind::LateReply {
                client: client.into(),
                token: token.into(),
                answer,
            });
            let channels = (vec(text(), 0..3), vec(text(), 0..3)).prop_map(|(joined, left)| {
                EventKind::Channels(ChannelChange {
                    joined: joined.into_iter().map(Into::into).collect(),
                    left: left.into_iter().map(Into::into).collect(),
                })
            });
            prop_oneof![message, reply, gone, custom, late, channels].prop_map(event)
        }

        fn command() -> impl Strategy<Value = Command> {
            (vec(text(), 0..3), vec(text(), 0..3), text(), payload(), any::<u32>()).prop_map(
                |(clients, channels, event, args, timeout_ms)| {
                    let selection = Selection {
                        clients: clients.into_iter().map(Into::into).collect(),
                        channels: channels.into_iter().map(Into::into).collect(),
                    };
                    let to = Audience {
                        namespace: "/".into(),
                        to: Scope::Only(selection),
                        except: Selection::default(),
                    };
                    Command::Request {
                        to,
                        event: event.into(),
                        args,
                        timeout_ms,
                        token: Bytes::new(),
                    }
                },
            )
        }

        /// Decodes, and checks that memory use is bounded by the input, whatever lengths the input claims.
        fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
            let (decoded, peak) = peak(|| decode::<T>(bytes));
            assert!(
                peak <= 256 * bytes.len() as u64 + (64 << 10),
                "{peak} bytes for {}",
                bytes.len()
            );
            decoded.ok()
        }

        fn framed(rest: Vec<u8>) -> Vec<u8> {
            [vec![VERSION], rest].concat()
        }

        proptest! {
            #[test]
            fn joined_runs_equal_the_list_of_their_commands(runs in vec(vec(command(), 0..3), 0..4)) {
                let written: Vec<CommandRun> = runs.iter().map(|run| CommandRun::of(run)).collect();
                let joined = CommandRun::join(&written.iter().collect::<Vec<_>>());
                prop_assert_eq!(joined, encode(&runs.concat()));
            }

            #[test]
            fn written_value_is_read_back(event in some_event(), commands in vec(command(), 0..3)) {
                prop_assert_eq!(decode::<Event>(&encode(&event)), Ok(event));
                prop_assert_eq!(decode::<Vec<Command>>(&encode(&commands)), Ok(commands));
            }

            #[test]
            fn any_bytes_are_read_or_refused(
                one in prop_oneof![
                    nearly(some_event().prop_map(|event| encode(&event).into())),
                    nearly(vec(command(), 0..3).prop_map(|commands| encode(&commands).into())),
                    bytes(200).prop_map(framed),
                    bytes(200),
                ],
            ) {
                if let Some(event) = decoded::<Event>(&one) {
                    let _ = event.size();
                    // Compares values, because a number may have a longer encoding than needed.
                    prop_assert_eq!(decode::<Event>(&encode(&event)), Ok(event));
                }
                if let Some(commands) = decoded::<Vec<Command>>(&one) {
                    prop_assert_eq!(decode::<Vec<Command>>(&encode(&commands)), Ok(commands));
                }
                let _ = decoded::<StoredLetter>(&one);
                let _ = decoded::<DeadLetterCause>(&one);
                let _ = decoded::<Vec<Digest>>(&one);
            }
        }

        #[test]
        fn claimed_lengths_allocate_nothing() {
            let endless = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
            for behind in 0..64 {
                for first in 0..16 {
                    let bytes = framed([vec![first; behind], endless.to_vec(), vec![0; 64]].concat());
                    let _ = decoded::<Event>(&bytes);
                    let _ = decoded::<Vec<Command>>(&bytes);
                    let _ = decoded::<StoredLetter>(&bytes);
                }
            }
        }
    }
}
