//! `[io-node]`: the settings of an io-node.

use std::collections::BTreeMap;
use std::time::Duration;

use plugnode_settings::{Millis, flat};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address_limits::PerAddress;
use super::field::Field;
use super::token::TokenSettings;
use crate::roles::node_name;
use plugnode_message::NodeId;
use plugnode_socket_io::Encoding;

/// `[io-node]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case", remote = "Self")]
pub struct IoNodeSettings {
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
    /// Sessions of Engine.IO.
    #[serde(flatten, skip_deserializing)]
    pub engine: engine_io::Settings,
    /// Time for a new connection to join a namespace.
    #[serde(rename = "connect-timeout-ms", with = "Millis")]
    pub connect_timeout: Duration,
    /// Packets per second of one connection, of any kind: events, acknowledgements, connects, attachments. The allowance of two
    /// seconds may come at once. A client that sends more is read at this rate, and disconnected after 30 seconds above it.
    pub packets_per_second: u32,
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
    /// Encoding of packets: `json`, or `msgpack` for clients with socket.io-msgpack-parser.
    pub parser: Encoding,
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
    /// Limits of one address.
    #[serde(flatten, skip_deserializing)]
    pub per_address: PerAddress,
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
    pub token: TokenSettings,
}
flat!(IoNodeSettings {
    engine: engine_io::Settings,
    per_address: PerAddress,
});

impl IoNodeSettings {
    /// The name of this process as an io-node.
    pub fn node_name(&self) -> NodeId {
        node_name(self.name.as_deref(), "io")
    }
}

impl Default for IoNodeSettings {
    fn default() -> Self {
        Self {
            name: None,
            advertise: None,
            path: "/socket.io".into(),
            engine: engine_io::Settings::default(),
            connect_timeout: Duration::from_secs(45),
            packets_per_second: 10_000,
            refuse_after: Duration::from_secs(10),
            drain: Duration::from_secs(1),
            cut_off: Duration::from_secs(60),
            parser: Encoding::Json,
            allowed_origins: Vec::new(),
            allowed_hosts: None,
            per_address: PerAddress::default(),
            events_per_second: None,
            channels_per_client: 10_000,
            namespaces_per_connection: 100,
            attributes: BTreeMap::new(),
            handshake_delay: Duration::ZERO,
            token: TokenSettings::default(),
        }
    }
}
