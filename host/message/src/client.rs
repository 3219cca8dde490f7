//! A client as events name it, and its handshake.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{NodeId, SessionId, Text};

/// The client that an event comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The session id.
    pub id: SessionId,
    /// The io-node that holds the connection.
    pub io_node: NodeId,
    /// The client's attributes, a JSON object that its io-node keeps.
    pub attributes: Text,
    /// Number of the last [`AttributePatch`](crate::AttributePatch) that the io-node had applied when it made the event; 0 for none.
    pub patched: u64,
}

/// Maximum size of a client's attributes, in bytes.
pub const MAX_ATTRIBUTES: usize = 16 << 10;

/// The request with which a client connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshake {
    /// The `auth` of the client's CONNECT packet, as JSON.
    pub auth: Option<Text>,
    /// The query string of the request, without the `?`.
    pub query: Arc<str>,
    /// The headers of the request, with names in lower case. All handshakes of one connection share them.
    pub headers: Arc<[(String, String)]>,
    /// The peer's address and port.
    pub remote_addr: Option<String>,
    /// `websocket` or `polling`.
    pub transport: Text,
    /// Whether connection state recovery restored the session.
    pub recovered: bool,
}
