//! What a handler did, as tests look at it.

use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Error;
pub use crate::native::Command;
use crate::payload::{Args, ArgsError, Payload};

/// All that the handling of one event did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Effects {
    /// In the order of the handler's calls.
    pub commands: Vec<Command>,
    /// In the order of the handler's calls.
    pub writes: Vec<Write>,
}

/// A write to a bucket; without a value, the key is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The new value.
    pub value: Option<Vec<u8>>,
    /// How it came about.
    pub change: Change,
}

/// How a write came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The key was set, or deleted, for good.
    Set,
    /// The key was set for a time.
    SetFor(Duration),
    /// Something was added to it, which led to the value.
    Added,
}

/// How a client was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The message of the error that it is told.
    pub message: String,
    /// The data of that error, as JSON.
    pub data: Option<String>,
}

/// Why an event had no effects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The handler returned an error.
    Error(Error),
    /// The handler panicked, and its instance was replaced by a new one.
    Panic(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => error.fmt(f),
            Self::Panic(message) => write!(f, "the handler panicked: {message}"),
        }
    }
}

impl std::error::Error for Failure {}

/// What a client received. Two are equal when their JSON is, however it is written.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The name of the event.
    pub event: String,
    /// The arguments.
    pub payload: Payload,
}

impl Sent {
    /// An event with these arguments.
    ///
    /// # Panics
    ///
    /// When the arguments cannot be written as JSON.
    pub fn new(event: impl Into<String>, args: impl Args) -> Self {
        Self {
            event: event.into(),
            payload: Payload::new(args).expect("a test's arguments can be written as JSON"),
        }
    }

    /// All arguments, as [`Payload::args`] reads them.
    pub fn args<T: DeserializeOwned>(&self) -> Result<T, ArgsError> {
        self.payload.args()
    }

    /// One argument, as [`Payload::arg`] reads it.
    pub fn arg<T: DeserializeOwned>(&self, index: usize) -> Result<T, ArgsError> {
        self.payload.arg(index)
    }
}

impl PartialEq for Sent {
    fn eq(&self, other: &Self) -> bool {
        let json = |sent: &Self| serde_json::from_str::<Value>(&sent.payload.json).ok();
        self.event == other.event
            && self.payload.attachments == other.payload.attachments
            && (self.payload.json == other.payload.json || json(self).is_some() && json(self) == json(other))
    }
}
