//! What was observed: each client's story, what watchers were told, and what the cluster kept of each client.
//!
//! Times are in microseconds since the beginning of the run, all of one clock. Clients are named by their place in the
//! history, messages by their numbers, which begin with 1.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

/// All that was observed in one run.
#[derive(Debug, Default)]
pub struct History {
    /// How long a message that asks has to wait before the cluster refuses it. Who has gone meanwhile does not hear of it.
    pub refuse_after: u64,
    /// One for each connection that was made.
    pub stories: Vec<Story>,
    /// Those who were told of disconnects.
    pub watches: Vec<Watch>,
    /// The releases that acknowledgements named.
    pub releases: BTreeMap<String, Answers>,
    /// The values of the shared counters at the end. Counter N is at N.
    pub counters: Vec<u64>,
}

/// The acknowledgements that named one release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answers {
    /// When the first came,
    pub first_at: u64,
    /// and the last.
    pub last_at: u64,
    /// How many came.
    pub times: u64,
}

/// One client, from its connection to its end.
#[derive(Debug, Default)]
pub struct Story {
    /// Its session id.
    pub id: String,
    /// Its channel.
    pub channel: String,
    /// When it was connected.
    pub connected_at: u64,
    /// When it heard that it is in its channel, if it did.
    pub welcomed_at: Option<u64>,
    /// Message N is at N - 1.
    pub sent: Vec<Sent>,
    /// In the order of arrival.
    pub heard: Vec<Heard>,
    /// Messages whose bytes came back as others.
    pub garbled: Vec<u64>,
    /// How it ended,
    pub ended: Ended,
    /// and when.
    pub ended_at: u64,
    /// What the cluster kept of it when all was quiet and it was still connected.
    pub open_record: Option<Record>,
    /// What the cluster kept of it at last.
    pub record: Option<Record>,
}

/// A message that a client sent.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    /// When.
    pub at: u64,
    /// When its acknowledgement came.
    pub acked_at: Option<u64>,
    /// Whether it asked for one.
    pub asks: bool,
    /// The other client that it was for.
    pub peer: Option<u32>,
    /// The shared counters that it increments.
    pub increments: Vec<u16>,
    /// Whether the handler was asked to fail it at every attempt.
    pub fails: bool,
}

/// Something that a client heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Who sent the message that it comes of.
    pub from: u32,
    /// That message's number; 0 for a welcome.
    pub number: u32,
    /// How many messages of that client had been handled, as the handler said.
    pub count: u32,
    /// How it came.
    pub what: What,
    /// The event that it comes of.
    pub event: EventName,
}

/// The ways in which a message is heard, in the order of the handler's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// Not of a message: the client is in its channel.
    Welcome,
    /// Sent to its sender.
    Direct,
    /// Sent to another client by name.
    Peer,
    /// Sent to the channel.
    Broadcast,
    /// Acknowledged.
    Ack,
    /// Acknowledged with a refusal: the cluster had too much to do.
    Refused,
    /// Acknowledged with an error: the handler failed, and the event is a dead letter.
    Failed,
    /// Not of a message: one of the channel went. Its number is [`Heard::LAST`].
    Gone,
}

impl Heard {
    /// Greater than every message's number.
    pub const LAST: u32 = u32::MAX;

    /// Whether it shows that a message took effect.
    pub fn is_of_effect(&self) -> bool {
        matches!(self.what, What::Direct | What::Peer | What::Broadcast | What::Ack)
    }

    /// Whether it is an acknowledgement that says that a message took no effect.
    pub fn is_error(&self) -> bool {
        matches!(self.what, What::Refused | What::Failed)
    }
}

/// The id of an event; its text is rebuilt for reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventName {
    /// The partition.
    pub partition: u16,
    /// The place in it.
    pub sequence: u64,
}

/// How a client ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Ended {
    /// It stayed until the run was over and all was quiet.
    #[default]
    Stayed,
    /// It left the namespace of its own will.
    Left,
    /// It closed its connection of its own will.
    Dropped,
    /// Its connection was lost, for this reason.
    Lost(String),
}

/// What the cluster keeps of a client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Record {
    /// How often its connection was handled.
    pub connections: u32,
    /// How often its disconnect was handled,
    pub disconnects: u32,
    /// and why it went.
    pub reason: Option<String>,
    /// Messages that were handled before its connection.
    pub early: u32,
    /// Messages that were handled after its disconnect.
    pub late: u32,
    /// Messages that were handled, repeated ones included.
    pub count: u64,
    /// The sum of their numbers, repeated ones left out.
    pub sum: u64,
    /// The greatest number.
    pub last: u64,
    /// First and last of each gap below it.
    pub gaps: Vec<(u64, u64)>,
    /// Of numbers up to this, the gaps are forgotten.
    pub forgotten_to: u64,
    /// Numbers that came again.
    pub repeated: Numbers,
    /// Numbers that came after a greater one.
    pub reordered: Numbers,
    /// Messages that did not see the attributes that an earlier one had set; 0 stands for the disconnect.
    pub stale: Numbers,
    /// Its timers.
    pub timers: Timers,
    /// The event that changed this last.
    pub event: String,
}

/// The timers of a client, each of which is named by the message that set it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Timers {
    /// Those that are set, and were not due yet.
    pub set: Vec<u64>,
    /// How many were due.
    pub due: u64,
    /// Those that were due again, or never set.
    pub repeated: Numbers,
    /// Those that were due after the client's disconnect.
    pub late: Numbers,
}

/// Numbers that something went wrong with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Numbers {
    /// How many.
    pub count: u32,
    /// The first of them.
    pub first: Vec<u64>,
}

/// A client that was told of disconnects, for as long as it was connected.
#[derive(Debug, Default)]
pub struct Watch {
    /// From when on it was told.
    pub welcomed_at: u64,
    /// Whether it stayed to the end.
    pub stayed: bool,
    /// In the order of arrival.
    pub gone: Vec<Gone>,
}

/// A disconnect that a watcher was told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// When it was told.
    pub at: u64,
    /// Who went.
    pub who: u32,
    /// Why.
    pub reason: String,
    /// The disconnect's event.
    pub event: EventName,
}

impl Story {
    /// Whether it stayed until all was quiet.
    pub fn stayed(&self) -> bool {
        self.ended == Ended::Stayed
    }
}

impl What {
    /// The word for reports.
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

impl EventName {
    /// Reads `PPPP-SSSSSSSSSSSS`, hexadecimal.
    pub fn read(text: &str) -> Option<Self> {
        let (partition, sequence) = text.split_once('-')?;
        Some(Self {
            partition: u16::from_str_radix(partition, 16).ok()?,
            sequence: u64::from_str_radix(sequence, 16).ok()?,
        })
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}-{:012x}", self.partition, self.sequence)
    }
}
