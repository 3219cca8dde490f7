//! The effects of an event, for assertions in tests.

use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Error;
pub use crate::native::Command;
use crate::payload::{Args, ArgsError, Payload};

/// The effects of one event.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Effects {
    /// In the order of the handler's calls.
    pub commands: Vec<Command>,
    /// In the order of the handler's calls.
    pub writes: Vec<Write>,
}

/// A write to a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The new value; none if the key was deleted.
    pub value: Option<Vec<u8>>,
    /// The kind of write.
    pub change: Change,
}

/// The kind of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The key was set without expiry, or deleted.
    Set,
    /// The key was set with an expiry.
    SetFor(Duration),
    /// A number was added to the key; the write has the sum.
    Added,
}

/// The refusal of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The message of its `connect_error`.
    pub message: String,
    /// The data of its `connect_error`, as JSON.
    pub data: Option<String>,
}

/// Why an event failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The handler returned an error.
    Error(Error),
    /// The handler panicked with this message, and its instance was replaced by a new one.
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

/// An event that a client received. Two are equal if their JSON values are, regardless of formatting.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The name of the event.
    pub event: String,
    /// The arguments.
    pub payload: Payload,
}

impl Sent {
    /// Creates an event with these arguments.
    ///
    /// # Panics
    ///
    /// If the arguments cannot be written as JSON.
    pub fn new(event: impl Into<String>, args: impl Args) -> Self {
        Self {
            event: event.into(),
            payload: Payload::new(args).expect("the arguments of a test can be written as JSON"),
        }
    }

    /// Parses all arguments, like [`Payload::args`].
    pub fn args<T: DeserializeOwned>(&self) -> Result<T, ArgsError> {
        self.payload.args()
    }

    /// Parses one argument, like [`Payload::arg`].
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
