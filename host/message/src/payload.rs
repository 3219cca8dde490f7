//! Arguments of an event or an acknowledgement, as they travel: JSON text and attachments, never parsed on the way.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::Text;

/// Maximum number of attachments of a packet. Socket.IO's own clients close their connection on more; those with the MessagePack
/// parser take any number.
pub const MAX_ATTACHMENTS: usize = 10;

/// The arguments of a Socket.IO event or acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// A JSON array. Attachment N stands in it as `{"_placeholder":true,"num":N}`.
    pub json: Text,
    /// The attachments, by number.
    pub attachments: Vec<Bytes>,
}

impl Payload {
    /// Size in bytes, as limits count it.
    pub fn size(&self) -> usize {
        self.json.len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }
}
