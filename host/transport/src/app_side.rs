//! The transport as an app-node uses it: leases of partitions, to read the events of a partition and commit their outcomes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::{DeadLetterCause, Result};
use plugnode_message::{AttributePatch, Command, Effects, Event, EventId, Partition, Text};

/// The membership of an app-node. It ends when this is dropped.
#[async_trait]
pub trait Leases: Send {
    /// The next partition that this app-node owns. Cancel safe.
    async fn next(&mut self) -> Result<Lease>;
}

/// The lease of a partition: the right to handle its events until it is revoked. Dropping both halves returns it.
pub struct Lease {
    /// The partition.
    pub partition: Partition,
    /// Reads its events.
    pub log: Box<dyn Log>,
    /// Commits their outcomes.
    pub commits: Arc<dyn Commits>,
    /// Attribute patches that earlier owners committed and did not [forget](Outcome::forget), in order for each client.
    pub patches: Vec<AttributePatch>,
}

/// Reads the events of a leased partition.
#[async_trait]
pub trait Log: Send {
    /// The next events, at least one. A lease begins at the oldest event that is not committed. None once the lease is revoked: finish
    /// and commit the running events, then drop the lease. Cancel safe.
    async fn next(&mut self) -> Result<Option<Vec<Delivery>>>;
}

/// An event, as a lease hands it out.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The event's id.
    pub id: EventId,
    /// The event.
    pub event: Arc<Event>,
    /// Number of earlier owners that died while they handled this event, as far as the transport knows.
    pub attempts: u32,
}

/// Commits the outcomes of a leased partition's events.
#[async_trait]
pub trait Commits: Send + Sync {
    /// Applies these outcomes in order, each as a whole. An outcome that was committed before is skipped.
    ///
    /// An outcome with writes to the key-value store is applied only if everything that its event read there is unchanged at that
    /// moment. The others are returned: nothing of them was applied, and their events are still open.
    ///
    /// A client that a verdict [refuses](Verdict::refuses) is removed in the same step: it gets no disconnect event any more, and one
    /// that is already in the log is taken out.
    ///
    /// The [patches](AttributePatch::of) of clients' attributes by their own events are kept for the next owner, until a committed
    /// outcome [forgets](Outcome::forget) them.
    ///
    /// # Errors
    /// [`TransportError::Fenced`](crate::TransportError::Fenced) if another app-node has the lease: it handles the events that were not committed.
    async fn commit(&self, outcomes: Vec<Outcome>) -> Result<Vec<ConflictedOutcome>>;
}

/// The outcome of handling an event.
#[derive(Debug)]
pub struct Outcome {
    /// The event.
    pub id: EventId,
    /// The verdict.
    pub verdict: Verdict,
    /// For how long the keys of the event are reserved if the outcome is [`ConflictedOutcome`]. None: they are not.
    pub reserve_for: Option<Duration>,
    /// Attribute patches that the next owner does not need once this outcome is committed. Dropped in the same step.
    pub forget: Vec<AttributePatch>,
}

impl Outcome {
    /// The outcome of an event that reserves no keys and forgets no patches.
    pub fn new(id: EventId, verdict: Verdict) -> Self {
        Self {
            id,
            verdict,
            reserve_for: None,
            forget: Vec::new(),
        }
    }
}

/// The result of handling an event.
#[derive(Debug)]
pub enum Verdict {
    /// It was handled and has these effects.
    Done(Effects),
    /// It becomes a dead letter. These effects are carried out nonetheless.
    Dead(DeadLetterCause, Effects),
}

impl Verdict {
    /// Whether it refuses the event's client: the first command says so.
    pub fn refuses(&self) -> bool {
        self.effects().commands.first().is_some_and(Command::is_refusal)
    }

    /// Its effects.
    pub fn effects(&self) -> &Effects {
        let (Self::Done(effects) | Self::Dead(_, effects)) = self;
        effects
    }

    /// Its effects, to be changed.
    pub fn effects_mut(&mut self) -> &mut Effects {
        let (Self::Done(effects) | Self::Dead(_, effects)) = self;
        effects
    }
}

/// An outcome that was not committed because of a conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictedOutcome {
    /// The event.
    pub id: EventId,
    /// Why it was given up.
    pub conflict: Conflict,
    /// Whether its keys are reserved: until the event commits, or its time is over, no younger event writes to the keys that it read or
    /// wrote.
    pub has_reservation: bool,
}

/// Why an outcome was not committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflict {
    /// A key that the event read has changed since, or is reserved for an older event.
    Changed,
    /// A write is impossible, for this reason.
    Impossible(String),
    /// A bucket has no room for the writes of the event.
    Full {
        /// The bucket.
        bucket: Text,
        /// The reason, for people.
        reason: String,
    },
}
