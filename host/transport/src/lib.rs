//! The seam between io-nodes and app-nodes, by what it promises.
//!
//! An io-node joins, hands in events and takes commands from its outbox. An app-node joins, is leased partitions, reads
//! their events and commits what handling them did. Between the two a transport keeps the promises: an accepted event
//! is handed out until it is committed, and committed once; a client's events are in one partition, in order; an outbox
//! carries the commands of an event together, and those of one client's events in the order of the events.
//!
//! This module knows neither Socket.IO nor WebAssembly.

mod backlog;
#[cfg(any(test, feature = "conformance"))]
#[allow(missing_docs)]
pub mod conformance;
mod dead_letters;
mod memory;
mod nodes;
pub mod reach;
pub mod releases;
mod standing;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use plugnode_message::{
    AttributePatch, Command, Effects, Event, EventId, KeyValue, Namespace, NodeId, Partition, SessionId,
};

pub use self::backlog::{Backlog, Load};
pub use self::dead_letters::{DeadFilter, DeadLetterBudget, DeadLetters, Sweep, SweepPlace, Swept};
pub use self::nodes::Nodes;
pub use self::releases::Releases;
#[cfg(any(test, feature = "conformance"))]
pub use self::releases::conformance as releases_conformance;
pub use self::standing::{Absence, Renewal, Standing};
pub use memory::{Memory, MemorySettings};

/// Budget of what waits for one io-node: commits wait until there is room again.
#[derive(Debug, Clone, Copy)]
pub struct OutboxBudget {
    /// Commands, or entries of several commands.
    pub entries: usize,
    /// Their bytes. The last that is added may go beyond.
    pub bytes: usize,
}

impl Default for OutboxBudget {
    fn default() -> Self {
        Self {
            entries: 100_000,
            bytes: 64_000_000,
        }
    }
}

/// What can go wrong with a transport.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The cluster took this member for dead and has given its work to others. Drop what is in hand and join anew.
    #[error("this member was fenced: it was taken for dead, and its work was given to others")]
    Fenced,
    /// The transport has lost data, and with them this member's place or what it had handed in. Drop what is in hand and join
    /// anew.
    #[error("the transport has lost data, and this member's place with them")]
    DataLost,
    /// This member cannot reach a transport that lives for others, and gives its place up before these take it for dead.
    #[error("this member is cut off from the cluster, which is about to take it for dead")]
    CutOff,
    /// The transport is away, for this reason: another time it may be there.
    #[error("{0}")]
    Unreachable(String),
    /// The transport cannot be used, for this reason. What can be overcome by waiting is waited for instead.
    #[error("{0}")]
    Unusable(String),
}

/// Result with a [`TransportError`].
pub type Result<T> = std::result::Result<T, TransportError>;

/// An io-node as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoNode {
    /// Its name, unique in the cluster.
    pub id: NodeId,
    /// The host that clients reach it by; empty when that is the host they reached the frontend by.
    pub host: String,
    /// The port that clients reach it by.
    pub port: u16,
    /// URLs of its `/readyz`, for other nodes. A host that is no address, 0.0.0.0 or [::], stands for the address by which its
    /// machine reaches the transport.
    pub probes: Vec<String>,
    /// `http` or `https`, as clients reach it; empty when it does not tell.
    pub scheme: String,
    /// The path of Socket.IO by which they do; empty when it does not tell.
    pub path: String,
}

impl IoNode {
    /// One that tells nobody where it is reached: it gets the commands for its clients, and no more.
    pub fn without_address(id: impl Into<NodeId>) -> Self {
        Self {
            id: id.into(),
            host: String::new(),
            port: 0,
            probes: Vec::new(),
            scheme: String::new(),
            path: String::new(),
        }
    }
}

/// An event that was put aside, and why.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The event's name.
    pub id: EventId,
    /// What was put aside.
    pub content: DeadContent,
    /// Why.
    pub death: Death,
    /// When, in milliseconds since the Unix epoch.
    pub died_at_ms: u64,
}

/// What was put aside.
#[derive(Debug, Clone)]
pub enum DeadContent {
    /// An event.
    Event(Arc<Event>),
    /// Something in a log that is no event this version knows.
    Foreign(Bytes),
}

/// Why an event was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// The reason, for a person.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// The release of the component that tried it last, if any did.
    pub release: Option<String>,
    /// The app whose event it is, by its namespace or pattern; none when no app is bound to the event's namespace.
    pub app: Option<Namespace>,
}

/// What came of trying a dead letter again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Revival {
    /// It is at the end of its partition's log, under a new id.
    Queued,
    /// There is no such dead letter.
    Unknown,
    /// Its client is gone, and after a client's disconnect no event of it may come.
    ClientGone,
    /// It is no event that this version knows.
    Foreign,
}

/// How the nodes of a cluster reach each other: five seams, each of which another can take the place of. Clones are the same
/// transport.
#[derive(Clone)]
pub struct Transport {
    /// Events to app-nodes, commands to io-nodes.
    pub events: Arc<dyn Events>,
    /// Which nodes there are, and what they tell.
    pub nodes: Arc<dyn Nodes>,
    /// Components, and the board of releases.
    pub releases: Arc<dyn Releases>,
    /// Events that were put aside.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// The key-value store, as of the last commit.
    pub key_value: Arc<dyn KeyValue>,
}

impl Transport {
    /// A transport of one thing that is all five seams.
    pub fn of(whole: Arc<impl Events + Nodes + Releases + DeadLetters + KeyValue + 'static>) -> Self {
        Self {
            events: whole.clone(),
            nodes: whole.clone(),
            releases: whole.clone(),
            dead_letters: whole.clone(),
            key_value: whole,
        }
    }

    /// What an operator does with it.
    pub fn operations(&self) -> Operations {
        Operations {
            nodes: self.nodes.clone(),
            releases: self.releases.clone(),
            dead_letters: self.dead_letters.clone(),
        }
    }
}

/// What an operator does with a running cluster from outside of its processes: three seams of its [`Transport`].
#[derive(Clone)]
pub struct Operations {
    /// Which nodes there are, and what they tell.
    pub nodes: Arc<dyn Nodes>,
    /// Components, and the board of releases.
    pub releases: Arc<dyn Releases>,
    /// Events that were put aside.
    pub dead_letters: Arc<dyn DeadLetters>,
}

impl Operations {
    /// The operations of one thing that is all three seams.
    pub fn of(whole: Arc<impl Nodes + Releases + DeadLetters + 'static>) -> Self {
        Self {
            nodes: whole.clone(),
            releases: whole.clone(),
            dead_letters: whole,
        }
    }
}

/// Carries events from io-nodes to app-nodes, and commands back. Dropping what a join returned leaves the cluster. Where other
/// nodes have to be reached for a promise, and cannot be, calls wait until they can.
#[async_trait]
pub trait Events: Send + Sync {
    /// Joins as an io-node, under a fresh incarnation: an earlier session under that name is fenced.
    async fn join_io(&self, node: IoNode) -> Result<IoSession>;

    /// Joins as an app-node. Partitions are dealt out evenly over all that have joined.
    async fn join_app(&self, node: NodeId) -> Result<Box<dyn Leases>>;

    /// Whether accepted events outlive this process, for others to handle.
    fn outlives_process(&self) -> bool {
        true
    }
}

/// An io-node's two ends of the transport.
pub struct IoSession {
    /// Where its clients' events go.
    pub inbox: Arc<dyn Inbox>,
    /// Where its clients' commands come from.
    pub outbox: Box<dyn Outbox>,
}

/// Takes events in.
#[async_trait]
pub trait Inbox: Send + Sync {
    /// Takes in events, each client's in the order given, and returns those that were refused because too much is
    /// waiting already. When one of a client's events is refused, so are all that follow it here. An event that is not
    /// returned is accepted: it will be handled, but for the disconnect of a client that was refused meanwhile.
    async fn ingest(&self, events: Vec<Event>) -> Result<Vec<Event>>;

    /// Puts a command at the end of another io-node's outbox, or of this one's own, in no promised order to what commits
    /// put there. It may come twice, and is lost when that io-node is gone or its outbox is full.
    async fn tell(&self, node: &NodeId, command: Command) -> Result<()>;

    /// How many events of one of its clients were taken in and are not committed, as far as it is known here.
    fn open_events(&self, _namespace: &Namespace, _client: &SessionId) -> usize {
        0
    }
}

/// Gives commands out.
#[async_trait]
pub trait Outbox: Send {
    /// The next commands, at least one, in order. Cancel safe. A command may name clients that this io-node does not
    /// hold.
    async fn next(&mut self) -> Result<Vec<Command>>;
}

/// An app-node's membership.
#[async_trait]
pub trait Leases: Send {
    /// The next partition that this app-node is to own. Cancel safe.
    async fn next(&mut self) -> Result<Lease>;
}

/// The right to handle one partition's events, until it is revoked. Dropping both halves gives it back.
pub struct Lease {
    /// The partition.
    pub partition: Partition,
    /// Where its events come from.
    pub log: Box<dyn Log>,
    /// Where their effects go.
    pub commits: Arc<dyn Commits>,
    /// Patches of attributes that owners before have committed, each client's in their order, and that were not
    /// [forgotten](Commits::forget_patches).
    pub patches: Vec<AttributePatch>,
}

/// Reads one partition.
#[async_trait]
pub trait Log: Send {
    /// The next events, at least one, after those already read by this lease, beginning with the oldest that is not
    /// committed. None once the lease is revoked: finish what is running, commit it, and drop the lease. Cancel safe.
    async fn next(&mut self) -> Result<Option<Vec<Delivery>>>;
}

/// An event handed out under a lease.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The event's name.
    pub id: EventId,
    /// The event.
    pub event: Arc<Event>,
    /// How often it was begun by owners of the partition that died with it in hand, as far as the transport knows.
    pub attempts: u32,
}

/// Commits one partition's events.
#[async_trait]
pub trait Commits: Send + Sync {
    /// Makes these outcomes take effect, each as a whole, in order. An outcome that was committed before is passed
    /// over. [`TransportError::Fenced`] when the lease has gone to another: then what of these is not committed is left
    /// to that one.
    ///
    /// An outcome that writes to the key-value store takes effect only if what its event has read there is still so, at the
    /// very moment of its commit. Those for which it is not are returned: nothing of them has been done, and their events
    /// are open as before.
    ///
    /// A client that a verdict [refuses](Verdict::refuses) is forgotten in the same step, as if it had had its
    /// disconnect: none comes of it any more, neither from its io-node nor for the death of that one, and one that is in
    /// the log already leaves it.
    ///
    /// The [patches](AttributePatch::of) that events made of their own clients' attributes are kept for the next owner.
    async fn commit(&self, outcomes: Vec<Outcome>) -> Result<Vec<Lost>>;

    /// The next owner need not know of these patches any more, once the next commit has been made.
    fn forget_patches(&self, patches: Vec<AttributePatch>);
}

/// An outcome that was not committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The event.
    pub id: EventId,
    /// Why.
    pub conflict: Conflict,
    /// Whether its turn is kept: until the event is committed, or that time is over, no younger one writes to the keys that
    /// it has read and written.
    pub has_turn: bool,
}

/// Why an outcome could not be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflict {
    /// Something that the event has read has changed since, or another event has its turn to change it.
    Changed,
    /// A write cannot be done to the value that is there, for this reason.
    Impossible(String),
}

/// The most bytes of keys and values in one bucket, unless a setting says otherwise.
pub const BUCKET_BYTES: usize = 256_000_000;
/// What a key takes in a bucket beside itself and its value, about.
pub const KEY_BYTES: usize = 64;

/// Why an event cannot add to a bucket.
pub fn full_bucket(name: &str, bytes: usize, most: usize) -> String {
    format!("bucket {name:?} is full: it has {bytes} of {most} bytes; delete keys, or raise [transport] bucket-bytes")
}

/// How many timers there may be.
#[derive(Debug, Clone, Copy)]
pub struct TimerBudget {
    /// Of an app.
    pub of_app: usize,
    /// Of a client of it.
    pub of_client: usize,
}

impl Default for TimerBudget {
    fn default() -> Self {
        Self {
            of_app: 100_000,
            of_client: 100,
        }
    }
}

impl TimerBudget {
    /// Why there cannot be more, where there are so many.
    pub fn exceeded(self, present: &str) -> String {
        let Self { of_app, of_client } = self;
        format!(
            "too many timers: {present} are set, and an app may have {of_app}, a client {of_client}; cancel some, or raise \
             [transport] timers or client-timers"
        )
    }
}

/// How the handling of an event ended.
#[derive(Debug)]
pub struct Outcome {
    /// The event.
    pub id: EventId,
    /// What becomes of it.
    pub verdict: Verdict,
    /// For how long the event's turn is kept if the outcome is [`Lost`]. None: it is not.
    pub keep_turn: Option<Duration>,
}

/// Which of two events goes first where only one can: the one that was taken in earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    received_at_ms: u64,
    id: EventId,
}

/// As text, ranks are in the same order.
impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:015}-{}", self.received_at_ms, self.id)
    }
}

impl Rank {
    /// The rank of an event.
    pub fn of(id: EventId, event: &Event) -> Self {
        let received_at_ms = event.received_at_ms;
        Self { received_at_ms, id }
    }
}

/// What becomes of an event.
#[derive(Debug)]
pub enum Verdict {
    /// It was handled, with these effects.
    Done(Effects),
    /// It could not be handled and is put aside. These commands are carried out for it nonetheless.
    Dead(Death, Vec<Command>),
}

impl Verdict {
    /// Whether the event's client is refused, which is said by the first command.
    pub fn refuses(&self) -> bool {
        let (Self::Done(Effects { commands, .. }) | Self::Dead(_, commands)) = self;
        commands.first().is_some_and(Command::is_refusal)
    }
}

/// The partition of a client, out of `count`.
pub fn partition_of(client: &SessionId, count: u16) -> Partition {
    Partition((xxh3_64(client.as_str().as_bytes()) % u64::from(count)) as u16)
}

/// Which of the members should own a partition, by rendezvous hashing: a member that comes or goes moves no more than
/// its share. None when there are no members.
pub fn owner_of<'a>(partition: Partition, members: impl Iterator<Item = &'a NodeId>) -> Option<&'a NodeId> {
    let weight = |member: &NodeId| xxh3_64_with_seed(member.as_str().as_bytes(), u64::from(partition.0));
    members.max_by_key(|member| (weight(member), member.as_str()))
}
