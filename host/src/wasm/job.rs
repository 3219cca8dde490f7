//! What a pool is given and what it gives back.

use std::sync::Arc;

use tokio::sync::mpsc::Sender;

use super::failure::Failure;
use crate::message::{Effects, Event, EventId};

/// An event to be handled, and where to say what came of it.
#[derive(Debug)]
pub struct Job {
    /// The event's id.
    pub id: EventId,
    /// 1 at first, and one more each time the event is tried again.
    pub attempt: u32,
    /// The event.
    pub event: Arc<Event>,
    /// Where its outcome goes. Has to have room for it: an outcome for which there is none is dropped.
    pub done: Sender<Handled>,
}

/// What came of a job.
#[derive(Debug)]
pub struct Handled {
    /// The event's id.
    pub id: EventId,
    /// What the event leads to, or why to nothing.
    pub result: Result<Effects, Failure>,
}
