//! Why a session ended, and what its client is still sent.

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client closed it, by a close packet or a close frame.
    #[error("closed by the client")]
    Client,
    /// The connection ended without a close.
    #[error("connection ended without a close")]
    TransportClose,
    /// The connection failed, or polls or POSTs overlapped so that their order is unknown.
    #[error("connection failed")]
    TransportError,
    /// The client did not answer a ping in time; in protocol 3: sent none.
    #[error("heartbeat timed out")]
    PingTimeout,
    /// The client sent bytes that are not a valid packet.
    #[error("invalid packet")]
    ParseError,
    /// A message was larger than [`Settings::max_payload`](crate::Settings::max_payload).
    #[error("message larger than max-payload")]
    TooLarge,
    /// The client sent more pings, pongs, no-ops and small fragments than
    /// [`Settings::control_packets_per_second`](crate::Settings::control_packets_per_second).
    #[error("too many packets that are not messages")]
    Flood,
    /// The client does not read.
    #[error("client does not read what it is sent")]
    SlowReader,
    /// The client's address, or all clients together, hold too much of
    /// [`Settings::unfinished_bytes`](crate::Settings::unfinished_bytes).
    #[error("too many bytes of unfinished messages")]
    Overloaded,
    /// The application closed it.
    #[error("closed by the application")]
    Server,
    /// The engine was shut down.
    #[error("server shutdown")]
    Shutdown,
}

impl CloseReason {
    /// Whether the websocket is closed by a close frame: not where the connection is gone or its client does not read.
    pub(crate) fn sends_close_frame(self) -> bool {
        !matches!(self, Self::TransportClose | Self::TransportError | Self::SlowReader)
    }

    /// Whether a websocket's client still gets the packets queued before the end.
    pub(crate) fn flushes_queue(self) -> bool {
        matches!(self, Self::Server | Self::Shutdown)
    }
}
