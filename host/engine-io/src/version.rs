//! The protocol versions.

/// A version of the Engine.IO protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// Version 3, of Socket.IO 1 and 2: the client pings.
    V3,
    /// Version 4, of Socket.IO 3 and 4: the server pings.
    V4,
}
