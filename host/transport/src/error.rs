//! Why a call of a transport fails.

/// Why a call of a transport failed.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The lease of this member expired, and others have its work. Drop everything in flight and join again.
    #[error("this node was fenced: its lease expired or its outbox stayed full, and other nodes took its work")]
    Fenced,
    /// The transport lost data, among them this member's registration or its events. Drop everything in flight and join again.
    #[error("the transport lost data, and this node's registration with them")]
    DataLost,
    /// This member cannot reach the transport, others can: it gives up before its lease expires.
    #[error("this node is cut off from the cluster, and its lease is about to expire")]
    CutOff,
    /// The transport is away, for this reason. A later call may succeed.
    #[error("{0}")]
    Unreachable(String),
    /// The transport refuses, for this reason. Waiting does not help.
    #[error("{0}")]
    Unusable(String),
}

/// Result with a [`TransportError`].
pub type Result<T> = std::result::Result<T, TransportError>;
