//! The message builder of socket.io-cluster: create a message, address it, send it.

use crate::audience::Audience;
use crate::command_error::CommandError;
use crate::payload::{Args, ArgsError, Payload};

/// A message to clients, built step by step.
///
/// ```
/// # use plugnode_sdk::{Message, test::recorded};
/// # recorded(|| {
/// Message::new("ada").set_type("setUserId").for_channel("staff").except_client("Xy7").send()?;
/// # Ok(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
#[must_use = "a message is not sent until `send` is called"]
pub struct Message {
    kind: String,
    args: Result<Payload, ArgsError>,
    audience: Audience,
}

impl Message {
    /// Creates a message with these arguments and the type `message`. It has no recipients yet.
    pub fn new(data: impl Args) -> Self {
        Self {
            kind: "message".into(),
            args: Payload::new(data),
            audience: Audience::empty(),
        }
    }

    /// Sets the name of the event that clients listen to.
    pub fn set_type(mut self, kind: impl Into<String>) -> Self {
        self.kind = kind.into();
        self
    }

    /// Adds a client to the recipients.
    pub fn for_client(mut self, id: impl Into<String>) -> Self {
        self.audience = self.audience.client(id);
        self
    }

    /// Adds the clients of a channel to the recipients.
    pub fn for_channel(mut self, channel: impl Into<String>) -> Self {
        self.audience = self.audience.to(channel);
        self
    }

    /// Sends to every client of the namespace.
    pub fn for_all(mut self) -> Self {
        self.audience = self.audience.widen_to_all();
        self
    }

    /// Leaves out a client.
    pub fn except_client(mut self, id: impl Into<String>) -> Self {
        self.audience = self.audience.except_client(id);
        self
    }

    /// Leaves out the clients of a channel.
    pub fn except_channel(mut self, channel: impl Into<String>) -> Self {
        self.audience = self.audience.except(channel);
        self
    }

    /// Sends the message when this event is committed.
    pub fn send(self) -> Result<(), CommandError> {
        if self.audience.is_empty() {
            let reason = format!(
                "message `{}` has no recipients: call for_client, for_channel or for_all",
                self.kind
            );
            return Err(CommandError::Invalid(reason));
        }
        self.audience.emit(&self.kind, self.args?)
    }
}
