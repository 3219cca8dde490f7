//! Why a packet of a client is refused, and the limits that only this check needs.

use plugnode_message::{MAX_ATTACHMENTS, MAX_NAME};

/// Levels of nesting that a payload may have. Browsers and Node.js parse more; a handler that parses values may stop earlier.
pub(crate) const MAX_DEPTH: usize = 1_024;

/// Why a packet of a client is invalid. It closes the connection.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The payload of an event or acknowledgement is not a JSON array.
    #[error("the payload is not a JSON array")]
    NotAnArray,
    /// The first item of an event is neither a string nor a number.
    #[error("the payload does not begin with an event name")]
    NoName,
    /// Socket.IO emits events of this name by itself.
    #[error("the event name {0:?} is reserved by Socket.IO")]
    Reserved(String),
    /// The event name has more bytes than [`MAX_NAME`].
    #[error("the event name has {0} bytes, over the limit of {MAX_NAME}")]
    LongName(usize),
    /// A placeholder has no number, or a number without an attachment.
    #[error("a placeholder refers to an attachment that does not exist")]
    NoAttachment,
    /// There are more attachments than [`MAX_ATTACHMENTS`].
    #[error("the packet has {0} attachments, over the limit of {MAX_ATTACHMENTS} of Socket.IO's own clients")]
    TooManyAttachments(usize),
    /// `auth` is neither an object nor null.
    #[error("`auth` is not a JSON object")]
    Auth,
    /// The payload is nested too deeply.
    #[error("the payload is nested deeper than {MAX_DEPTH} levels")]
    Deep,
    /// It does not follow the protocol.
    #[error("invalid packet: {0}")]
    Packet(String),
}

impl Malformed {
    pub(crate) fn connect_error() -> Self {
        Self::Packet("only servers send CONNECT_ERROR".into())
    }
}
