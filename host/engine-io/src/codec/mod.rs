//! Decodes packets from clients, and encodes and decodes payloads: several packets as the body of a request or a response.
//! <https://socket.io/docs/v4/engine-io-protocol/>

mod client_packet;
mod encode;
mod payload;
#[cfg(test)]
mod tests;

pub(crate) use self::client_packet::ClientPacket;
pub(crate) use self::encode::{EncodedPayload, encode};
pub(crate) use self::payload::Payload;
