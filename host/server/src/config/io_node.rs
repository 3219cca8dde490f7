//! The settings of the role io-node.

use std::collections::BTreeMap;
use std::time::Duration;

use plugnode_process::settings::Millis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Size, Token};
use crate::roles::io_node::{Encoding, Field};

/// `[io-node]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct IoNode {
    /// Name of this node in the cluster. It must be unique: a second node is refused while one of the name lives. Unset: made
    /// from the host's name and the process id.
    #[schemars(example = &"io-1")]
    pub name: Option<String>,
    /// Address that clients are told in `/config.js`: host and port, or a URL with scheme and path. Set it when clients reach
    /// the node at another address than it listens on, such as behind a proxy. Unset: the address it listens on, and `path`.
    #[schemars(example = &"https://chat.example.com/socket.io")]
    pub advertise: Option<String>,
    /// Path of Socket.IO requests; clients must use the same. It cannot be `/healthz` or `/readyz`, nor a path of
    /// `frontend.client-config-url` in a process that is a frontend too.
    pub path: String,
    /// Interval between two heartbeat pings to a client.
    #[serde(rename = "ping-interval-ms", with = "Millis")]
    pub ping_interval: Duration,
    /// Time for a client to answer a ping before it is disconnected.
    #[serde(rename = "ping-timeout-ms", with = "Millis")]
    pub ping_timeout: Duration,
    /// Time for a new connection to join a namespace.
    #[serde(rename = "connect-timeout-ms", with = "Millis")]
    pub connect_timeout: Duration,
    /// Time for the upgrade from polling to WebSocket.
    #[serde(rename = "upgrade-timeout-ms", with = "Millis")]
    pub upgrade_timeout: Duration,
    /// Largest message accepted from a client, at most 4GiB. Raise it for clients that send large attachments; each may then use that much memory.
    pub max_payload: Size,
    /// Bytes that wait to be sent to one client. Above it, reading from the client pauses, and a client that reads nothing for
    /// 5 seconds, or has four times as much waiting, is disconnected.
    pub send_buffer: Size,
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
    /// Packets per second of one connection, of any kind: events, acknowledgements, connects, attachments. The allowance of two
    /// seconds may come at once. A client that sends more is read at this rate, and disconnected after 30 seconds above it.
    pub packets_per_second: u32,
    /// Bytes of unfinished messages and request bodies of all clients together; at least twice `max-payload` is used. One address
    /// may have as much as it leaves to all others, at most half. Connections beyond that are closed.
    pub unfinished_bytes: Size,
    /// Time that an event waits while the backlog is full. After it, an event that asks for an acknowledgement is refused with
    /// `{"error":{"code":"overloaded","message":"…"}}`; others keep waiting and slow their clients down; a client whose connect
    /// event cannot be accepted is disconnected.
    #[serde(rename = "refuse-after-ms", with = "Millis")]
    pub refuse_after: Duration,
    /// Time over which connections are closed when the process ends, so that clients do not reach the other io-nodes all at once.
    /// Must be less than `shutdown.deadline-ms`; if that is lowered and this is not set, half of the deadline is used.
    #[serde(rename = "drain-ms", with = "Millis")]
    pub drain: Duration,
    /// An io-node that cannot reach Redis asks other io-nodes whether they can. If one can, it closes its connections before its
    /// lease ends. If none can, or Redis refuses connections, connections stay. If nobody can be asked, as with a single io-node,
    /// connections are closed after this time: set it longer than a restart or failover of Redis takes.
    #[serde(rename = "cut-off-ms", with = "Millis")]
    pub cut_off: Duration,
    /// Transports of Engine.IO that clients may use.
    pub transports: Vec<ClientTransport>,
    /// Encoding of packets: `json`, or `msgpack` for clients with socket.io-msgpack-parser.
    pub parser: Encoding,
    /// Whether clients of Socket.IO 2 may connect as well.
    pub socket_io_2: bool,
    /// Origins whose pages may connect, such as `["https://example.com", "http://localhost:3000"]`; `"*"` is any, without
    /// cookies unless the origin is listed besides. Pages of the host that the request goes to, and clients without the header
    /// `Origin`, may always connect; others are answered 403. List your site when io-nodes have other host names than the
    /// frontend, or a proxy changes the header `Host`.
    pub allowed_origins: Vec<String>,
    /// Hosts that requests may name in the header `Host`, such as `["chat.example.com", "*.example.com"]`; `"*"` is any. This
    /// stops DNS rebinding. IP addresses, names without a dot and the hosts of `advertise` and `allowed-origins` are always
    /// accepted; others are answered 403. Unset: any host, or none more if `http.listen` is a loopback address; set it when
    /// a proxy on the same machine passes its `Host` on.
    #[schemars(example = ["chat.example.com"])]
    pub allowed_hosts: Option<Vec<String>>,
    /// Sessions open at once from one address; one more is answered 429. An IPv6 address counts by its first 64 bits. Behind
    /// a proxy, set `http.trusted-proxies` or `http.proxy-protocol` first: else all clients have the proxy's address. Unset: no
    /// limit.
    #[schemars(example = 100)]
    pub max_clients_per_address: Option<usize>,
    /// New sessions per second from one address; one more is answered 429. The allowance of ten seconds may come at once. Unset: no
    /// limit.
    #[schemars(example = 10)]
    pub connects_per_second: Option<u32>,
    /// Events per second of one client, in all its namespaces. The allowance of two seconds may come at once. A client that sends
    /// more is read at this rate, and disconnected after 30 seconds above it. Unset: no limit.
    #[schemars(example = 100)]
    pub events_per_second: Option<u32>,
    /// Channels (Socket.IO rooms) that one client may be in.
    pub channels_per_client: usize,
    /// Namespaces that one connection may be in; one more is refused with the connect_error "too many namespaces".
    pub namespaces_per_connection: usize,
    /// Attributes that a client has from the start, and where in its first request each is found: in the `auth` object
    /// (`auth.user`, `auth.user.id`), the query (`query.page`) or a header (`header.user-agent`). Missing ones are left out.
    /// Clients can send anything here: for what must be proved, use a token.
    #[schemars(example = serde_json::json!({ "user": "auth.user", "page": "query.page", "agent": "header.user-agent" }))]
    pub attributes: BTreeMap<String, Field>,
    /// Delay of the answer to each new session, to test how clients cope.
    #[serde(rename = "handshake-delay-ms", with = "Millis")]
    pub handshake_delay: Duration,
    /// JWT that clients must show, once a secret, a public key or a JWK set is configured here. A forged or expired one, or one for
    /// another audience, is refused with the connect_error "invalid token"; the log says more at level debug. It is checked when a
    /// client connects to a namespace, and not again unless `enforce-expiry` is set.
    pub token: Token,
}

/// How a client may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientTransport {
    /// HTTP long polling.
    Polling,
    /// WebSocket.
    Websocket,
}

impl Default for IoNode {
    fn default() -> Self {
        Self {
            name: None,
            advertise: None,
            path: "/socket.io".into(),
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(45),
            upgrade_timeout: Duration::from_secs(10),
            max_payload: Size(1_000_000),
            send_buffer: Size(4_000_000),
            send_timeout: Duration::from_secs(20),
            close_timeout: Duration::from_secs(1),
            control_packets_per_second: 50,
            unfinished_bytes: Size(256_000_000),
            refuse_after: Duration::from_secs(10),
            cut_off: Duration::from_secs(60),
            drain: Duration::from_secs(1),
            transports: vec![ClientTransport::Polling, ClientTransport::Websocket],
            parser: Encoding::Json,
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
            handshake_delay: Duration::ZERO,
            token: Token::default(),
        }
    }
}
