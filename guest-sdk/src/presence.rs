//! Who is in a channel, across all io-nodes, for the channels that the app's configuration names in `presence.channels`.
//!
//! It is kept, not asked for: a client is added when it has joined, and removed when it has left or disconnected, also when its io-node
//! dies. Reads see the last commit; what the current event subscribes is not in it yet. With `presence.events` the handler gets a
//! [`Change`] as a custom event of the kind [`KIND`].

use std::fmt;

use serde::Deserialize;

use crate::host::presence as host;

/// Kind of the custom event that tells of a change.
pub const KIND: &str = "plugnode.presence/1";

/// Why presence could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The app's configuration does not name the channel, or no event is being handled.
    Denied(String),
    /// The store did not answer.
    Other(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Denied(reason) | Self::Other(reason)) = self;
        f.write_str(reason)
    }
}

impl std::error::Error for Error {}

impl From<host::Error> for Error {
    fn from(error: host::Error) -> Self {
        match error {
            host::Error::Denied(reason) => Self::Denied(reason),
            host::Error::Other(reason) => Self::Other(reason),
        }
    }
}

/// A client in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its session id.
    pub client: String,
    /// When it joined, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Its attributes when it joined, a JSON object. None if they had more than 4096 bytes.
    pub attributes: Option<String>,
}

/// The content of the custom event [`KIND`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Change {
    /// The session id of the client.
    pub client: String,
    /// The channels with presence that it joined.
    pub joined: Vec<String>,
    /// Those that it left, all of them when it disconnected.
    pub left: Vec<String>,
}

/// Counts the clients in a channel of the event's namespace.
///
/// # Errors
/// If the configuration does not name the channel, or the store does not answer.
pub fn count(channel: &str) -> Result<u64, Error> {
    host::count(channel).map_err(Error::from)
}

/// The clients in a channel of the event's namespace, in no particular order. A channel of many clients takes several calls of the host.
///
/// # Errors
/// If the configuration does not name the channel, or the store does not answer.
pub fn members(channel: &str) -> Result<Vec<Member>, Error> {
    let (mut members, mut cursor): (Vec<Member>, _) = (Vec::new(), None);
    loop {
        let page = host::members(channel, cursor).map_err(Error::from)?;
        members.extend(page.members.into_iter().map(|member| Member {
            client: member.client,
            since_ms: member.since_ms,
            attributes: member.attributes,
        }));
        cursor = page.cursor;
        if cursor.is_none() {
            members.sort_unstable_by(|a, b| a.client.cmp(&b.client));
            members.dedup_by(|a, b| a.client == b.client);
            return Ok(members);
        }
    }
}
