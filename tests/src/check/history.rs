//! Observations of a run: a trace of each client, the disconnects that watchers received, and the cluster's record of each client.
//!
//! Times are microseconds since the start of the run, by one clock. Clients are identified by their index in the history, messages by
//! their numbers, which start at 1.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

/// All that was observed in one run.
#[derive(Debug, Default)]
pub struct History {
    /// How long a message that asks for an acknowledgement waits before the cluster refuses it. A client that has disconnected
    /// meanwhile does not learn of the refusal.
    pub refuse_after: u64,
    /// One trace for each connection.
    pub traces: Vec<ClientTrace>,
    /// The clients that received disconnects and publishes.
    pub watches: Vec<Watch>,
    /// What each publisher sent through the server API.
    pub publishes: Vec<Publishes>,
    /// The releases that acknowledgements named.
    pub releases: BTreeMap<String, ReleaseAnswers>,
    /// Final values of the shared counters. Counter N is at index N.
    pub counters: Vec<u64>,
}

/// The acknowledgements that named one release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReleaseAnswers {
    /// Time of the first.
    pub first_at: u64,
    /// Time of the last.
    pub last_at: u64,
    /// Their number.
    pub times: u64,
}

/// One client, from its connection to its end.
#[derive(Debug, Default)]
pub struct ClientTrace {
    /// Its session id.
    pub id: String,
    /// Its channel.
    pub channel: String,
    /// When it was connected.
    pub connected_at: u64,
    /// When it was told that it had joined its channel, if it was.
    pub welcomed_at: Option<u64>,
    /// Message N is at index N - 1.
    pub sent: Vec<Sent>,
    /// In the order of arrival.
    pub deliveries: Vec<Delivery>,
    /// Messages whose attachment came back changed.
    pub corrupted: Vec<u64>,
    /// The end of its connection.
    pub ended: Ended,
    /// When its connection ended.
    pub ended_at: u64,
    /// The cluster's record after the run settled, while the client was connected.
    pub open_record: Option<Record>,
    /// The cluster's last record.
    pub record: Option<Record>,
}

/// A message that a client sent.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    /// When it was sent.
    pub at: u64,
    /// When its acknowledgement came.
    pub acked_at: Option<u64>,
    /// Whether it asked for an acknowledgement.
    pub asks: bool,
    /// The other client that it was addressed to.
    pub peer: Option<u32>,
    /// The shared counters that it increments.
    pub increments: Vec<u16>,
    /// Whether the handler was asked to fail it at every attempt.
    pub fails: bool,
}

/// Something that a client received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// Sender of the message that caused it.
    pub from: u32,
    /// That message's number; 0 for a welcome.
    pub number: u32,
    /// Handled messages of that client so far, by the handler's count.
    pub count: u32,
    /// The kind of delivery.
    pub kind: DeliveryKind,
    /// The event that caused it.
    pub event: EventId,
}

/// Ways in which a message is delivered, in the order of the handler's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeliveryKind {
    /// No message: the client has joined its channel.
    Welcome,
    /// Sent to its sender.
    Direct,
    /// Sent to one other client.
    Peer,
    /// Sent to the channel.
    Broadcast,
    /// Acknowledged.
    Ack,
    /// Acknowledged with a refusal: the cluster was overloaded.
    Refused,
    /// Acknowledged with an error: the handler failed, and the event is a dead letter.
    Failed,
    /// No message: a member of the channel disconnected. Its number is [`Delivery::LAST`].
    Gone,
}

impl Delivery {
    /// Greater than any message's number.
    pub const LAST: u32 = u32::MAX;

    /// Whether it proves that a message took effect.
    pub fn is_of_effect(&self) -> bool {
        matches!(
            self.kind,
            DeliveryKind::Direct | DeliveryKind::Peer | DeliveryKind::Broadcast | DeliveryKind::Ack
        )
    }

    /// Whether it is an acknowledgement that a message took no effect.
    pub fn is_error(&self) -> bool {
        matches!(self.kind, DeliveryKind::Refused | DeliveryKind::Failed)
    }
}

/// The id of an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// The partition.
    pub partition: u16,
    /// The position in the partition.
    pub sequence: u64,
}

/// How a client's connection ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Ended {
    /// It stayed until the run had settled.
    #[default]
    Stayed,
    /// It left the namespace.
    Left,
    /// It closed its connection without leaving the namespace.
    Dropped,
    /// It lost its connection, for this reason.
    Lost(String),
}

/// The cluster's record of a client, kept by the handler.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Number of times that its connection was handled.
    pub connections: u32,
    /// Number of times that its disconnect was handled.
    pub disconnects: u32,
    /// Reason of its disconnect.
    pub reason: Option<String>,
    /// Messages that were handled before its connection.
    pub early: u32,
    /// Messages that were handled after its disconnect.
    pub late: u32,
    /// Messages that were handled, repeated ones included.
    pub count: u64,
    /// The sum of their numbers, without repeated ones.
    pub sum: u64,
    /// The greatest number.
    pub last: u64,
    /// First and last number of each gap below `last`.
    pub gaps: Vec<(u64, u64)>,
    /// Gaps up to this number are no longer recorded.
    pub forgotten_to: u64,
    /// Numbers handled again.
    pub repeated: Numbers,
    /// Numbers handled after a greater one.
    pub reordered: Numbers,
    /// Messages that did not see the attributes that an earlier one had set; 0 stands for the disconnect.
    pub stale: Numbers,
    /// Its timers.
    pub timers: Timers,
    /// The last event that changed the record.
    pub event: String,
}

/// The timers of a client, each identified by the message that set it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Timers {
    /// Timers that are set and have not fired.
    pub set: Vec<u64>,
    /// Number of timers that fired.
    pub due: u64,
    /// Timers that fired again, or were never set.
    pub repeated: Numbers,
    /// Timers that fired after the client's disconnect.
    pub late: Numbers,
}

/// Messages with the same fault.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Numbers {
    /// Number of these messages.
    pub count: u32,
    /// The first of them.
    pub first: Vec<u64>,
}

/// One connection of a client that receives disconnects.
#[derive(Debug, Default)]
pub struct Watch {
    /// Time from which it received them.
    pub welcomed_at: u64,
    /// Whether the connection lasted to the end of the run.
    pub stayed: bool,
    /// In the order of arrival.
    pub notices: Vec<DisconnectNotice>,
    /// Publisher and number of each publish, in the order of arrival.
    pub publishes: Vec<(u32, u64)>,
}

/// What one publisher sent. Its publishes have numbers from 1.
#[derive(Debug, Default)]
pub struct Publishes {
    /// When each was sent first.
    pub sent: Vec<u64>,
    /// The number of the last one that was accepted.
    pub accepted: usize,
    /// Attempts that were repeated.
    pub repeated: usize,
    /// The status by which the last one was refused for good.
    pub refused: Option<u16>,
}

/// A disconnect that a watcher received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisconnectNotice {
    /// When it arrived.
    pub at: u64,
    /// The client that disconnected.
    pub client: u32,
    /// The reason.
    pub reason: String,
    /// The disconnect's event.
    pub event: EventId,
}

impl ClientTrace {
    /// Whether it stayed until the run had settled.
    pub fn stayed(&self) -> bool {
        self.ended == Ended::Stayed
    }
}

impl DeliveryKind {
    /// The name in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Welcome => "welcome",
            Self::Direct => "direct message",
            Self::Peer => "message to another client",
            Self::Broadcast => "broadcast",
            Self::Ack => "acknowledgement",
            Self::Refused => "refusal",
            Self::Failed => "failure",
            Self::Gone => "disconnect",
        }
    }
}

impl EventId {
    /// Reads `PPPP-SSSSSSSSSSSS`, hexadecimal.
    pub fn parse(text: &str) -> Option<Self> {
        let (partition, sequence) = text.split_once('-')?;
        Some(Self {
            partition: u16::from_str_radix(partition, 16).ok()?,
            sequence: u64::from_str_radix(sequence, 16).ok()?,
        })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}-{:012x}", self.partition, self.sequence)
    }
}
