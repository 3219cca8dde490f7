//! Why an event could not be handled, and whether it is worth another attempt.

use std::fmt;

use crate::bindings::plugnode::app::types::HandlerError;

/// What a handler answers.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Why an event could not be handled. Whatever the handler asked for in this call is dropped.
///
/// `?` makes one of the errors of this crate and of serde: what cannot be read or is not allowed is a
/// [`Reject`](Error::Reject), since it would be the same the next time, and a store that did not answer is a
/// [`Retry`](Error::Retry).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Try again a little later, until the attempts that the host allows are used up. Until then, the client's next
    /// events wait.
    Retry(String),
    /// Never try again: the event is put aside as a dead letter, with this reason. An acknowledgement that its client waits
    /// for is then `{"error":{"code":"failed","event":"ID"}}`, as it is when no attempt is left after [`Retry`](Self::Retry).
    Reject(String),
}

impl Error {
    /// A reason to try again later.
    pub fn retry(reason: impl fmt::Display) -> Self {
        Self::Retry(reason.to_string())
    }

    /// A reason never to try again. As in `.map_err(Error::reject)?`.
    pub fn reject(reason: impl fmt::Display) -> Self {
        Self::Reject(reason.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(reason) => write!(f, "to be tried again: {reason}"),
            Self::Reject(reason) => write!(f, "rejected: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::reject(error)
    }
}

impl From<crate::ArgsError> for Error {
    fn from(error: crate::ArgsError) -> Self {
        Self::reject(error)
    }
}

impl From<crate::CommandError> for Error {
    fn from(error: crate::CommandError) -> Self {
        Self::reject(error)
    }
}

impl From<crate::kv::Error> for Error {
    fn from(error: crate::kv::Error) -> Self {
        match error {
            crate::kv::Error::Failed { .. } => Self::retry(error),
            _ => Self::reject(error),
        }
    }
}

impl From<crate::config::Error> for Error {
    fn from(error: crate::config::Error) -> Self {
        Self::retry(error)
    }
}

impl From<Error> for HandlerError {
    fn from(error: Error) -> Self {
        match error {
            Error::Retry(reason) => Self::Retry(reason),
            Error::Reject(reason) => Self::Reject(reason),
        }
    }
}

impl From<crate::schedule::Error> for Error {
    fn from(error: crate::schedule::Error) -> Self {
        Self::reject(error)
    }
}
