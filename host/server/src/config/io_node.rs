//! The settings of the role io-node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Field, Size, Token};

/// `[io-node]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct IoNode {
    /// The name under which it joins. Default: made from the host's name and the process.
    pub name: Option<String>,
    /// What clients are told: a host and a port, or a URL with scheme and path. Default: where it listens.
    pub advertise: Option<String>,
    /// The path of Socket.IO requests. Default: `/socket.io`.
    pub path: String,
    /// Time between two pings to a client. Default: 25,000.
    pub ping_interval_ms: u64,
    /// Time a client has to answer a ping. Default: 20,000.
    pub ping_timeout_ms: u64,
    /// Time a client has, once connected, to enter a namespace. Default: 45,000.
    pub connect_timeout_ms: u64,
    /// Time that a change from polling to websocket may take. Default: 10,000.
    pub upgrade_timeout_ms: u64,
    /// Largest message taken from a client. Default: 1 MB.
    pub max_payload: Size,
    /// Bytes that wait for a client to read them. Above it, what the client sends waits; it is disconnected when it reads
    /// nothing for 5 seconds, or when four times as much waits. Default: 4 MB.
    pub send_buffer: Size,
    /// Time that a client has to read a byte of what is sent to it. Default: 20,000.
    pub send_timeout_ms: u64,
    /// Time that a client has, when its connection is closed, to read the last that it was sent and the close. Default: 1,000.
    pub close_timeout_ms: u64,
    /// Packets a second of one client that are no messages, such as pings and small fragments. Default: 50.
    pub control_packets_per_second: u32,
    /// Bytes of unfinished messages and request bodies of all clients together; those of one address have half of it at most.
    /// Default: 256 MB.
    pub unfinished_bytes: Size,
    /// Time that an event may wait to be taken in before it is refused to its client. Default: 10,000.
    pub refuse_after_ms: u64,
    /// Time over which connections are closed when the process ends. Default: 1,000.
    pub drain_ms: u64,
    /// Time that Redis may be out of reach, with no evidence of the reason, before connections are closed. Default: 60,000.
    pub cut_off_ms: u64,
    /// What clients may connect by. Default: polling and websocket.
    pub transports: Vec<ClientTransport>,
    /// How packets are written. Default: json.
    pub parser: Parser,
    /// Whether clients of Socket.IO 2 may connect. Default: false.
    pub socket_io_2: bool,
    /// Pages of which sites may connect, besides those of the same host. Default: none.
    pub allowed_origins: Vec<String>,
    /// Hosts that requests may be for, besides addresses and names of one word. Default: any, and none where it listens on
    /// loopback alone.
    pub allowed_hosts: Option<Vec<String>>,
    /// Sessions held at once from one address. Default: any number.
    pub max_clients_per_address: Option<usize>,
    /// New sessions a second from one address. Default: any number.
    pub connects_per_second: Option<u32>,
    /// Packets of any kind a second of one connection. Default: 10,000.
    pub packets_per_second: u32,
    /// Events a second of one client. Default: any number.
    pub events_per_second: Option<u32>,
    /// Channels that one client may be in. Default: 10,000.
    pub channels_per_client: usize,
    /// Namespaces that one connection may be in. Default: 100.
    pub namespaces_per_connection: usize,
    /// Attributes that clients have from the beginning, and where in the handshake each is found. Default: none.
    pub attributes: BTreeMap<String, Field>,
    /// Time that the answer to a new session is held back, for tests of clients. Default: 0.
    pub handshake_delay_ms: u64,
    /// Which tokens clients have to show. Default: none.
    pub token: Token,
}

/// How a client may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientTransport {
    /// HTTP long polling.
    Polling,
    /// WebSocket.
    Websocket,
}

/// How packets are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parser {
    /// As JSON, with attachments: what clients use unless they are told otherwise.
    Json,
    /// As MessagePack, of `socket.io-msgpack-parser`.
    Msgpack,
}

impl Default for IoNode {
    fn default() -> Self {
        Self {
            name: None,
            advertise: None,
            path: "/socket.io".into(),
            ping_interval_ms: 25_000,
            ping_timeout_ms: 20_000,
            connect_timeout_ms: 45_000,
            upgrade_timeout_ms: 10_000,
            max_payload: Size(1_000_000),
            send_buffer: Size(4_000_000),
            send_timeout_ms: 20_000,
            close_timeout_ms: 1_000,
            control_packets_per_second: 50,
            unfinished_bytes: Size(256_000_000),
            refuse_after_ms: 10_000,
            cut_off_ms: 60_000,
            drain_ms: 1_000,
            transports: vec![ClientTransport::Polling, ClientTransport::Websocket],
            parser: Parser::Json,
            socket_io_2: false,
            allowed_origins: Vec::new(),
            allowed_hosts: None,
            max_clients_per_address: None,
            connects_per_second: None,
            packets_per_second: 10_000,
            events_per_second: None,
            channels_per_client: 10_000,
            namespaces_per_connection: 100,
            attributes: BTreeMap::new(),
            handshake_delay_ms: 0,
            token: Token::default(),
        }
    }
}
