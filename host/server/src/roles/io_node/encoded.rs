//! A packet of Socket.IO as it goes out: encoded once, for any number of clients.

use engine_io::Packet;
use socketioxide_core::Value;

/// A packet. Clones share its bytes.
#[derive(Debug, Clone)]
pub(super) struct Encoded {
    /// None when there is nothing that clients could take.
    first: Option<Packet>,
    /// What follows a text that has attachments.
    attachments: Vec<Packet>,
}

impl Encoded {
    /// One that is all text, which is written behind what has to stand before it.
    pub(super) fn plain(write: impl FnOnce(&str) -> String) -> Self {
        Self {
            first: Some(Packet::write_text(write)),
            attachments: Vec::new(),
        }
    }

    /// None at all.
    pub(super) fn nothing() -> Self {
        Self {
            first: None,
            attachments: Vec::new(),
        }
    }

    /// The packets of Engine.IO that it is sent as.
    pub(super) fn into_packets(self) -> impl Iterator<Item = Packet> {
        self.first.into_iter().chain(self.attachments)
    }
}

impl From<Value> for Encoded {
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
