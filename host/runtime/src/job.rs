//! What a pool is given and what it gives back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::failure::Failure;
use plugnode_message::{Effects, Event, EventId};

/// An event to be handled, and where to say what came of it.
#[derive(Debug)]
pub struct Job {
    /// The event's id.
    pub id: EventId,
    /// 1 at first, and one more each time the event is tried again.
    pub attempt: u32,
    /// The event.
    pub event: Arc<Event>,
    /// The number of the release that has it on trial, if one has. Nothing to the pool, and told again with the outcome.
    pub on_trial: Option<u64>,
    /// Where its outcome goes. Has to have room for it: an outcome for which there is none is dropped. Once it is closed,
    /// an event that has not begun is passed over.
    pub done: Sender<Handled>,
    /// Dropped when the event is not, and will not be, handled any more, so that who asked for it can wait for that.
    pub token: TaskTrackerToken,
}

/// What came of a job.
#[derive(Debug)]
pub struct Handled {
    /// The event's id.
    pub id: EventId,
    /// What the event leads to, or why to nothing.
    pub result: Result<Effects, Failure>,
    /// The release that handled it: the first 12 hexadecimal digits of the component's SHA-256.
    pub release: Arc<str>,
    /// What the job said of itself.
    pub on_trial: Option<u64>,
    /// The time it spent in the handler; none at all when the pool was retired before its turn.
    pub took: Duration,
}
