//! A packet that a client sent, with all its attachments.

use socketioxide_core::Str;

use crate::raw_payload::RawPayload;

/// A packet that a client sent.
#[derive(Debug)]
pub struct IncomingPacket {
    /// The namespace as it was sent: not checked, and with a query string where clients of revision 4 send one.
    pub namespace: Str,
    /// The type of the packet, with its content.
    pub content: PacketContent,
}

/// The type of a packet, with its content.
#[derive(Debug)]
pub enum PacketContent {
    /// Connects to the namespace, with `auth` if the client gave one.
    Connect(Option<RawPayload>),
    /// Disconnects from the namespace.
    Disconnect,
    /// An event, with its acknowledgement id if it asks for an acknowledgement.
    Event(RawPayload, Option<i64>),
    /// The acknowledgement of the server's event with this id.
    Ack(RawPayload, i64),
}
