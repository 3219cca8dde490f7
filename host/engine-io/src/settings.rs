//! The settings of an engine. Every limit is on by default, with a value that no well-behaved client reaches.

use std::time::Duration;

/// The settings of an engine.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether clients may poll.
    pub polling: bool,
    /// Whether clients may use websockets, from the start or by an upgrade.
    pub websocket: bool,
    /// Whether clients of protocol 3 (Socket.IO 2) are accepted.
    pub protocol_3: bool,
    /// Protocol 4: time between the server's pings. Protocol 3: time that clients are told to leave between theirs.
    pub ping_interval: Duration,
    /// How long a client may be silent after a ping before its session ends. Protocol 3: beyond the ping interval.
    pub ping_timeout: Duration,
    /// How long a client may take from opening the websocket to the end of the upgrade.
    pub upgrade_timeout: Duration,
    /// Limit in bytes of a websocket message, of the body of a POST, and of the response to a poll (which holds at least one
    /// packet).
    pub max_payload: usize,
    /// Bytes that may wait to be sent in one session. Above it the session's input is not read, and a client that takes
    /// nothing for [`STALL_TIMEOUT`] is disconnected. Above [`SEND_BURST`] times as much every client is.
    pub send_buffer: usize,
    /// How long a websocket, or the response to a poll, may wait for the client to take a byte. A client that takes some
    /// stays, however slow it is.
    pub send_timeout: Duration,
    /// How long a client may take to send the body of a POST: this, and one second more for each [`MIN_BODY_RATE`] bytes
    /// received.
    pub body_timeout: Duration,
    /// How long a client may take for each part of its last packets and of the close, after the session has ended; when the
    /// engine is shut down, at most three times as long in all.
    pub close_timeout: Duration,
    /// Limit per second of packets and frames that are not messages: pings, pongs, no-ops, small fragments. Ten seconds' worth
    /// may come at once; a session that sends more is closed.
    pub control_packets_per_second: u32,
    /// Bytes of unfinished messages and POST bodies that all sessions may hold together; at least twice
    /// [`max_payload`](Self::max_payload). The sessions of one [`Peer`](crate::Peer) network may hold as much of it as they
    /// leave to all others, so at most half. A session that exceeds it is closed.
    pub unfinished_bytes: usize,
}

/// How long a client above [`Settings::send_buffer`] may take nothing before its session ends.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(5);

/// How many times [`Settings::send_buffer`] may wait in a session whose client keeps reading.
pub const SEND_BURST: usize = 4;

/// Lowest rate in bytes per second of a POST body, once [`Settings::body_timeout`] is over.
pub const MIN_BODY_RATE: usize = 1024;

impl Default for Settings {
    fn default() -> Self {
        Self {
            polling: true,
            websocket: true,
            protocol_3: true,
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            upgrade_timeout: Duration::from_secs(10),
            max_payload: 1_000_000,
            send_buffer: 4_000_000,
            send_timeout: Duration::from_secs(20),
            body_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(3),
            control_packets_per_second: 50,
            unfinished_bytes: 256 << 20,
        }
    }
}

impl Settings {
    /// Bytes waiting to be sent at which a session ends, even if its client keeps reading.
    pub(crate) fn send_limit(&self) -> usize {
        self.send_buffer.saturating_mul(SEND_BURST)
    }
}
