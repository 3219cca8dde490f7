//! Why an event could not be handled, and whether to retry it.

use std::fmt;

use crate::bindings::plugnode::app::types::HandlerError;

/// The result of a handler's methods.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Why an event could not be handled. Its effects are dropped.
///
/// `?` converts the errors of this crate and of serde. Failures that a retry cannot fix, such as unreadable arguments or a
/// missing grant, become [`Reject`](Error::Reject); a store that did not answer becomes [`Retry`](Error::Retry).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Retry the event after a pause, up to the number of attempts that the host allows. The client's next events wait until
    /// then.
    Retry(String),
    /// Do not retry: the event becomes a dead letter with this reason. If its client waits for an acknowledgement, the host
    /// answers it with `{"error":{"code":"failed","event":"ID"}}`, as it does when no attempt is left after
    /// [`Retry`](Self::Retry).
    Reject(String),
}

impl Error {
    /// An error that retries the event.
    pub fn retry(reason: impl fmt::Display) -> Self {
        Self::Retry(reason.to_string())
    }

    /// An error that does not retry the event, as in `.map_err(Error::reject)?`.
    pub fn reject(reason: impl fmt::Display) -> Self {
        Self::Reject(reason.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(reason) => write!(f, "retry: {reason}"),
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

impl From<crate::presence::Error> for Error {
    fn from(error: crate::presence::Error) -> Self {
        match error {
            crate::presence::Error::Denied(_) => Self::reject(error),
            crate::presence::Error::Other(_) => Self::retry(error),
        }
    }
}
