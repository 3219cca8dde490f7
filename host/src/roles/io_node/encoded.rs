//! A packet of Socket.IO as it goes out: encoded once, for any number of clients.

use std::iter;

use engine_io::Packet;
use socketioxide_core::Value;

/// A packet. Clones share its bytes.
#[derive(Debug, Clone)]
pub(super) struct Encoded {
    first: Packet,
    /// What follows a text that has attachments.
    attachments: Vec<Packet>,
}

impl Encoded {
    /// One that is all text, which is written behind what has to stand before it.
    pub(super) fn plain(write: impl FnOnce(&str) -> String) -> Self {
        Self {
            first: Packet::write_text(write),
            attachments: Vec::new(),
        }
    }

    /// The packets of Engine.IO that it is sent as.
    pub(super) fn into_packets(self) -> impl Iterator<Item = Packet> {
        iter::once(self.first).chain(self.attachments)
    }
}

impl From<Value> for Encoded {
    fn from(packet: Value) -> Self {
        match packet {
            Value::Str(text, attachments) => Self {
                first: Packet::text(&text),
                attachments: attachments
                    .unwrap_or_default()
                    .into_iter()
                    .map(Packet::binary)
                    .collect(),
            },
            Value::Bytes(data) => Self {
                first: Packet::binary(data),
                attachments: Vec::new(),
            },
        }
    }
}
