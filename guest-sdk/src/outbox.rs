//! Why a command is refused, and the commands that have no audience.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::outbox as wire;
use crate::payload::{Args, ArgsError};

/// Why a command was refused. The handler may continue; earlier commands remain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandError {
    /// The app's configuration does not grant this, or no event is being handled.
    Denied(String),
    /// This event has used up its limit of commands or bytes.
    QuotaExceeded,
    /// The payload exceeds the host's size limit.
    PayloadTooLarge,
    /// The command is invalid, for example because Socket.IO reserves the event name.
    Invalid(String),
    /// Any other reason.
    Other(String),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(reason) => write!(f, "denied: {reason}"),
            Self::QuotaExceeded => {
                f.write_str("this event has used up its limit of commands or bytes; raise it in the app's `limits`")
            }
            Self::PayloadTooLarge => f.write_str("the payload exceeds the size limit in the app's `limits`"),
            Self::Invalid(reason) => write!(f, "invalid command: {reason}"),
            Self::Other(reason) => write!(f, "command refused: {reason}"),
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

/// Identifies one acknowledgement that a client is waiting for. It can be stored, for example in a bucket, and answered while
/// handling a later event, from any instance.
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

/// Lists the channels that have clients on any io-node, in the namespace of the client whose event is being handled. One
/// reply has the number of channels, and the number of clients of up to `most` of them (capped at 10,000). It is passed to
/// [`Handler::on_reply`](crate::Handler::on_reply) with `token` when all io-nodes have answered or after `timeout`, at most one
/// minute. Parse it with [`Reply::channels`](crate::Reply::channels).
pub fn list_channels(most: u32, timeout: Duration, token: impl AsRef<[u8]>) -> Result<(), CommandError> {
    Ok(wire::list_channels(None, most, millis(timeout), token.as_ref())?)
}

/// Like [`list_channels`], for another namespace.
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

/// Reports when every io-node has carried out the commands before this one: those of this event and of the client's earlier
/// events. One reply is passed to [`Handler::on_reply`](crate::Handler::on_reply) with `token`; `timeout` works as in
/// [`list_channels`]. Parse it with [`Reply::settled`](crate::Reply::settled).
///
/// To answer an acknowledgement only after that, use its id as the token:
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

/// Whole milliseconds, capped at `u32::MAX`.
pub(crate) fn millis(timeout: Duration) -> u32 {
    timeout.as_millis().try_into().unwrap_or(u32::MAX)
}

/// Sends a message to the Rust program that embeds one io-node, or to all io-nodes when `io_node` is none. `kind` ends in a
/// version, such as `acme.price-change/1`.
pub fn send_custom(io_node: Option<&str>, kind: &str, data: &[u8]) -> Result<(), CommandError> {
    Ok(wire::custom(io_node, kind, data)?)
}
