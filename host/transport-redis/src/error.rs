//! The error of everything here that a person must mend.

use plugnode_transport::TransportError;

/// An error whose text says what failed, why, and what to do.
pub(crate) fn unusable(reason: impl Into<String>) -> TransportError {
    TransportError::Unusable(reason.into())
}
