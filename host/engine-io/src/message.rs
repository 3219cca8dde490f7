//! A message from a client.

use bytes::Bytes;
use bytestring::ByteString;

/// A message from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(ByteString),
    /// Binary data.
    Binary(Bytes),
}
