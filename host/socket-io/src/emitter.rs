//! Decodes what programs publish through `@socket.io/redis-emitter` and its relatives in other languages, as commands.
//! <https://socket.io/docs/v4/redis-adapter/#emitter>
//!
//! An event is a MessagePack array `[uid, packet, options]` on the channel `PREFIX#NAMESPACE#` or `PREFIX#NAMESPACE#ROOM#`. Other actions
//! are JSON objects on the channel `PREFIX-request#NAMESPACE#`. It knows no Redis, and it trusts no message.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use serde_json::value::RawValue;

use crate::malformed::Malformed;
use crate::msgpack;
use plugnode_message::{Audience, Channel, Command, MAX_NAME, Namespace, Scope, Selection, SessionId};

/// Rooms, exceptions, and channels to join or leave that one message may name.
const MAX_ROOMS: usize = 1_000;

/// The channels of one prefix, and their messages.
#[derive(Debug, Clone)]
pub struct EmitterProtocol {
    events: String,
    requests: String,
}

/// Why a message of an emitter is ignored.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmitterError {
    /// The event is invalid.
    #[error(transparent)]
    Event(#[from] Malformed),
    /// The request is invalid.
    #[error("invalid request: {0}")]
    Request(String),
    /// The namespace, as the channel names it, is not that of the packet.
    #[error("the packet is for another namespace than its channel")]
    Namespace,
    /// It names too many rooms, or one with too long a name or none.
    #[error("it names more than {MAX_ROOMS} rooms, or a room whose name does not have 1 to {MAX_NAME} bytes")]
    Rooms,
    /// A request that only servers of Socket.IO understand.
    #[error("a request of type {0} is for servers of Socket.IO; plugnode answers none of these")]
    Unsupported(u32),
}

impl EmitterProtocol {
    /// The protocol under this prefix: the option `key` of an emitter, `socket.io` by default.
    pub fn new(prefix: &str) -> Self {
        Self {
            events: format!("{prefix}#"),
            requests: format!("{prefix}-request#"),
        }
    }

    /// The patterns of its channels, for `PSUBSCRIBE`.
    pub fn patterns(&self) -> [String; 2] {
        [&self.events, &self.requests].map(|begin| {
            let escaped = begin.chars().flat_map(|letter| {
                let escape = "*?[]\\".contains(letter).then_some('\\');
                escape.into_iter().chain([letter])
            });
            escaped.chain(['*']).collect()
        })
    }

    /// Decodes a message as the command that it asks for.
    ///
    /// # Errors
    /// If it is invalid, or asks for what plugnode does not have.
    pub fn decode(&self, channel: &str, message: &[u8]) -> Result<Command, EmitterError> {
        if let Some(namespace) = channel.strip_prefix(&self.requests) {
            return request(namespace.strip_suffix('#').unwrap_or(namespace), message);
        }
        event(channel.strip_prefix(&self.events).unwrap_or_default(), message)
    }
}

/// Decodes an event. `place` is the channel after the prefix: the namespace, and perhaps a room.
fn event(place: &str, message: &[u8]) -> Result<Command, EmitterError> {
    let emission = msgpack::decode_emission(message)?;
    let options: Option<Options> = serde_json::from_str(&emission.options)
        .map_err(|error| Malformed::Packet(format!("rooms and flags cannot be read: {error}")))?;
    let options = options.unwrap_or_default();
    let namespace = emission.namespace.as_str();
    if !place.strip_prefix(namespace).is_some_and(|rest| rest.starts_with('#')) {
        return Err(EmitterError::Namespace);
    }
    let to = options.audience(namespace)?;
    let (event, args) = emission.event.into_event()?;
    Ok(Command::Publish {
        to,
        event,
        args,
        volatile: options.flags.unwrap_or_default().volatile.unwrap_or_default(),
        local: true,
    })
}

/// Decodes a request for sockets of a namespace.
fn request(namespace: &str, message: &[u8]) -> Result<Command, EmitterError> {
    const JOIN: u32 = 2;
    const LEAVE: u32 = 3;
    const DISCONNECT: u32 = 4;
    // Servers of Socket.IO also send MessagePack, which is for other servers.
    let request: Request<'_> =
        serde_json::from_slice(message).map_err(|error| EmitterError::Request(error.to_string()))?;
    if namespace.len() > MAX_NAME {
        return Err(EmitterError::Namespace);
    }
    if !matches!(request.kind, JOIN | LEAVE | DISCONNECT) {
        return Err(EmitterError::Unsupported(request.kind));
    }
    let missing = |name: &str| EmitterError::Request(format!("`{name}` is missing"));
    let read = |error: serde_json::Error| EmitterError::Request(error.to_string());
    let who = match (&request.opts, request.sid) {
        (Some(options), _) => {
            let options: Options = serde_json::from_str(options.get()).map_err(read)?;
            options.audience(namespace)?
        }
        (None, Some(sid)) => Audience {
            namespace: namespace.into(),
            to: scope(&[sid])?,
            except: Selection::default(),
        },
        (None, None) => return Err(missing("opts")),
    };
    let channels = || {
        let rooms = match (request.rooms, request.room) {
            (Some(rooms), _) => serde_json::from_str::<Vec<Room>>(rooms.get()).map_err(read)?,
            (None, Some(room)) => vec![room],
            (None, None) => return Err(missing("rooms")),
        };
        Ok(selection(&rooms)?.channels)
    };
    Ok(match request.kind {
        JOIN => Command::Subscribe {
            channels: channels()?,
            who,
        },
        LEAVE => Command::Unsubscribe {
            channels: channels()?,
            who,
        },
        _ => Command::Disconnect {
            who,
            close_transport: request.close.unwrap_or_default(),
        },
    })
}

/// A request of an emitter, or of a server of Socket.IO.
#[derive(Deserialize)]
struct Request<'a> {
    #[serde(rename = "type")]
    kind: u32,
    #[serde(borrow)]
    opts: Option<&'a RawValue>,
    /// The only socket that it is for, in requests of older servers.
    sid: Option<Room>,
    /// The type depends on the kind of the request.
    #[serde(borrow)]
    rooms: Option<&'a RawValue>,
    room: Option<Room>,
    close: Option<bool>,
}

/// Rooms and flags of a message. Some languages write an empty object as an empty list.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Options {
    rooms: Option<Vec<Room>>,
    except: Option<Vec<Room>>,
    flags: Option<Flags>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Flags {
    volatile: Option<bool>,
}

impl Options {
    fn audience(&self, namespace: &str) -> Result<Audience, EmitterError> {
        Ok(Audience {
            namespace: Namespace::from(namespace),
            to: scope(self.rooms.as_deref().unwrap_or_default())?,
            except: selection(self.except.as_deref().unwrap_or_default())?,
        })
    }
}

/// The sockets in these rooms; no rooms are all sockets.
fn scope(rooms: &[Room]) -> Result<Scope, EmitterError> {
    match rooms {
        [] => Ok(Scope::All),
        rooms => Ok(Scope::Only(selection(rooms)?)),
    }
}

/// The sockets in these rooms. The id of a socket is a room with only this socket.
fn selection(rooms: &[Room]) -> Result<Selection, EmitterError> {
    if rooms.len() > MAX_ROOMS || rooms.iter().any(|room| !(1..=MAX_NAME).contains(&room.0.len())) {
        return Err(EmitterError::Rooms);
    }
    let names = || rooms.iter().map(|room| room.0.as_str());
    Ok(Selection {
        clients: names().map(SessionId::from).collect(),
        channels: names().map(Channel::from).collect(),
    })
}

/// The name of a room. A number is its text.
struct Room(String);

impl<'de> Deserialize<'de> for Room {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(RoomVisitor)
    }
}

struct RoomVisitor;

impl Visitor<'_> for RoomVisitor {
    type Value = Room;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a room")
    }

    fn visit_str<E>(self, name: &str) -> Result<Room, E> {
        Ok(Room(name.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Room, E> {
        Ok(Room(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Room, E> {
        Ok(Room(number.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2);
        digits
            .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap())
            .collect()
    }

    fn decoded(channel: &str, message: &[u8]) -> Result<Command, EmitterError> {
        EmitterProtocol::new("socket.io").decode(channel, message)
    }

    /// The parts of an event: its namespace, rooms, exceptions, name, arguments, attachments, and whether it is volatile.
    type Emitted = (String, Vec<String>, Vec<String>, String, String, Vec<Vec<u8>>, bool);

    fn emitted(channel: &str, hex: &str) -> Emitted {
        let command = decoded(channel, &bytes(hex)).unwrap();
        let Command::Publish {
            to,
            event,
            args,
            volatile,
            ..
        } = command
        else {
            panic!("not an event: {command:?}")
        };
        let names = |channels: &[Channel]| channels.iter().map(|room| room.as_str().to_owned()).collect();
        let rooms = match &to.to {
            Scope::All => Vec::new(),
            Scope::Only(selection) => names(&selection.channels),
        };
        (
            to.namespace.to_string(),
            rooms,
            names(&to.except.channels),
            event.to_string(),
            args.json.to_string(),
            args.attachments.iter().map(|bytes| bytes.to_vec()).collect(),
            volatile,
        )
    }

    /// What `@socket.io/redis-emitter` 5.1.0 publishes.
    const HELLO: &str = "93a7656d697474657283a47479706502a46461746194a568656c6c6f01a374776f81a5746872656593c3c0cb400c000000000000\
        a36e7370a12f83a5726f6f6d7390a5666c61677380a665786365707490";

    #[test]
    fn decodes_events_of_official_emitter() {
        let hello = emitted("socket.io#/#", HELLO);
        let args = r#"[1,"two",{"three":[true,null,3.5]}]"#;
        assert_eq!(
            hello,
            ("/".into(), vec![], vec![], "hello".into(), args.into(), vec![], false)
        );
        let volatile = "93a7656d697474657283a47479706502a46461746192a16effa36e7370a12f83a5726f6f6d7391a5726f6f6d31a5666c616773\
            81a8766f6c6174696c65c3a665786365707492a178a179";
        let to_room = emitted("socket.io#/#room1#", volatile);
        let except = vec!["x".into(), "y".into()];
        assert_eq!(
            to_room,
            (
                "/".into(),
                vec!["room1".into()],
                except,
                "n".into(),
                "[-1]".into(),
                vec![],
                true
            )
        );
        let binary = "93a7656d697474657283a47479706502a46461746193a362696ec40301020381a162c401ffa36e7370a52f6368617483a5726f6f\
            6d7392a161a162a5666c61677380a665786365707490";
        let (namespace, rooms, _, _, json, attachments, _) = emitted("socket.io#/chat#", binary);
        assert_eq!((namespace.as_str(), rooms), ("/chat", vec!["a".into(), "b".into()]));
        assert_eq!(attachments, [vec![1, 2, 3], vec![255]]);
        assert_eq!(
            json,
            r#"[{"_placeholder":true,"num":0},{"b":{"_placeholder":true,"num":1}}]"#
        );
        let number = "93a7656d697474657283a47479706502a46461746191a36e756da36e7370a12f83a5726f6f6d739107a5666c61677380a6657863\
            65707490";
        assert_eq!(emitted("socket.io#/#7#", number).1, ["7"]);
    }

    #[test]
    fn dates_stay_dates() {
        let dates = "93a7656d697474657283a47479706502a46461746195a164d7ffbc1cbd0065e079f0d6ff65e079f0c70cff3b8b87c0ffffffffffff\
            ffffc0a36e7370a12f83a5726f6f6d7390a5666c61677380a665786365707490";
        let json = emitted("socket.io#/#", dates).4;
        let dates: Vec<Option<String>> = serde_json::from_str(&json).unwrap();
        let expected = [
            "2024-02-29T12:34:56.789Z",
            "2024-02-29T12:34:56.000Z",
            "1969-12-31T23:59:59.999Z",
        ];
        assert_eq!(dates[..3], expected.map(|date| Some(date.to_owned())));
        assert_eq!(dates[3], None);
    }

    #[test]
    fn decodes_requests_of_official_emitter() {
        let who = |rooms: &[&str], except: &[&str]| {
            let select = |rooms: &[&str]| Selection {
                clients: rooms.iter().map(|room| SessionId::from(*room)).collect(),
                channels: rooms.iter().map(|room| Channel::from(*room)).collect(),
            };
            Audience {
                namespace: "/".into(),
                to: if rooms.is_empty() {
                    Scope::All
                } else {
                    Scope::Only(select(rooms))
                },
                except: select(except),
            }
        };
        let request = |json: &str| decoded("socket.io-request#/#", json.as_bytes());
        assert_eq!(
            request(r#"{"type":2,"opts":{"rooms":["r"],"except":[]},"rooms":["a","b"]}"#),
            Ok(Command::Subscribe {
                who: who(&["r"], &[]),
                channels: vec!["a".into(), "b".into()],
            })
        );
        assert_eq!(
            request(r#"{"type":3,"opts":{"rooms":["r"],"except":["q"]},"rooms":["a"]}"#),
            Ok(Command::Unsubscribe {
                who: who(&["r"], &["q"]),
                channels: vec!["a".into()],
            })
        );
        assert_eq!(
            request(r#"{"type":4,"opts":{"rooms":[],"except":[]},"close":true}"#),
            Ok(Command::Disconnect {
                who: who(&[], &[]),
                close_transport: true,
            })
        );
        // As servers before version 7 of the adapter ask.
        assert_eq!(
            request(r#"{"requestId":"i","type":2,"sid":"s","room":"a"}"#),
            Ok(Command::Subscribe {
                who: who(&["s"], &[]),
                channels: vec!["a".into()],
            })
        );
        let emit = r#"{"uid":"emitter","type":6,"data":["x",1]}"#;
        assert_eq!(request(emit), Err(EmitterError::Unsupported(6)));
        for wrong in [
            "",
            "{",
            "[]",
            r#"{"type":2}"#,
            r#"{"type":4}"#,
            r#"{"type":2,"opts":{},"rooms":5}"#,
        ] {
            assert!(matches!(request(wrong), Err(EmitterError::Request(_))), "{wrong}");
        }
    }

    #[test]
    fn every_truncated_or_changed_event_is_refused_or_decoded() {
        let whole = bytes(HELLO);
        for length in 0..whole.len() {
            assert!(decoded("socket.io#/#", &whole[..length]).is_err(), "{length} bytes");
            for byte in [0x00, 0x7f, 0x80, 0x93, 0xc1, 0xc6, 0xdb, 0xdd, 0xdf, 0xff] {
                let mut changed = whole.clone();
                changed[length] = byte;
                let _ = decoded("socket.io#/#", &changed);
            }
        }
        let deep = [b"\x93\xa1u\x82\xa4type\x02\xa4data".to_vec(), vec![0x91; 100_000]].concat();
        assert_eq!(
            decoded("socket.io#/#", &deep),
            Err(EmitterError::Event(Malformed::Deep))
        );
        assert_eq!(decoded("socket.io#/chat#", &whole), Err(EmitterError::Namespace));
        let rooms = |count: usize| format!(r#"{{"type":4,"opts":{{"rooms":{:?}}}}}"#, vec!["r"; count]);
        let refused = decoded("socket.io-request#/#", rooms(MAX_ROOMS + 1).as_bytes());
        assert_eq!(refused, Err(EmitterError::Rooms));
        assert!(decoded("socket.io-request#/#", rooms(MAX_ROOMS).as_bytes()).is_ok());
        for nameless in [
            r#"{"type":2,"opts":{},"rooms":["a",""]}"#,
            r#"{"type":3,"sid":"s","room":""}"#,
            r#"{"type":4,"opts":{"rooms":[""]}}"#,
            r#"{"type":4,"opts":{"rooms":["a"],"except":[""]}}"#,
        ] {
            let refused = decoded("socket.io-request#/#", nameless.as_bytes());
            assert_eq!(refused, Err(EmitterError::Rooms), "{nameless}");
        }
    }

    #[test]
    fn namespace_is_the_main_one_if_it_is_missing() {
        // As the emitters of Socket.IO 1 publish; PHP writes an empty object as an empty list.
        let old = b"\x93\xa1u\x82\xa4type\x02\xa4data\x91\xa1e\x82\xa5rooms\x90\xa5flags\x90";
        assert!(
            matches!(decoded("socket.io#/#", old), Ok(Command::Publish { to, .. }) if to.namespace.as_str() == "/")
        );
    }

    #[test]
    fn patterns_match_the_prefix_literally() {
        let patterns = EmitterProtocol::new("a*[b]").patterns();
        assert_eq!(patterns, [r"a\*\[b\]#*", r"a\*\[b\]-request#*"]);
    }
}
