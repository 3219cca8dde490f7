//! Socket.IO on the server side: packets of protocol revisions 4 and 5, as text and as MessagePack.
//! <https://socket.io/docs/v4/socket-io-protocol/>
//!
//! It knows no transport, no HTTP server and no configuration. Read on in the order in which a message travels:
//!
//! - [`Codec`] decodes texts and binary messages of Engine.IO to an [`IncomingPacket`]; binary attachments arrive in messages of their
//!   own and wait in a [`PartialPacket`]. `msgpack` decodes the packets of `socket.io-msgpack-parser`.
//! - [`RawPayload`] is what such a packet carries. It is checked as it becomes an event name, arguments or `auth`; what fails is
//!   [`Malformed`].
//! - [`Codec`] encodes what is sent to an [`EncodedPacket`], once for any number of recipients.
//!
//! Guarantees:
//!
//! - Whatever the encoding, a payload is JSON with attachments, and what one client sends, another receives unchanged: also JavaScript's
//!   dates and lone surrogates, and acknowledgement ids that only a double can hold.
//! - Nothing that a client sends makes another client's parser fail: placeholders refer to attachments that exist, nesting is limited, and
//!   names that Socket.IO reserves are refused.
//! - Decoding takes memory proportional to what was sent, and no recursion.

mod ack_number;
mod codec;
#[cfg(test)]
mod counted;
mod date;
mod encoded;
mod incoming;
mod malformed;
mod msgpack;
mod raw_payload;

pub use codec::{Codec, Encoding, PartialPacket, Revision};
pub use encoded::EncodedPacket;
pub use incoming::{IncomingPacket, PacketContent};
pub use malformed::Malformed;
pub use raw_payload::RawPayload;
pub use socketioxide_core::{Sid, Str};
