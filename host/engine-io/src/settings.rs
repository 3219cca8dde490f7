//! What an engine is told when it is made. Every limit is on by default, with a value that no honest client meets.

use std::time::Duration;

/// The settings of an engine.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether clients may poll.
    pub polling: bool,
    /// Whether clients may use websockets, from the start or by an upgrade.
    pub websocket: bool,
    /// Whether clients of protocol 3 are taken (those of Socket.IO 2).
    pub protocol_3: bool,
    /// Protocol 4: time from one ping of the server to the next. Protocol 3: what clients are told to leave between theirs.
    pub ping_interval: Duration,
    /// How long the other side of a ping may be silent before the session ends.
    pub ping_timeout: Duration,
    /// How long a client may take from opening the websocket to the end of the upgrade.
    pub upgrade_timeout: Duration,
    /// The most bytes of a websocket message, of the body of a POST, and of a poll's answer (which holds at least one
    /// packet).
    pub max_payload: usize,
    /// Bytes that may wait to be sent in one session. Above it the session's own input waits, and a client that takes nothing
    /// for [`STALL`] ends. Above [`BURST`] times as much every client ends.
    pub send_buffer: usize,
    /// How long a websocket, or the answer to a poll, may wait for the client to take a byte. One that takes some stays,
    /// however slow it is.
    pub send_timeout: Duration,
    /// How long a client may take for the body of a POST: this, and a second more for each [`BODY_RATE`] bytes that it sent.
    pub body_timeout: Duration,
    /// How long a client may take to read its last packets and the close, after the session has ended: so long for each part of
    /// them, and three times as long in all when the engine is shut down.
    pub close_timeout: Duration,
    /// Packets and frames a second that are no messages: pings, pongs, no-ops, small fragments. A session may send as many as
    /// ten seconds' worth at once; beyond that it is closed.
    pub control_packets_per_second: u32,
    /// Bytes of unfinished messages and POST bodies that all sessions may hold together; at least twice
    /// [`max_payload`](Self::max_payload). The sessions of one [`Peer`](crate::Peer) address may hold as much of it as they leave to
    /// all others, so half of it at most. What exceeds that is closed.
    pub unfinished_bytes: usize,
}

/// How long a client above [`Settings::send_buffer`] may take nothing before its session ends.
pub const STALL: Duration = Duration::from_secs(5);

/// How many times [`Settings::send_buffer`] may wait in a session that takes what it is sent.
pub const BURST: usize = 4;

/// Bytes of a body that buy its client a second: the least rate, once [`Settings::body_timeout`] is over.
pub const BODY_RATE: usize = 1024;

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
    /// Bytes that may wait in a session whatever its client does.
    pub(crate) fn send_limit(&self) -> usize {
        self.send_buffer.saturating_mul(BURST)
    }
}
