//! The seam between io-nodes and app-nodes, and its implementation in memory. It knows neither Socket.IO nor WebAssembly.
//!
//! A [`Transport`] is five traits, each of which can be replaced:
//!
//! - [`Events`] carries events and commands. An io-node joins and gets an [`Inbox`] and an [`Outbox`]; an app-node joins and gets
//!   [`Leases`], each with a [`Log`] to read and [`Commits`].
//! - [`KeyValue`](plugnode_message::KeyValue) reads the key-value store; writes are effects of events.
//! - [`DeadLetters`] keeps events that were given up.
//! - [`Releases`] keeps components and the board of releases.
//! - [`Nodes`] knows the members of the cluster and their reports.
//!
//! The promises: an accepted event is handed out until it is committed, and is committed once. Events of a client are in one partition,
//! in order. An outbox carries the commands of an event together, and those of a client's events in the order of the events. Every
//! implementation runs the tests of `conformance` (feature `conformance`); [`Memory`] is the one for a single process.

mod app_side;
mod backlog;
mod budget;
pub mod command_target;
#[cfg(any(test, feature = "conformance"))]
#[allow(missing_docs)]
pub mod conformance;
mod dead_letters;
mod error;
mod events;
mod io_side;
mod lease_health;
mod memory;
mod nodes;
mod partition;
mod rank;
pub mod releases;
mod settings;
mod transport;

pub use self::app_side::{Commits, Conflict, ConflictedOutcome, Delivery, Lease, Leases, Log, Outcome, Verdict};
pub use self::backlog::{Backlog, Load};
pub use self::budget::{KEY_BYTES, OutboxBudget, TimerBudget, full_bucket};
pub use self::dead_letters::{
    DeadContent, DeadFilter, DeadLetter, DeadLetterBudget, DeadLetterCause, DeadLetters, RetryResult, Sweep,
    SweepCursor, Swept,
};
pub use self::error::{Result, TransportError};
pub use self::events::Events;
pub use self::io_side::{Inbox, IoNode, IoSession, Outbox};
pub use self::lease_health::{LeaseHealth, LeaseRenewal, Reachability};
pub use self::memory::Memory;
pub use self::nodes::Nodes;
pub use self::partition::{owner_of, partition_of};
pub use self::rank::Rank;
pub use self::releases::Releases;
#[cfg(any(test, feature = "conformance"))]
pub use self::releases::conformance as releases_conformance;
pub use self::settings::TransportSettings;
pub use self::transport::{Operations, Transport};
