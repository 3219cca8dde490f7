//! Why a command is refused.

use std::fmt;

use crate::host::outbox as wire;
use crate::payload::ArgsError;

/// Why a command was refused. The handler may continue; earlier commands remain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandError {
    /// The app's configuration does not grant this, or no event is being handled.
    Denied(String),
    /// This event has used up its limit of commands or bytes.
    QuotaExceeded,
    /// The payload exceeds the host's size limit.
    PayloadTooLarge,
    /// The command is invalid, for example because Socket.IO reserves the event name.
    Invalid(String),
    /// Any other reason.
    Other(String),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(reason) => write!(f, "denied: {reason}"),
            Self::QuotaExceeded => {
                f.write_str("this event has used up its limit of commands or bytes; raise it in the app's `limits`")
            }
            Self::PayloadTooLarge => f.write_str("the payload exceeds the size limit in the app's `limits`"),
            Self::Invalid(reason) => write!(f, "invalid command: {reason}"),
            Self::Other(reason) => write!(f, "command refused: {reason}"),
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
