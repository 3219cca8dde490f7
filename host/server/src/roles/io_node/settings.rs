//! The settings of an io-node.

use std::time::Duration;

use super::address_limits::PerAddress;
use super::field::Field;
use super::token::TokenSettings;
use crate::http::TrustedProxies;
use plugnode_process::MemoryPressure;
use plugnode_socket_io::{AppNamespace, Encoding};

/// The settings of an io-node.
#[derive(Debug, Clone)]
pub struct IoNodeSettings {
    /// Its name in the cluster, and where clients reach it.
    pub node: plugnode_transport::IoNode,
    /// The namespaces of apps. Clients are refused in any other namespace.
    pub apps: Vec<AppNamespace>,
    /// The path of Engine.IO, such as `/socket.io`.
    pub path: String,
    /// The time between two pings.
    pub ping_interval: Duration,
    /// How long a client may take to answer a ping.
    pub ping_timeout: Duration,
    /// How long a connection may take to join a namespace.
    pub connect_timeout: Duration,
    /// How long an upgrade from polling to websocket may take.
    pub upgrade_timeout: Duration,
    /// The largest message that a client may send, in bytes.
    pub max_payload: usize,
    /// Bytes that may wait to be sent to a client. Beyond that, the client is not read, and it is disconnected if it reads nothing for
    /// [`engine_io::STALL_TIMEOUT`]; beyond [`engine_io::SEND_BURST`] times as much it is disconnected in any case.
    pub send_buffer: usize,
    /// How long a client may take to read a byte that is sent to it.
    pub send_timeout: Duration,
    /// How long a client may take to send the body of a request. Each [`engine_io::MIN_BODY_RATE`] bytes allow a second more.
    pub body_timeout: Duration,
    /// How long a client may take to read the last bytes and the close.
    pub close_timeout: Duration,
    /// Packets and frames per second of one client that are no messages, such as pings and small fragments.
    pub control_packets_per_second: u32,
    /// Bytes of unfinished messages and request bodies of all clients together. One address may have half of that.
    pub unfinished_bytes: usize,
    /// How long an event may wait to be accepted before it is refused to its client.
    pub refuse_after: Duration,
    /// Whether clients may connect by long polling.
    pub polling: bool,
    /// Whether clients may connect by websocket.
    pub websocket: bool,
    /// How packets are encoded.
    pub encoding: Encoding,
    /// Whether clients of Socket.IO 2 may connect.
    pub socket_io_2: bool,
    /// Rooms that a client may be in.
    pub channels_per_client: usize,
    /// Namespaces that a connection may join.
    pub namespaces_per_connection: usize,
    /// Origins whose pages may connect, such as `https://example.com`, or `*`. Pages of the request's own host always may.
    pub allowed_origins: Vec<String>,
    /// Hosts that requests may name besides addresses and names of one word. None allows any host.
    pub allowed_hosts: Option<Vec<String>>,
    /// Proxies that are trusted to name the address of their client.
    pub trusted_proxies: TrustedProxies,
    /// The limits of one address.
    pub per_address: PerAddress,
    /// Packets of any kind per second of one connection.
    pub packets_per_second: u32,
    /// Events per second of one client; none is without a limit.
    pub events_per_second: Option<u32>,
    /// The memory of this process. New sessions are refused when none is left.
    pub pressure: MemoryPressure,
    /// Names of first attributes, and the field of the handshake that each is taken from.
    pub attributes: Vec<(String, Field)>,
    /// How long the answer to a new session is delayed.
    pub handshake_delay: Duration,
    /// The tokens that clients have to show. None if they need no token.
    pub token: Option<TokenSettings>,
    /// The time over which connections are closed when the process ends.
    pub drain: Duration,
    /// How long it may then take to answer what clients have sent.
    pub answering: Duration,
    /// How long the transport may be unreachable for an unknown reason before connections are closed.
    pub cut_off: Duration,
}

impl IoNodeSettings {
    /// The part that the engine uses.
    pub(super) fn engine(&self) -> engine_io::Settings {
        engine_io::Settings {
            polling: self.polling,
            websocket: self.websocket,
            protocol_3: self.socket_io_2,
            ping_interval: self.ping_interval,
            ping_timeout: self.ping_timeout,
            upgrade_timeout: self.upgrade_timeout,
            max_payload: self.max_payload,
            send_buffer: self.send_buffer,
            send_timeout: self.send_timeout,
            body_timeout: self.body_timeout,
            close_timeout: self.close_timeout,
            control_packets_per_second: self.control_packets_per_second,
            unfinished_bytes: self.unfinished_bytes,
        }
    }
}
