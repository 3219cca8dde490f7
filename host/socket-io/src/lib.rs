//! Socket.IO on the server side: packets of protocol revisions 4 and 5, as text and as MessagePack; connections, namespaces, rooms and
//! sockets. <https://socket.io/docs/v4/socket-io-protocol/>
//!
//! It knows no transport, no HTTP server and no configuration. Read on in the order in which a message travels:
//!
//! - A [`Connection`] is a session of `engine-io`. [`Backpressure`](ConnectionLimits) pauses it while its events wait to be accepted.
//! - [`Codec`] decodes its messages to an [`IncomingPacket`]; binary attachments arrive in messages of their own and wait in a
//!   [`PartialPacket`]. `msgpack` decodes the packets of `socket.io-msgpack-parser`.
//! - [`RawPayload`] is what such a packet carries. It is checked as it becomes an event name, arguments or `auth`; what fails is
//!   [`Malformed`].
//! - A [`Socket`] makes events of packets: first its connection, last its disconnect. It queues them in the [`Incarnation`] in which it
//!   connected, from which the io-node takes each [`PendingEvent`].
//! - [`NamespaceRegistry`] finds [`NamespaceSockets`], and these the sockets of an audience, by id or room.
//! - [`Codec`] encodes what is sent to an [`EncodedPacket`], once for any number of recipients. [`Requests`] are events that a client
//!   has to acknowledge.
//! - [`EmitterProtocol`] decodes what other programs publish to clients through `@socket.io/redis-emitter`.
//!
//! Guarantees:
//!
//! - Whatever the encoding, a payload is JSON with attachments, and what one client sends, another receives unchanged: also JavaScript's
//!   dates and lone surrogates, and acknowledgement ids that only a double can hold.
//! - Nothing that a client sends makes another client's parser fail: placeholders refer to attachments that exist, nesting is limited, and
//!   names that Socket.IO reserves are refused.
//! - Decoding takes memory proportional to what was sent, and no recursion. A client that sends faster than its events are accepted is
//!   not read.
//! - A socket has one connection event and one disconnect event, or none at all.

mod ack_number;
mod awaited_acks;
mod backpressure;
mod codec;
mod connection;
#[cfg(test)]
mod counted;
mod date;
mod emitter;
mod encoded;
mod incarnation;
mod incoming;
mod malformed;
pub mod msgpack;
mod namespace;
mod pending_event;
mod raw_payload;
mod registry;
mod requests;
mod send_rate;
mod socket;

pub use backpressure::ConnectionLimits;
pub use codec::{Codec, Encoding, PartialPacket, Revision};
pub use connection::Connections;
pub use emitter::{EmitterError, EmitterProtocol};
pub use encoded::EncodedPacket;
pub use incarnation::{Arrivals, CurrentIncarnation, IdPreference, Incarnation};
pub use incoming::{IncomingPacket, PacketContent};
pub use malformed::Malformed;
pub use namespace::{NamespaceSockets, SocketContext, TooManyRooms};
pub use pending_event::{EventSource, PendingEvent};
pub use raw_payload::RawPayload;
pub use registry::{AppNamespace, NamespaceRegistry};
pub use requests::{ReplyTo, Requests};
pub use send_rate::Flood;
pub use socket::{Connection, Socket};
pub use socketioxide_core::{Sid, Str};
