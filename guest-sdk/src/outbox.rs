//! What every command has in common: how it can be refused, and the commands that concern no audience.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::host::outbox as wire;
use crate::payload::{Args, ArgsError};

/// Why a command was not taken. The handler may go on: the commands before it stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandError {
    /// The app's configuration does not grant this, or there is no event that it could belong to.
    Denied(String),
    /// This event has used up its commands or bytes.
    QuotaExceeded,
    /// This one payload is larger than the host allows.
    PayloadTooLarge,
    /// What was asked for makes no sense, such as an event name that Socket.IO keeps for itself.
    Invalid(String),
    /// Anything else, in words.
    Other(String),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(reason) => write!(f, "denied: {reason}"),
            Self::QuotaExceeded => {
                f.write_str("this event has used up its commands or bytes; the app's `limits` set how many it has")
            }
            Self::PayloadTooLarge => f.write_str("the payload is larger than the app's `limits` allow"),
            Self::Invalid(reason) => write!(f, "invalid command: {reason}"),
            Self::Other(reason) => write!(f, "command not taken: {reason}"),
        }
    }
}

impl std::error::Error for CommandError {}

impl From<ArgsError> for CommandError {
    fn from(error: ArgsError) -> Self {
        Self::Invalid(error.0)
    }
}

impl From<wire::Error> for CommandError {
    fn from(error: wire::Error) -> Self {
        match error {
            wire::Error::Denied(reason) => Self::Denied(reason),
            wire::Error::QuotaExceeded => Self::QuotaExceeded,
            wire::Error::PayloadTooLarge => Self::PayloadTooLarge,
            wire::Error::Invalid(reason) => Self::Invalid(reason),
            wire::Error::Other(reason) => Self::Other(reason),
        }
    }
}

/// Names one acknowledgement that one client waits for. It can be kept, in a bucket for instance, and answered while
/// handling a later event, by any instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AckId(pub(crate) String);

impl AckId {
    /// Answers the acknowledgement. Only the first answer reaches the client.
    pub fn answer(&self, args: impl Args) -> Result<(), CommandError> {
        let args = args.to_payload()?;
        Ok(wire::ack(&self.0, &args)?)
    }
}

/// Sends a message to the Rust code that embeds one io-node, or all of them. `kind` says what it is, with a version at
/// the end, such as `acme.price-change/1`.
pub fn send_custom(io_node: Option<&str>, kind: &str, data: &[u8]) -> Result<(), CommandError> {
    Ok(wire::custom(io_node, kind, data)?)
}
