//! The history checker: clients send numbered messages to a cluster, and all that they observe is checked against the promises.
//!
//! [`Check`] needs a cluster that runs the handler `recorder`. Its clients send, receive, connect and disconnect while the caller
//! injects faults. At the end it reads the cluster's record of each client; with it, the observations are a [`History`]. [`judge`]
//! needs no network: it finds messages that were lost, doubled or out of order, clients without exactly one connection and one
//! disconnect, and events with partial effects. `plugnode-check` is the command-line program.

mod client;
mod frontend;
mod history;
mod inspector;
mod judge;
mod progress;
mod publisher;
pub(crate) mod random;
mod report;
mod run;
mod socket;
mod watcher;

pub use frontend::io_nodes;
pub use history::{
    ClientTrace, Delivery, DeliveryKind, DisconnectNotice, Ended, EventId, History, Numbers, Publishes, Record,
    ReleaseAnswers, Sent, Watch,
};
pub use judge::{CheckedCounts, Verdict, Violation, ViolationKind, judge};
pub use progress::Progress;
pub use report::{Report, Timing};
pub use run::{Check, Settings};
