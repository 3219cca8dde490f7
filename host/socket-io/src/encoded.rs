//! A packet that is sent: encoded once, for any number of recipients.

use engine_io::Packet;
use socketioxide_core::Value;

/// An encoded packet. Clones share its bytes.
#[derive(Debug, Clone)]
pub struct EncodedPacket {
    /// None if the packet is not sent, because clients could not read it.
    first: Option<Packet>,
    /// Sent behind a text, one message each.
    attachments: Vec<Packet>,
}

impl EncodedPacket {
    /// A text without attachments. `write` gets what the text has to begin with.
    pub(crate) fn plain(write: impl FnOnce(&str) -> String) -> Self {
        Self {
            first: Some(Packet::write_text(write)),
            attachments: Vec::new(),
        }
    }

    /// A packet that is not sent.
    pub(crate) fn nothing() -> Self {
        Self {
            first: None,
            attachments: Vec::new(),
        }
    }

    /// The messages of Engine.IO that it consists of.
    pub fn into_packets(self) -> impl Iterator<Item = Packet> {
        self.first.into_iter().chain(self.attachments)
    }
}

impl From<Value> for EncodedPacket {
    fn from(packet: Value) -> Self {
        match packet {
            Value::Str(text, attachments) => Self {
                first: Some(Packet::text(&text)),
                attachments: attachments
                    .unwrap_or_default()
                    .into_iter()
                    .map(Packet::binary)
                    .collect(),
            },
            Value::Bytes(data) => Self {
                first: Some(Packet::binary(data)),
                attachments: Vec::new(),
            },
        }
    }
}
