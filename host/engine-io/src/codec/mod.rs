//! Packets as clients write them, and payloads: several packets as the body of a request or an answer.
//!
//! <https://socket.io/docs/v4/engine-io-protocol/>

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub(crate) use self::decode::{Incoming, Payload};
pub(crate) use self::encode::{Encoded, encode};

/// What is between two packets of a payload of protocol 4.
const SEPARATOR: char = '\x1e';
/// What ends the length in front of a binary packet of protocol 3.
const LENGTH_END: u8 = 255;

/// How long a text is for JavaScript: in units of UTF-16.
fn utf16_length(text: &[u8]) -> usize {
    // One for each character, and one more for each that takes four bytes.
    text.iter().filter(|byte| **byte & 0xc0 != 0x80).count() + text.iter().filter(|byte| **byte >= 0xf0).count()
}
