//! The history checker: clients that send numbered messages to a cluster, and a judgement of all they saw.
//!
//! [`Check`] speaks to clusters that run the handler `recorder`. Its clients send, listen, come and go, while whoever
//! started it breaks what is to be broken. At the end the cluster is asked for what it kept of each client, and what was
//! observed becomes a [`History`]. [`judge`] compares every side of it, and needs no network for that: what was lost, what
//! came twice or in a wrong order, whose connection and disconnect were not exactly one each, and which events were done
//! by half. `plugnode-check` is this as a program.

mod client;
mod frontend;
mod history;
mod inspector;
mod judge;
mod progress;
pub(crate) mod random;
mod report;
mod run;
mod socket;
mod watcher;

pub use frontend::io_nodes;
pub use history::{Answers, Ended, EventName, Gone, Heard, History, Numbers, Record, Sent, Story, Watch, What};
pub use judge::{Kind, Tally, Verdict, Violation, judge};
pub use progress::Progress;
pub use report::{Report, Timing};
pub use run::{Check, Settings};
