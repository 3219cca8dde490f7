//! The input and the output of a pool: a job, and its outcome.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::failure::Failure;
use plugnode_message::{Effects, Event, EventId};

/// An event to handle.
#[derive(Debug)]
pub struct Job {
    /// The event's id.
    pub id: EventId,
    /// 1, and one more for each retry of the event.
    pub attempt: u32,
    /// The event.
    pub event: Arc<Event>,
    /// The number of the release whose trial this job is part of, if any. Not used by the pool; repeated in the outcome.
    pub on_trial: Option<u64>,
    /// Receives the outcome. It must have capacity for it, or the outcome is dropped. When it is closed, a job that has not
    /// started is skipped.
    pub done: Sender<JobOutcome>,
    /// Dropped when the job is not running and will not run, so that its owner can wait for that.
    pub token: TaskTrackerToken,
}

/// The outcome of a job.
#[derive(Debug)]
pub struct JobOutcome {
    /// The event's id.
    pub id: EventId,
    /// The event's effects, or why there are none.
    pub result: Result<Effects, Failure>,
    /// The release that handled it: the first 12 hexadecimal digits of the component's SHA-256.
    pub release: Arc<str>,
    /// The `on_trial` of the job.
    pub on_trial: Option<u64>,
    /// Time in the handler. Zero if the pool was retired before the job started.
    pub took: Duration,
}
