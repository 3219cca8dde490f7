//! The commands of a handler as values.

use crate::bindings::plugnode::app::outbox::Audience;
use crate::bindings::plugnode::app::schedule::Owner;
use crate::payload::Payload;

/// A command of a handler: one call of `outbox` or `schedule`.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    missing_docs,
    reason = "the fields are the parameters of the functions of `outbox` and `schedule` in the contract"
)]
pub enum Command {
    /// Emits an event to clients.
    Publish {
        to: Audience,
        event: String,
        args: Payload,
        volatile: bool,
        local: bool,
    },
    /// Subscribes clients to channels.
    Subscribe { who: Audience, channels: Vec<String> },
    /// Unsubscribes clients from channels.
    Unsubscribe { who: Audience, channels: Vec<String> },
    /// Answers an acknowledgement.
    Ack { id: String, args: Payload },
    /// Emits an event to clients and asks each for an acknowledgement.
    Request {
        to: Audience,
        event: String,
        args: Payload,
        timeout_ms: u32,
        token: Vec<u8>,
    },
    /// Disconnects clients.
    Disconnect { who: Audience, close_transport: bool },
    /// Applies a JSON merge patch to a client's attributes.
    PatchAttributes { id: String, patch: String },
    /// Sends a message to the program that embeds io-nodes.
    Custom {
        io_node: Option<String>,
        kind: String,
        data: Vec<u8>,
    },
    /// Refuses the connecting client. The host then drops all other commands of the event.
    Refuse { message: String, data: Option<String> },
    /// Emits an event to clients and collects their acknowledgements.
    Collect {
        to: Audience,
        event: String,
        args: Payload,
        timeout_ms: u32,
        token: Vec<u8>,
    },
    /// Finds clients.
    FindClients {
        who: Audience,
        most: u32,
        timeout_ms: u32,
        token: Vec<u8>,
    },
    /// Lists channels.
    ListChannels {
        namespace: Option<String>,
        most: u32,
        timeout_ms: u32,
        token: Vec<u8>,
    },
    /// Reports when all earlier commands have been carried out.
    Settle { timeout_ms: u32, token: Vec<u8> },
    /// Sets a one-shot timer.
    At {
        owner: Owner,
        key: String,
        time_ms: u64,
        kind: String,
        data: Vec<u8>,
    },
    /// Sets a periodic timer.
    Every {
        owner: Owner,
        key: String,
        period_ms: u64,
        kind: String,
        data: Vec<u8>,
    },
    /// Cancels a timer.
    Cancel { owner: Owner, key: String },
}
