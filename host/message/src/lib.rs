//! What travels: events from io-nodes to app-nodes, commands the other way, and the effects that one event has.
//!
//! Every other module speaks in these words; this one imports none of them. Texts and payloads are shared bytes, so
//! that a message passes from socket to handler, and to many sockets, without being copied or parsed on its way.

pub mod ids;
pub mod json;
pub mod namespaces;
mod timer;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
pub use bytestring::ByteString as Text;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};

pub use self::timer::{
    Fired, Firing, LATEST, TIMER_BUCKETS, Timer, TimerEvent, due_in, due_of, has_timers, names_of, partition_of_timer,
};

/// The most bytes of a name: of a namespace, a channel or an event.
pub const MOST_NAME: usize = 1024;

/// Names of events that Socket.IO emits by itself on the receiving side, so that neither clients nor handlers may send them:
/// <https://socket.io/docs/v4/emit-cheatsheet/#reserved-events>.
pub const RESERVED_EVENTS: [&str; 6] = [
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
];

/// How many binary values an event may have, and an acknowledgement: Socket.IO's own clients close their connection when they get more. Those
/// that speak MessagePack take any number.
pub const MOST_ATTACHMENTS: usize = 10;

/// How the kinds of the host's own custom events begin: no other may be named so.
pub const RESERVED_KINDS: &str = "plugnode.";

/// The kind of the custom event by which a handler gets the reply to a question of a client that is gone.
pub const LATE_REPLY: &str = "plugnode.reply/1";

/// Declares a name that is cheap to clone and cannot be taken for another kind of name.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(name.into())
            }
        }

        // Written out, as a name that is read is copied to its place at once.
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_str(NameVisitor).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }
    };
}

struct NameVisitor;

impl Visitor<'_> for NameVisitor {
    type Value = Arc<str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(name.into())
    }
}

name! {
    /// A client within its namespace: the Socket.IO session id.
    SessionId
}
name! {
    /// A channel (a Socket.IO room) of one namespace.
    Channel
}
name! {
    /// A Socket.IO namespace, such as `/` or `/chat`.
    Namespace
}
name! {
    /// A node of the cluster, by the name under which it joined.
    NodeId
}

/// One ordered log of events. A client's events are all in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Partition(pub u16);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names an event for ever: its partition and its place in that partition's log. As text, later events of a partition
/// have greater ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventId {
    /// The partition that the event is in.
    pub partition: Partition,
    /// Grows with every event of the partition.
    pub sequence: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        if self.sequence >> 48 != 0 {
            return write!(f, "{:04x}-{:x}", self.partition.0, self.sequence);
        }
        // Every event is told its own, so this is quicker than the formatter's way.
        let number = u64::from(self.partition.0) << 48 | self.sequence;
        let digits: [u8; 16] = std::array::from_fn(|place| DIGITS[(number >> (60 - 4 * place) & 0xf) as usize]);
        let (partition, sequence) = std::str::from_utf8(&digits).expect("digits are ASCII").split_at(4);
        f.write_str(partition)?;
        f.write_str("-")?;
        f.write_str(sequence)
    }
}

impl std::str::FromStr for EventId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WORDS: &str = "not an event's id, such as 002a-0000000001f4";
        let (partition, sequence) = text.split_once('-').ok_or(WORDS)?;
        let is_hex = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex(partition) || !is_hex(sequence) {
            return Err(WORDS);
        }
        Ok(Self {
            partition: Partition(u16::from_str_radix(partition, 16).map_err(|_| WORDS)?),
            sequence: u64::from_str_radix(sequence, 16).map_err(|_| WORDS)?,
        })
    }
}

/// The arguments of a Socket.IO event or acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// A JSON array; binary arguments stand in it as `{"_placeholder":true,"num":N}`.
    pub json: Text,
    /// Binary argument N.
    pub attachments: Vec<Bytes>,
}

impl Payload {
    /// Size in bytes, for limits.
    pub fn size(&self) -> usize {
        self.json.len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }
}

/// Who an event comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The session id.
    pub id: SessionId,
    /// The io-node that holds the connection.
    pub io_node: NodeId,
    /// A JSON object that the io-node keeps for the client.
    pub attributes: Text,
    /// The number of the last patch of them that the io-node has applied, of those that the client's own events made; 0 for
    /// none.
    pub patched: u64,
}

/// The most bytes that a client's attributes may have.
pub const MOST_ATTRIBUTES: usize = 16 << 10;

/// A change of a client's attributes by one of its own events, which is committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttributePatch {
    /// The namespace of the client.
    pub namespace: Namespace,
    /// The client.
    pub client: SessionId,
    /// The event, by its number in the client's partition.
    pub number: u64,
    /// A JSON merge patch.
    pub patch: Text,
}

impl AttributePatch {
    /// That of a command of this event, if it is one of the event's own client.
    pub fn of(command: &Command, event: EventId) -> Option<Self> {
        match command {
            Command::PatchAttributes {
                namespace,
                client,
                patch,
                number,
            } if *number == event.sequence => Some(Self {
                namespace: namespace.clone(),
                client: client.clone(),
                number: *number,
                patch: patch.clone(),
            }),
            _ => None,
        }
    }
}

/// How a client connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshake {
    /// What the client gave as `auth`, as JSON.
    pub auth: Option<Text>,
    /// The query string of the connecting request, without the `?`.
    pub query: Arc<str>,
    /// Its headers, names in lower case. All handshakes of one connection share them.
    pub headers: Arc<[(String, String)]>,
    /// The peer's address and port.
    pub remote_addr: Option<String>,
    /// `websocket` or `polling`.
    pub transport: Text,
    /// Whether connection state recovery restored the session.
    pub recovered: bool,
}

/// Why a client is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DisconnectReason {
    /// The client left the namespace.
    Client,
    /// A handler or the server ended it.
    Server,
    /// The connection was closed.
    TransportClose,
    /// The connection failed.
    TransportError,
    /// A ping was not answered in time.
    PingTimeout,
    /// What the client sent was not Socket.IO.
    ParseError,
    /// The io-node is stopping.
    ServerShutdown,
    /// The io-node that held the connection died.
    NodeLost,
    /// Anything else, in words.
    Other(String),
}

/// The most bytes of the names of the channels that a disconnect tells of.
const MOST_CHANNELS: usize = 64 << 10;

/// The end of a client's connection to a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WrittenDeparture", into = "WrittenDeparture")]
pub struct Departure {
    /// Why the client is gone.
    pub reason: DisconnectReason,
    /// The channels that its io-node had it subscribed to until then: a JSON array of their names. None when the io-node did
    /// not live to tell them, or they are more than 64 KB.
    pub channels: Option<Text>,
}

impl Departure {
    /// Of a client with these channels.
    pub fn from_channels(reason: DisconnectReason, channels: &[Channel]) -> Self {
        let bytes: usize = channels.iter().map(|channel| channel.as_str().len()).sum();
        let channels = (bytes <= MOST_CHANNELS)
            .then(|| serde_json::to_string(channels).ok())
            .flatten();
        Self {
            reason,
            channels: channels.map(Text::from),
        }
    }
}

impl From<DisconnectReason> for Departure {
    fn from(reason: DisconnectReason) -> Self {
        Self { reason, channels: None }
    }
}

/// A departure as it is written. Without channels it is what nodes wrote before they told these: the reason alone.
#[derive(Clone, Serialize, Deserialize)]
enum WrittenDeparture {
    Client,
    Server,
    TransportClose,
    TransportError,
    PingTimeout,
    ParseError,
    ServerShutdown,
    NodeLost,
    Other(String),
    WithChannels(DisconnectReason, Text),
}

impl From<Departure> for WrittenDeparture {
    fn from(Departure { reason, channels }: Departure) -> Self {
        match (channels, reason) {
            (Some(channels), reason) => Self::WithChannels(reason, channels),
            (None, DisconnectReason::Client) => Self::Client,
            (None, DisconnectReason::Server) => Self::Server,
            (None, DisconnectReason::TransportClose) => Self::TransportClose,
            (None, DisconnectReason::TransportError) => Self::TransportError,
            (None, DisconnectReason::PingTimeout) => Self::PingTimeout,
            (None, DisconnectReason::ParseError) => Self::ParseError,
            (None, DisconnectReason::ServerShutdown) => Self::ServerShutdown,
            (None, DisconnectReason::NodeLost) => Self::NodeLost,
            (None, DisconnectReason::Other(words)) => Self::Other(words),
        }
    }
}

impl From<WrittenDeparture> for Departure {
    fn from(written: WrittenDeparture) -> Self {
        match written {
            WrittenDeparture::Client => DisconnectReason::Client.into(),
            WrittenDeparture::Server => DisconnectReason::Server.into(),
            WrittenDeparture::TransportClose => DisconnectReason::TransportClose.into(),
            WrittenDeparture::TransportError => DisconnectReason::TransportError.into(),
            WrittenDeparture::PingTimeout => DisconnectReason::PingTimeout.into(),
            WrittenDeparture::ParseError => DisconnectReason::ParseError.into(),
            WrittenDeparture::ServerShutdown => DisconnectReason::ServerShutdown.into(),
            WrittenDeparture::NodeLost => DisconnectReason::NodeLost.into(),
            WrittenDeparture::Other(words) => DisconnectReason::Other(words).into(),
            WrittenDeparture::WithChannels(reason, channels) => Self {
                reason,
                channels: Some(channels),
            },
        }
    }
}

/// Names one acknowledgement that a client waits for. As text it is what handlers see as `ack-id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AckId {
    /// The namespace of the client.
    pub namespace: Namespace,
    /// The client that waits.
    pub client: SessionId,
    /// The client's own number for it.
    pub number: i64,
}

impl fmt::Display for AckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is between the dots has none.
        let client = self.client.as_str().replace('%', "%25").replace('.', "%2E");
        write!(f, "{}.{client}.{}", self.number, self.namespace)
    }
}

impl std::str::FromStr for AckId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '.');
        let (Some(number), Some(client), Some(namespace)) = (parts.next(), parts.next(), parts.next()) else {
            return Err("not an ack-id of this host");
        };
        Ok(Self {
            namespace: namespace.into(),
            client: client.replace("%2E", ".").replace("%25", "%").into(),
            number: number.parse().map_err(|_| "not an ack-id of this host")?,
        })
    }
}

/// One thing that happened to, or was done by, a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The namespace, which tells the app.
    pub namespace: Namespace,
    /// Who it comes from. Only custom events may come from nobody.
    pub client: Option<Client>,
    /// When the io-node took it in, in milliseconds since the Unix epoch.
    pub received_at_ms: u64,
    /// What it is.
    pub kind: EventKind,
}

/// What an event is. A handler is also told `no-client`; its pool makes that up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// The client's first event.
    Connection(Box<Handshake>),
    /// The client emitted something.
    Message {
        /// The name it emitted.
        event: Text,
        /// The arguments.
        args: Payload,
        /// Present when the client waits for an acknowledgement.
        ack: Option<AckId>,
    },
    /// The client's last event.
    Disconnect(Departure),
    /// The client's answer to a request.
    Reply {
        /// What the handler gave with the request.
        token: Bytes,
        /// None when no answer came in time.
        answer: Option<Payload>,
    },
    /// From the code that embeds an io-node, or from the host.
    Custom {
        /// What it is, with a version at the end.
        kind: Text,
        /// Its content.
        data: Bytes,
        /// The media type of the content.
        content_type: Option<Text>,
    },
    /// What io-nodes answered to a question of a client that was gone by then. Handlers get it as a custom event of the kind
    /// [`LATE_REPLY`], from nobody.
    LateReply {
        /// The client whose event asked.
        client: SessionId,
        /// What the handler gave with the question.
        token: Bytes,
        /// The answer.
        answer: Payload,
    },
    /// A timer of the handler is due. Handlers get it as a custom event.
    Timer {
        /// Which.
        fired: Fired,
        /// What the handler said that it is.
        kind: Text,
        /// The content that the handler gave it.
        data: Bytes,
    },
}

impl EventKind {
    /// The word for this kind, for logs and reports.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Connection(_) => "connection",
            Self::Message { .. } => "message",
            Self::Disconnect(_) => "disconnect",
            Self::Reply { .. } => "reply",
            Self::Custom { .. } | Self::LateReply { .. } | Self::Timer { .. } => "custom",
        }
    }
}

impl Event {
    /// The client with whose events it is in order, and so in one partition. None for an event from nobody.
    pub fn in_order_with(&self) -> Option<&SessionId> {
        match &self.kind {
            EventKind::LateReply { client, .. } => Some(client),
            _ => self.client.as_ref().map(|client| &client.id),
        }
    }

    /// Size in bytes, for limits.
    pub fn size(&self) -> usize {
        const FIXED: usize = 128;
        FIXED
            + match &self.kind {
                EventKind::Connection(handshake) => {
                    handshake.query.len()
                        + handshake
                            .headers
                            .iter()
                            .map(|(name, value)| name.len() + value.len())
                            .sum::<usize>()
                        + handshake.auth.as_ref().map_or(0, |auth| auth.len())
                }
                EventKind::Message { event, args, .. } => event.len() + args.size(),
                EventKind::Disconnect(departure) => departure.channels.as_ref().map_or(0, |channels| channels.len()),
                EventKind::Reply { token, answer } => token.len() + answer.as_ref().map_or(0, Payload::size),
                EventKind::Custom { data, .. } => data.len(),
                EventKind::LateReply { token, answer, .. } => token.len() + answer.size(),
                EventKind::Timer { fired, kind, data } => fired.key.len() + kind.len() + data.len(),
            }
    }
}

/// Clients and channels of one namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// These clients,
    pub clients: Vec<SessionId>,
    /// and all clients of these channels.
    pub channels: Vec<Channel>,
}

/// Which clients of a namespace, before exceptions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// Every one of them.
    All,
    /// Those selected.
    Only(Selection),
}

/// The clients that a command is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audience {
    /// The namespace they are in.
    pub namespace: Namespace,
    /// Which of them.
    pub to: Scope,
    /// Who of these is left out.
    pub except: Selection,
}

impl Audience {
    /// The clients this is for, when it names clients alone: then only their io-nodes need to hear of it.
    pub fn clients_only(&self) -> Option<&[SessionId]> {
        match &self.to {
            Scope::Only(selection) if selection.channels.is_empty() => Some(&selection.clients),
            _ => None,
        }
    }

    /// The client this is for, when it names one and nothing else, which is what most answers do.
    pub fn only_client(&self) -> Option<&SessionId> {
        let Selection { clients, channels } = &self.except;
        match self.clients_only() {
            Some([client]) if clients.is_empty() && channels.is_empty() => Some(client),
            _ => None,
        }
    }
}

/// What an app-node asks of io-nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Emit an event.
    Publish {
        /// To whom.
        to: Audience,
        /// The event's name.
        event: Text,
        /// Its arguments.
        args: Payload,
        /// Whether clients that are not ready may miss it.
        volatile: bool,
        /// Whether only clients on the io-node of the event's own client are meant.
        local: bool,
    },
    /// Put clients into channels.
    Subscribe {
        /// Which clients.
        who: Audience,
        /// Which channels.
        channels: Vec<Channel>,
    },
    /// Take clients out of channels.
    Unsubscribe {
        /// Which clients.
        who: Audience,
        /// Which channels.
        channels: Vec<Channel>,
    },
    /// Answer an acknowledgement.
    Ack {
        /// Which one.
        id: AckId,
        /// The answer.
        args: Payload,
    },
    /// Emit an event and report each client's acknowledgement as a reply event.
    Request {
        /// To whom.
        to: Audience,
        /// The event's name.
        event: Text,
        /// Its arguments.
        args: Payload,
        /// How long to wait for each answer.
        timeout_ms: u32,
        /// Comes back with each answer.
        token: Bytes,
    },
    /// Disconnect clients.
    Disconnect {
        /// Which clients.
        who: Audience,
        /// Close their connections, and not only the namespace.
        close_transport: bool,
    },
    /// Change a client's attributes by a JSON merge patch.
    PatchAttributes {
        /// The namespace of the client.
        namespace: Namespace,
        /// The client.
        client: SessionId,
        /// The patch, a JSON object.
        patch: Text,
        /// The number of the event that made it, in the client's partition, when that is the client's own; else 0.
        number: u64,
    },
    /// A message to the code that embeds io-nodes.
    Custom {
        /// One io-node, or all of them.
        io_node: Option<NodeId>,
        /// What it is.
        kind: Text,
        /// Its content.
        data: Bytes,
    },
    /// The verdict on a client that waits to be admitted. The first command of its connection's effects.
    Admit {
        /// The namespace of the client.
        namespace: Namespace,
        /// The client.
        client: SessionId,
        /// None when it may come in.
        refusal: Option<Refusal>,
    },
    /// Ask every io-node. Their answers are put together on the asker's, and come as one reply event of the asker.
    Ask {
        /// Who asks.
        asker: Asker,
        /// What.
        question: Question,
        /// How long to wait for all answers.
        timeout_ms: u32,
        /// Comes back with the answer.
        token: Bytes,
    },
    /// What one io-node has to say to an [`Ask`](Self::Ask). Goes from io-node to io-node.
    Answer {
        /// Who asked.
        asker: Asker,
        /// The io-node that answers.
        from: NodeId,
        /// Its part of the answer.
        part: Part,
    },
    /// A timer of a client is due: its io-node makes an event of it.
    Fire {
        /// The namespace of the client.
        namespace: Namespace,
        /// The client.
        client: SessionId,
        /// Which timer.
        fired: Fired,
        /// The kind of the event.
        kind: Text,
        /// Its content.
        data: Bytes,
    },
}

impl Command {
    /// Size in bytes, for limits. What is small in any command counts as a constant.
    pub fn size(&self) -> usize {
        const FIXED: usize = 64;
        let audience = |who: &Audience| {
            let listed = |some: &Selection| some.clients.len() + some.channels.len();
            let to = match &who.to {
                Scope::Only(some) => listed(some),
                Scope::All => 0,
            };
            FIXED * (to + listed(&who.except))
        };
        FIXED
            + match self {
                Self::Publish { to, event, args, .. } => audience(to) + event.len() + args.size(),
                Self::Request {
                    to, event, args, token, ..
                } => audience(to) + event.len() + args.size() + token.len(),
                Self::Subscribe { who, channels } | Self::Unsubscribe { who, channels } => {
                    audience(who) + FIXED * channels.len()
                }
                Self::Ack { args, .. } => args.size(),
                Self::Disconnect { who, .. } => audience(who),
                Self::PatchAttributes { patch, .. } => patch.len(),
                Self::Custom { data, .. } => data.len(),
                Self::Fire { fired, kind, data, .. } => fired.key.len() + kind.len() + data.len(),
                Self::Ask {
                    question: Question::Acks { args, .. },
                    token,
                    ..
                } => args.size() + token.len(),
                Self::Ask { token, .. } => token.len(),
                Self::Admit { .. } | Self::Answer { .. } => FIXED,
            }
    }

    /// Whether it refuses a client.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Admit { refusal: Some(_), .. })
    }
}

/// Why a client may not come in, as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For people.
    pub message: Text,
    /// For programs: a JSON value.
    pub data: Option<Text>,
}

/// Who asks all io-nodes something.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Asker {
    /// Names the question for ever: the event whose handling asked it, and which of its commands this is.
    pub id: Text,
    /// The namespace of the client whose event that was.
    pub namespace: Namespace,
    /// The client.
    pub client: SessionId,
    /// The io-node that holds it.
    pub io_node: NodeId,
}

/// What io-nodes can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Whether it has carried out all commands before this one.
    Settled,
    /// What these clients answer to an event.
    Acks {
        /// Who is asked.
        to: Audience,
        /// The event's name.
        event: Text,
        /// Its arguments.
        args: Payload,
    },
    /// Who of these is there.
    Clients {
        /// Who is looked for.
        who: Audience,
        /// How many are described; all are counted.
        most: u32,
    },
    /// Which channels of a namespace have clients.
    Channels {
        /// The namespace.
        namespace: Namespace,
        /// How many are named.
        most: u32,
    },
}

/// One io-node's part of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// To [`Question::Settled`].
    Settled,
    /// To [`Question::Acks`].
    Acks {
        /// The clients that answered, and what.
        answers: Vec<(SessionId, Payload)>,
        /// Those that did not.
        missing: Vec<SessionId>,
    },
    /// To [`Question::Clients`].
    Clients {
        /// How many there are.
        count: u32,
        /// As many of them as were asked for.
        clients: Vec<Present>,
    },
    /// To [`Question::Channels`].
    Channels {
        /// How many there are.
        count: u32,
        /// As many of them as were asked for, and how many clients each has here.
        channels: Vec<(Channel, u32)>,
    },
}

/// A client that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {
    /// The session id.
    pub id: SessionId,
    /// What its io-node keeps for it.
    pub attributes: Text,
    /// The channels it is subscribed to.
    pub channels: Vec<Channel>,
}

/// A write to a key-value bucket as it is carried out; none deletes the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// The bucket.
    pub bucket: Text,
    /// The key.
    pub key: Text,
    /// The new value.
    pub value: Option<Bytes>,
}

/// What an event does to a key of a key-value bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// The bucket.
    pub bucket: Text,
    /// The key.
    pub key: Text,
    /// What becomes of it.
    pub change: Change,
}

/// What becomes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets the value.
    Set {
        /// The value.
        value: Bytes,
        /// How many milliseconds after the commit the key is gone by itself. None: it stays.
        ttl_ms: Option<u64>,
    },
    /// Deletes the key.
    Delete,
    /// Adds to the integer that the key has at the commit; a key without a value counts as 0. A time to live stays.
    Add(i64),
}

impl Change {
    /// Sets a value that stays.
    pub fn set(value: impl Into<Bytes>) -> Self {
        Self::Set {
            value: value.into(),
            ttl_ms: None,
        }
    }

    /// Size in bytes, for limits.
    pub fn size(&self) -> usize {
        match self {
            Self::Set { value, .. } => value.len(),
            Self::Delete => 0,
            Self::Add(_) => size_of::<i64>(),
        }
    }
}

/// A sum that [`Change::Add`] leads to is nearer to zero than this, 9.2 × 10^18: a little less than what 64 bits hold, so that a
/// script which counts in floating point can tell it, give or take a thousand.
pub const MOST_SUM: i64 = 9_200_000_000_000_000_000;

/// The integer that a stored value is, as decimal digits without leading zeros. None when it is none.
pub fn integer_of(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = text == "0" || digits.starts_with(|first| matches!(first, '1'..='9'));
    text.parse().ok().filter(|_| is_plain)
}

/// The sum of two integers of the key-value store. None when it is not within [`MOST_SUM`].
pub fn sum_of(one: i64, other: i64) -> Option<i64> {
    let sum = one.checked_add(other)?;
    (sum.unsigned_abs() < MOST_SUM.unsigned_abs()).then_some(sum)
}

/// What an event saw of a key of a key-value bucket, as of some commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The bucket.
    pub bucket: Text,
    /// The key.
    pub key: Text,
    /// What was there.
    pub seen: Seen,
}

/// What was seen under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// No value.
    Nothing,
    /// This value.
    Value(Bytes),
    /// A long value, by its SHA-1.
    Digest([u8; 20]),
}

/// Values up to this size are remembered as they are, longer ones by a digest.
const LONGEST_SEEN: usize = 1_024;

impl Seen {
    /// Remembers what was there.
    pub fn of(value: Option<&Bytes>) -> Self {
        match value {
            None => Self::Nothing,
            Some(value) if value.len() <= LONGEST_SEEN => Self::Value(value.clone()),
            Some(value) => Self::Digest(sha1_of(value)),
        }
    }

    /// Whether what is there now is what was seen.
    pub fn is(&self, value: Option<&Bytes>) -> bool {
        match (self, value) {
            (Self::Nothing, None) => true,
            (Self::Value(seen), Some(value)) => seen == value,
            (Self::Digest(seen), Some(value)) => value.len() > LONGEST_SEEN && *seen == sha1_of(value),
            _ => false,
        }
    }
}

/// The SHA-1 of a value: what Redis can compute, too. It tells changes, and is no protection from those who forge them.
pub fn sha1_of(value: &[u8]) -> [u8; 20] {
    use sha1::{Digest, Sha1};
    Sha1::digest(value).into()
}

/// All that the handling of one event does. Committed whole or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// In the order of the handler's calls.
    pub commands: Vec<Command>,
    /// At most one for each key.
    pub writes: Vec<KeyChange>,
    /// What the writes may rest on: what the event saw of the store before it wrote there itself. At most one for each
    /// key. Without writes there are none.
    pub reads: Vec<Read>,
}

/// How a handler's reads reach the key-value store, as of the last commit.
#[async_trait]
pub trait KeyValue: Send + Sync {
    /// The values of these keys, in their order. When all of them together have more than `most` bytes, that is an error,
    /// and no more than about so much was loaded.
    async fn get(&self, bucket: &str, keys: &[Text], most: usize) -> Result<Vec<Option<Bytes>>, KeyValueError>;

    /// Some of the keys that begin with `prefix`, from a cursor on, 0 at first, and the cursor to go on from. There may be
    /// none before the end. A key that is there all the while is met; one that comes or goes may be. The keys of a page
    /// have no more than `most` bytes.
    async fn keys(
        &self,
        bucket: &str,
        prefix: &str,
        cursor: u64,
        most: usize,
    ) -> Result<(Vec<Text>, Option<u64>), KeyValueError>;

    /// Whether the store has answered since that moment, and does. Asked when a read from then was not answered in time: if
    /// so, the read asked for too much. Whatever else may have held it up makes this false.
    async fn has_answered_since(&self, asked: std::time::Instant) -> bool;
}

/// A key-value store that did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum KeyValueError {
    /// It could not answer, for this reason: another time it may.
    #[error("key-value store: {0}")]
    Unavailable(String),
    /// What was asked for has more bytes than may be read at once.
    #[error("key-value store: the answer has more than {0} bytes: read less at once")]
    TooLarge(usize),
}

/// Now, in milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ack_id_is_read_as_it_is_written() {
        for (client, namespace) in [("abc_-9", "/"), ("/a.b%2E#abc", "/a.b%2E"), ("/#.%", "/.x")] {
            let id = AckId {
                namespace: namespace.into(),
                client: client.into(),
                number: -7,
            };
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for text in ["", "1", "1.a", "x.a./", "."] {
            assert!(text.parse::<AckId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_event_id_is_read_as_it_is_written() {
        for (partition, sequence) in [(0, 0), (42, 500), (u16::MAX, u64::MAX)] {
            let partition = Partition(partition);
            let id = EventId { partition, sequence };
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for text in [
            "",
            "-",
            "1",
            "1-",
            "-1",
            "10000-1",
            "+1-1",
            "1-+1",
            "x-1",
            "1-1-1",
            "1-10000000000000000",
        ] {
            assert!(text.parse::<EventId>().is_err(), "{text:?}");
        }
    }

    mod arbitrary {
        use proptest::prelude::*;

        use super::*;
        use plugnode_testing::arbitrary::{nearly_text, one_of, text};

        proptest! {
            #[test]
            fn ids_are_read_as_they_are_written(
                partition in any::<u16>(),
                sequence in prop_oneof![any::<u64>(), 0..1_u64 << 48],
                number in any::<i64>(),
                client in "[a-zA-Z0-9_-]{0,20}",
                namespace in text(),
            ) {
                let id = EventId { partition: Partition(partition), sequence };
                prop_assert_eq!(id.to_string().parse(), Ok(id));
                prop_assert_eq!(id.to_string(), format!("{partition:04x}-{sequence:012x}"));
                let id = AckId { namespace: namespace.into(), client: client.into(), number };
                prop_assert_eq!(id.to_string().parse(), Ok(id));
            }

            #[test]
            fn what_is_no_id_is_refused(given in nearly_text(one_of(&["002a-0000000001f4", "7.abc./chat", "-1.a.b.c", "é-é"]))) {
                if let Ok(id) = given.parse::<EventId>() {
                    prop_assert_eq!(id.to_string().parse(), Ok(id));
                }
                if let Ok(id) = given.parse::<AckId>() {
                    prop_assert_eq!(id.to_string().parse(), Ok(id));
                }
            }
        }
    }
}
