//! The message builder of socket.io-cluster: a message is made, addressed, and sent.

use crate::audience::Audience;
use crate::outbox::CommandError;
use crate::payload::{Args, ArgsError, Payload};

/// A message on its way to clients, put together step by step.
///
/// ```
/// # use plugnode_sdk::{Message, test::recorded};
/// # recorded(|| {
/// Message::new("ada").set_type("setUserId").for_channel("staff").except_client("Xy7").send()?;
/// # Ok(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
#[must_use = "a message goes nowhere until `send`"]
pub struct Message {
    kind: String,
    args: Result<Payload, ArgsError>,
    audience: Audience,
}

impl Message {
    /// A message with these arguments, of type `message`, for nobody yet.
    pub fn new(data: impl Args) -> Self {
        Self {
            kind: "message".into(),
            args: Payload::new(data),
            audience: Audience::nobody(),
        }
    }

    /// The name of the event that clients listen to.
    pub fn set_type(mut self, kind: impl Into<String>) -> Self {
        self.kind = kind.into();
        self
    }

    /// For this client, besides those named so far.
    pub fn for_client(mut self, id: impl Into<String>) -> Self {
        self.audience = self.audience.client(id);
        self
    }

    /// For the clients of this channel, besides those named so far.
    pub fn for_channel(mut self, channel: impl Into<String>) -> Self {
        self.audience = self.audience.to(channel);
        self
    }

    /// For every client of the namespace.
    pub fn for_all(mut self) -> Self {
        self.audience = self.audience.everybody();
        self
    }

    /// But not for this client.
    pub fn except_client(mut self, id: impl Into<String>) -> Self {
        self.audience = self.audience.except_client(id);
        self
    }

    /// But not for the clients of this channel.
    pub fn except_channel(mut self, channel: impl Into<String>) -> Self {
        self.audience = self.audience.except(channel);
        self
    }

    /// Sends it, once this event has been handled.
    pub fn send(self) -> Result<(), CommandError> {
        if !self.audience.is_somebody() {
            let reason = format!(
                "message `{}` is for nobody: add for_client, for_channel or for_all",
                self.kind
            );
            return Err(CommandError::Invalid(reason));
        }
        self.audience.emit(&self.kind, self.args?)
    }
}
