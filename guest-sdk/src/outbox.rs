//! What every command has in common: how it can be refused, and the commands that concern no audience.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::outbox as wire;
use crate::payload::{Args, ArgsError};

/// Why a command was not taken. The handler may go on: the commands before it stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandError {
    /// The app's configuration does not grant this, or there is no event that it could belong to.
    Denied(String),
    /// This event has used up its commands or bytes.
    QuotaExceeded,
    /// This one payload is larger than the host allows.
    PayloadTooLarge,
    /// What was asked for makes no sense, such as an event name that Socket.IO keeps for itself.
    Invalid(String),
    /// Anything else, in words.
    Other(String),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(reason) => write!(f, "denied: {reason}"),
            Self::QuotaExceeded => {
                f.write_str("this event has used up its commands or bytes; the app's `limits` set how many it has")
            }
            Self::PayloadTooLarge => f.write_str("the payload is larger than the app's `limits` allow"),
            Self::Invalid(reason) => write!(f, "invalid command: {reason}"),
            Self::Other(reason) => write!(f, "command not taken: {reason}"),
        }
    }
}

impl std::error::Error for CommandError {}

impl From<ArgsError> for CommandError {
    fn from(error: ArgsError) -> Self {
        Self::Invalid(error.0)
    }
}

impl From<wire::Error> for CommandError {
    fn from(error: wire::Error) -> Self {
        match error {
            wire::Error::Denied(reason) => Self::Denied(reason),
            wire::Error::QuotaExceeded => Self::QuotaExceeded,
            wire::Error::PayloadTooLarge => Self::PayloadTooLarge,
            wire::Error::Invalid(reason) => Self::Invalid(reason),
            wire::Error::Other(reason) => Self::Other(reason),
        }
    }
}

/// Names one acknowledgement that one client waits for. It can be kept, in a bucket for instance, and answered while
/// handling a later event, by any instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AckId(pub(crate) String);

impl AckId {
    /// Answers the acknowledgement. Only the first answer reaches the client.
    pub fn answer(&self, args: impl Args) -> Result<(), CommandError> {
        let args = args.to_payload()?;
        Ok(wire::ack(&self.0, &args)?)
    }
}

/// Looks for the channels that have clients, of the namespace of the client whose event is being handled, on all io-nodes.
/// How many there are, and how many clients `most` of them have, comes as one reply to
/// [`Handler::on_reply`](crate::Handler::on_reply) with `token`, when all io-nodes have answered or after `timeout`, of
/// which more than a minute counts as a minute: [`Reply::channels`](crate::Reply::channels) reads it. At most 10,000 are
/// named.
pub fn list_channels(most: u32, timeout: Duration, token: impl AsRef<[u8]>) -> Result<(), CommandError> {
    Ok(wire::list_channels(None, most, millis(timeout), token.as_ref())?)
}

/// The same of another namespace.
pub fn list_channels_of(
    namespace: &str,
    most: u32,
    timeout: Duration,
    token: impl AsRef<[u8]>,
) -> Result<(), CommandError> {
    Ok(wire::list_channels(
        Some(namespace),
        most,
        millis(timeout),
        token.as_ref(),
    )?)
}

/// Asks to be told when all commands before this one, of this event and of the client's events before it, have been carried
/// out on every io-node. That comes as one reply to [`Handler::on_reply`](crate::Handler::on_reply) with `token`, within
/// `timeout` as with [`list_channels`]: [`Reply::settled`](crate::Reply::settled) reads it.
///
/// To answer an acknowledgement only then, its id can be the token:
///
/// ```
/// use std::time::Duration;
///
/// use plugnode_sdk::prelude::*;
/// use plugnode_sdk::{AckId, all, settle};
///
/// #[derive(Default)]
/// struct Gate;
///
/// impl Handler for Gate {
///     fn on_message(&mut self, _: &Client, message: &Incoming) -> Result {
///         all().join("everybody")?;
///         settle(Duration::from_secs(1), serde_json::to_vec(&message.ack_id())?)?;
///         Ok(())
///     }
///
///     fn on_reply(&mut self, _: &Client, reply: &Reply) -> Result {
///         let ack: Option<AckId> = serde_json::from_slice(&reply.token)?;
///         if let Some(ack) = ack {
///             ack.answer(reply.settled()?.silent.is_empty())?;
///         }
///         Ok(())
///     }
/// }
/// ```
pub fn settle(timeout: Duration, token: impl AsRef<[u8]>) -> Result<(), CommandError> {
    Ok(wire::settle(millis(timeout), token.as_ref())?)
}

/// A time as it travels.
pub(crate) fn millis(timeout: Duration) -> u32 {
    timeout.as_millis().try_into().unwrap_or(u32::MAX)
}

/// Sends a message to the Rust code that embeds one io-node, or all of them. `kind` says what it is, with a version at
/// the end, such as `acme.price-change/1`.
pub fn send_custom(io_node: Option<&str>, kind: &str, data: &[u8]) -> Result<(), CommandError> {
    Ok(wire::custom(io_node, kind, data)?)
}
