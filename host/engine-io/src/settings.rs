//! The settings of an engine. Every limit is on by default, with a value that no well-behaved client reaches.

use std::time::Duration;

use plugnode_settings::{Bytes, Millis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The settings of an engine, with the names that they have in plugnode's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Settings {
    /// Interval between two heartbeat pings to a client.
    #[serde(rename = "ping-interval-ms", with = "Millis")]
    pub ping_interval: Duration,
    /// Time for a client to answer a ping before it is disconnected.
    #[serde(rename = "ping-timeout-ms", with = "Millis")]
    pub ping_timeout: Duration,
    /// Time for the upgrade from polling to WebSocket.
    #[serde(rename = "upgrade-timeout-ms", with = "Millis")]
    pub upgrade_timeout: Duration,
    /// Largest message accepted from a client, at most 4GiB. Raise it for clients that send large attachments; each may then use
    /// that much memory.
    #[serde(with = "Bytes")]
    pub max_payload: usize,
    /// Bytes that wait to be sent to one client. Above it, reading from the client pauses, and a client that reads nothing for
    /// 5 seconds, or has four times as much waiting, is disconnected.
    #[serde(with = "Bytes")]
    pub send_buffer: usize,
    /// Time without progress: a client that reads no byte of what is sent for this long is disconnected. A slow one stays as long
    /// as it answers pings in time, so a single message must arrive within the ping time.
    #[serde(rename = "send-timeout-ms", with = "Millis")]
    pub send_timeout: Duration,
    /// Time for a client whose connection is being closed to read the last packets and the close.
    #[serde(rename = "close-timeout-ms", with = "Millis")]
    pub close_timeout: Duration,
    /// Packets per second of one client that carry no message: pings, pongs, small fragments. The allowance of ten seconds may come
    /// at once; a client that sends more is disconnected.
    pub control_packets_per_second: u32,
    /// Bytes of unfinished messages and request bodies of all clients together; at least twice `max-payload` is used. One address
    /// may have as much as it leaves to all others, at most half. Connections beyond that are closed.
    #[serde(with = "Bytes")]
    pub unfinished_bytes: usize,
    /// Transports of Engine.IO that clients may use.
    pub transports: Vec<ClientTransport>,
    /// Whether clients of Socket.IO 2 may connect as well.
    #[serde(rename = "socket-io-2")]
    pub protocol_3: bool,
    /// How long a client may take to send the body of a POST: this, and one second more for each [`MIN_BODY_RATE`] bytes
    /// received. No key of the same table: the time-outs of requests are set with the HTTP server.
    #[serde(skip)]
    pub body_timeout: Duration,
}

/// How a client may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientTransport {
    /// HTTP long polling.
    Polling,
    /// WebSocket, from the start or by an upgrade.
    Websocket,
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
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            upgrade_timeout: Duration::from_secs(10),
            max_payload: 1_000_000,
            send_buffer: 4_000_000,
            send_timeout: Duration::from_secs(20),
            close_timeout: Duration::from_secs(1),
            control_packets_per_second: 50,
            unfinished_bytes: 256_000_000,
            transports: vec![ClientTransport::Polling, ClientTransport::Websocket],
            protocol_3: false,
            body_timeout: Duration::from_secs(10),
        }
    }
}

impl Settings {
    /// Whether clients may poll.
    pub(crate) fn polling(&self) -> bool {
        self.transports.contains(&ClientTransport::Polling)
    }

    /// Whether clients may use websockets.
    pub(crate) fn websocket(&self) -> bool {
        self.transports.contains(&ClientTransport::Websocket)
    }

    /// Bytes waiting to be sent at which a session ends, even if its client keeps reading.
    pub(crate) fn send_limit(&self) -> usize {
        self.send_buffer.saturating_mul(SEND_BURST)
    }
}
