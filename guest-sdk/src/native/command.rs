//! What a handler asks for, as one value a call.

use crate::bindings::plugnode::app::outbox::Audience;
use crate::bindings::plugnode::app::schedule::Owner;
use crate::payload::Payload;

/// One command of a handler.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    missing_docs,
    reason = "the fields are those of the functions of `outbox` and `schedule` in the contract"
)]
pub enum Command {
    /// An event for clients.
    Publish {
        to: Audience,
        event: String,
        args: Payload,
        volatile: bool,
        local: bool,
    },
    /// Clients join channels.
    Subscribe { who: Audience, channels: Vec<String> },
    /// Clients leave channels.
    Unsubscribe { who: Audience, channels: Vec<String> },
    /// An acknowledgement is answered.
    Ack { id: String, args: Payload },
    /// An event for clients, who are asked for an acknowledgement.
    Request {
        to: Audience,
        event: String,
        args: Payload,
        timeout_ms: u32,
        token: Vec<u8>,
    },
    /// Clients are disconnected.
    Disconnect { who: Audience, close_transport: bool },
    /// A client's attributes change.
    PatchAttributes { id: String, patch: String },
    /// A message to the code that embeds io-nodes.
    Custom {
        io_node: Option<String>,
        kind: String,
        data: Vec<u8>,
    },
    /// The client that connects is refused. Then this is the only command.
    Refuse { message: String, data: Option<String> },
    /// An event for clients, whose acknowledgements are collected.
    Collect {
        to: Audience,
        event: String,
        args: Payload,
        timeout_ms: u32,
        token: Vec<u8>,
    },
    /// Clients are looked for.
    FindClients {
        who: Audience,
        most: u32,
        timeout_ms: u32,
        token: Vec<u8>,
    },
    /// Channels are looked for.
    ListChannels {
        namespace: Option<String>,
        most: u32,
        timeout_ms: u32,
        token: Vec<u8>,
    },
    /// To be told when everything has been carried out.
    Settle { timeout_ms: u32, token: Vec<u8> },
    /// A timer is set to a time.
    At {
        owner: Owner,
        key: String,
        time_ms: u64,
        kind: String,
        data: Vec<u8>,
    },
    /// A timer is set that is due again and again.
    Every {
        owner: Owner,
        key: String,
        period_ms: u64,
        kind: String,
        data: Vec<u8>,
    },
    /// A timer is cancelled.
    Cancel { owner: Owner, key: String },
}
