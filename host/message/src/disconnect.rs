//! The end of a client's connection to a namespace.

use serde::{Deserialize, Serialize};

use crate::{Channel, Text};

/// Why a client disconnected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DisconnectReason {
    /// The client left the namespace.
    Client,
    /// A handler or the server disconnected the client.
    Server,
    /// The connection was closed.
    TransportClose,
    /// The connection failed.
    TransportError,
    /// A ping was not answered in time.
    PingTimeout,
    /// The client sent a packet that is not Socket.IO.
    ParseError,
    /// The io-node shuts down.
    ServerShutdown,
    /// The io-node that held the connection died.
    NodeLost,
    /// Another reason, as text.
    Other(String),
}

/// Maximum size of all channel names in a [`Departure`], in bytes.
const MAX_CHANNELS: usize = 64 << 10;

/// The end of a client's connection to a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departure {
    /// Why the client disconnected.
    pub reason: DisconnectReason,
    /// The channels that the client was in, as a JSON array of their names. None when its io-node died, or when the names exceed
    /// 64 KB.
    pub channels: Option<Text>,
}

impl Departure {
    /// The departure of a client that was in these channels.
    pub fn from_channels(reason: DisconnectReason, channels: &[Channel]) -> Self {
        let bytes: usize = channels.iter().map(|channel| channel.as_str().len()).sum();
        let channels = (bytes <= MAX_CHANNELS)
            .then(|| serde_json::to_string(channels).ok())
            .flatten();
        Self {
            reason,
            channels: channels.map(Text::from),
        }
    }
}

impl From<DisconnectReason> for Departure {
    fn from(reason: DisconnectReason) -> Self {
        Self { reason, channels: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_channels_are_left_out() {
        let departure = Departure::from_channels(DisconnectReason::Client, &["a".into(), "b".into()]);
        assert_eq!(departure.channels.as_deref(), Some(r#"["a","b"]"#));
        let departure = Departure::from_channels(DisconnectReason::Client, &["a".repeat(64 << 10).into(), "b".into()]);
        assert_eq!(departure, DisconnectReason::Client.into());
    }
}
