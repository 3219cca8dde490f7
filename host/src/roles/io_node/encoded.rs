//! A packet of Socket.IO as it goes out: encoded once, for any number of clients.
//!
//! Nearly all clients have websockets, so a text is kept as the frame of the message that it will be.

use bytes::Bytes;
use socketioxide_core::{Str, Value};

use super::codec::Revision;
use super::websocket::frame;

/// What makes a text a message of Engine.IO,
const MESSAGE: &str = "4";
/// and binary data by websocket, in version 3 of it.
pub(super) const MESSAGE_V3: &[u8] = &[4];
/// What stands before a packet: room for the head of a frame, and that it is a message.
const HEAD: &str = "\0\0\0\0\0\0\0\0\0\x004";
const _: () = assert!(HEAD.len() == frame::ROOM + MESSAGE.len());

/// A packet. Clones share what it is made of.
#[derive(Debug, Clone)]
pub(super) struct Encoded {
    /// As a frame. Some encodings have none.
    text: Option<Bytes>,
    /// What follows the text, or is all.
    pub(super) attachments: Vec<Bytes>,
}

impl Encoded {
    /// One that is all text, which is written behind what has to stand before it.
    pub(super) fn plain(write: impl FnOnce(&str) -> String) -> Self {
        Self {
            text: Some(frame::text_behind_room(write(HEAD))),
            attachments: Vec::new(),
        }
    }

    /// Its text, if it has one.
    pub(super) fn text(&self) -> Option<Str> {
        let frame = self.text.as_ref()?;
        let text = std::str::from_utf8(&frame[frame::head_of(frame)..]).expect("it was made of a text");
        Some(Str::copy_from_slice(text.strip_prefix(MESSAGE).unwrap_or(text)))
    }

    /// Adds it to what is to be written to a websocket, in whole frames and parts of frames that follow each other.
    pub(super) fn add_to(self, frames: &mut Vec<Bytes>, revision: Revision) {
        frames.extend(self.text);
        for data in self.attachments {
            add_binary(frames, data, revision);
        }
    }

    /// How many bytes it is at least, in whatever way it is sent.
    pub(super) fn weight(&self) -> usize {
        let text = self
            .text
            .as_ref()
            .map_or(0, |frame| frame.len() - frame::head_of(frame));
        text + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }
}

/// Adds binary data to what is to be written to a websocket.
pub(super) fn add_binary(frames: &mut Vec<Bytes>, data: Bytes, revision: Revision) {
    let before = match revision {
        Revision::V5 => &[],
        Revision::V4 => MESSAGE_V3,
    };
    frames.extend([frame::binary_before(before, data.len()), data]);
}

impl From<Value> for Encoded {
    fn from(packet: Value) -> Self {
        match packet {
            Value::Str(text, attachments) => Self {
                text: Some(frame::text(&[MESSAGE, &text].concat())),
                attachments: attachments.unwrap_or_default().into(),
            },
            Value::Bytes(data) => Self {
                text: None,
                attachments: vec![data],
            },
        }
    }
}
