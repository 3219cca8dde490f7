//! The rules for commands: what every host refuses, and in which words. An app-node and the test kit share them.
//!
//! A check returns the bytes that count against [`CommandLimits::bytes`].

use super::json;
use crate::bindings::plugnode::app::outbox::{Audience, Error, Scope, Selection};
use crate::bindings::plugnode::app::schedule::Owner;
use crate::payload::Payload;

/// Maximum length of the name of a namespace, a channel or an event, and of the key and kind of a timer, in bytes.
pub const MAX_NAME: usize = 1_024;
/// Event names that Socket.IO emits itself on the receiving side:
/// <https://socket.io/docs/v4/emit-cheatsheet/#reserved-events>.
pub const RESERVED_EVENTS: [&str; 6] = [
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
];
/// Prefix of the kinds that only the host uses.
pub const RESERVED_KINDS: &str = "plugnode.";
/// Maximum number of attachments that Socket.IO's own clients take.
const CLIENTS_ATTACHMENTS: usize = 10;
/// Size limit of a refusal's message, in bytes.
const MAX_REFUSAL_MESSAGE: usize = 1 << 10;
/// Size limit of a refusal's data, in bytes.
const MAX_REFUSAL_DATA: usize = 16 << 10;
/// Shortest period of a timer.
const MIN_PERIOD_MS: u64 = 50;

/// The limits of an app on the commands of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandLimits {
    /// Maximum number of commands and key-value writes.
    pub commands: usize,
    /// Maximum bytes of all commands and key-value writes.
    pub bytes: usize,
    /// Maximum bytes of one payload, token, patch or message.
    pub payload: usize,
    /// Maximum number of attachments of one payload.
    pub attachments: usize,
    /// Maximum bytes of one value in a key-value bucket.
    pub value: usize,
}

impl CommandLimits {
    /// Checks a value that is written to a key-value bucket.
    ///
    /// # Errors
    /// Why the value is refused.
    pub fn check_value(&self, value: &[u8]) -> Result<(), String> {
        let (size, max) = (value.len(), self.value);
        match size > max {
            true => Err(format!(
                "a value of {size} bytes is over the app's limit of {max}: store less under one key, or raise limits.value"
            )),
            false => Ok(()),
        }
    }
}

impl Default for CommandLimits {
    /// 10,000 commands of 16 MB together, payloads of 4 MB, 10 attachments, values of 1 MB.
    fn default() -> Self {
        Self {
            commands: 10_000,
            bytes: 16_000_000,
            payload: 4_000_000,
            attachments: CLIENTS_ATTACHMENTS,
            value: 1_000_000,
        }
    }
}

/// The call that a command comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// No event: a lifecycle or snapshot function.
    OutsideEvent,
    /// An event without a client.
    WithoutClient,
    /// The connection of a client.
    Connection,
    /// The disconnect of a client.
    Disconnect,
    /// Any other event of a client.
    OfClient,
}

/// The facts by which a host accepts or refuses a [`Command`](super::Command): see [`Command::check`](super::Command::check).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandRules {
    /// The current call.
    pub call: CallKind,
    /// Whether the app has `admission = true`.
    pub admission: bool,
    /// The app's limits.
    pub limits: CommandLimits,
}

type Checked = Result<usize, Error>;

impl CommandRules {
    pub(crate) fn check_in_event(&self) -> Result<(), Error> {
        match self.call {
            CallKind::OutsideEvent => Err(Error::Denied(
                "no event is being handled: call this while an event is handled".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// Checks that the event has a client, whose io-node delivers a local event.
    pub(crate) fn check_local(&self) -> Result<(), Error> {
        match self.has_client() {
            true => Ok(()),
            false => Err(Error::Invalid(
                "cannot deliver locally: this event has no client, and so no io-node; deliver to all io-nodes"
                    .to_owned(),
            )),
        }
    }

    /// Checks bytes of any content.
    pub(crate) fn check_bytes(&self, bytes: &[u8]) -> Checked {
        self.check_size(bytes.len())
    }

    pub(crate) fn check_payload(&self, payload: &Payload) -> Checked {
        let Payload { json, attachments } = payload;
        let (count, max) = (attachments.len(), self.limits.attachments);
        if count > max {
            return Err(Error::Invalid(format!(
                "{count} attachments are over the limit of {max}: Socket.IO's own clients close their connection over more than \
                 {CLIENTS_ATTACHMENTS}, so send several events, or join the binary values (only where all clients take more: \
                 raise `attachments` in the app's `limits`)"
            )));
        }
        let size = self.check_size(json.len() + attachments.iter().map(Vec::len).sum::<usize>())?;
        json::check_args(json, attachments).map_err(|reason| Error::Invalid(format!("args.json {reason}")))?;
        self.check_size(json::size_sent(json, attachments))?;
        Ok(size)
    }

    pub(crate) fn check_patch(&self, patch: &str) -> Checked {
        let size = self.check_size(patch.len())?;
        json::check_object(patch).map_err(|reason| Error::Invalid(format!("the patch {reason}")))?;
        Ok(size)
    }

    /// Checks the token of a cluster query, which needs a client to receive the reply.
    pub(crate) fn check_query(&self, token: &[u8]) -> Checked {
        if !self.has_client() {
            return Err(Error::Denied(
                "cannot query io-nodes: this event has no client to receive the reply".to_owned(),
            ));
        }
        self.check_bytes(token)
    }

    pub(crate) fn check_refusal(&self, message: &str, data: Option<&str>) -> Checked {
        if !self.admission {
            let reason = "this app admits every client: set admission = true in its [[app]] to refuse clients";
            return Err(Error::Denied(reason.to_owned()));
        }
        if self.call != CallKind::Connection {
            let reason = "a client can be refused only while its connection is handled: disconnect it instead";
            return Err(Error::Denied(reason.to_owned()));
        }
        let data_size = data.map_or(0, str::len);
        if message.len() > MAX_REFUSAL_MESSAGE || data_size > MAX_REFUSAL_DATA {
            return Err(Error::PayloadTooLarge);
        }
        if let Some(data) = data {
            json::check_value(data).map_err(|reason| Error::Invalid(format!("the data {reason}")))?;
        }
        Ok(message.len() + data_size)
    }

    /// Checks the owner and key of a timer.
    pub(crate) fn check_timer(&self, owner: Owner, key: &str) -> Checked {
        if key.is_empty() || key.len() > MAX_NAME {
            return Err(Error::Invalid(format!("invalid key: use 1 to {MAX_NAME} bytes")));
        }
        match (owner, self.call) {
            (Owner::Client, CallKind::WithoutClient) => Err(Error::Denied(
                "this event has no client to own the timer: make the app its owner".to_owned(),
            )),
            (Owner::Client, CallKind::Disconnect) => Err(Error::Denied(
                "the client has disconnected, which ends its timers: make the app the timer's owner".to_owned(),
            )),
            _ => Ok(key.len()),
        }
    }

    /// Checks the kind and data of a timer's event.
    pub(crate) fn check_timer_event(&self, kind: &str, data: &[u8]) -> Checked {
        if kind.is_empty() || kind.len() > MAX_NAME || kind.starts_with(RESERVED_KINDS) {
            return Err(Error::Invalid(format!(
                "invalid kind {kind:?}: use 1 to {MAX_NAME} bytes that do not begin with `{RESERVED_KINDS}`"
            )));
        }
        let (size, max) = (data.len(), self.limits.payload);
        if size > max {
            return Err(Error::Invalid(format!(
                "data of {size} bytes is over the app's limit of {max}: use less, or raise limits.payload"
            )));
        }
        Ok(kind.len() + size)
    }

    fn check_size(&self, size: usize) -> Checked {
        match size > self.limits.payload {
            true => Err(Error::PayloadTooLarge),
            false => Ok(size),
        }
    }

    fn has_client(&self) -> bool {
        !matches!(self.call, CallKind::OutsideEvent | CallKind::WithoutClient)
    }
}

/// Checks the name of an event that is emitted.
pub(crate) fn check_event_name(event: &str) -> Checked {
    if RESERVED_EVENTS.contains(&event) {
        return Err(Error::Invalid(format!(
            "the event name {event:?} is reserved by Socket.IO: choose another"
        )));
    }
    check_name("event", event)
}

/// Checks an audience. Names that select clients may have any length: a name that no client has selects none.
pub(crate) fn check_audience(audience: &Audience) -> Checked {
    check_namespace(audience.namespace.as_deref())?;
    let to = match &audience.to {
        Scope::All => 0,
        Scope::Only(selection) => size_of_selection(selection),
    };
    Ok(to + size_of_selection(&audience.except))
}

/// Checks a namespace; none means that of the event.
pub(crate) fn check_namespace(namespace: Option<&str>) -> Checked {
    match namespace {
        None => Ok(0),
        Some(name) if name.starts_with('/') => check_name("namespace", name),
        Some(name) => Err(Error::Invalid(format!(
            "the namespace {name:?} does not begin with a slash; write \"/{name}\""
        ))),
    }
}

/// Checks channels that clients are subscribed to.
pub(crate) fn check_new_channels(channels: &[String]) -> Checked {
    channels.iter().map(|channel| check_name("channel", channel)).sum()
}

/// Checks that an acknowledgement id has the form of one that a host creates: `<number>.<client>.<namespace>`.
pub(crate) fn check_ack_id(id: &str) -> Result<(), Error> {
    let mut parts = id.splitn(3, '.');
    let is_number = parts.next().is_some_and(|number| number.parse::<i64>().is_ok());
    match is_number && parts.count() == 2 {
        true => Ok(()),
        false => Err(Error::Invalid(format!("{id:?} is not an ack-id of this host"))),
    }
}

/// Checks the kind of a custom command.
pub(crate) fn check_custom_kind(kind: &str) -> Checked {
    match kind.starts_with(RESERVED_KINDS) {
        true => Err(Error::Invalid(format!(
            "invalid kind {kind:?}: the prefix `{RESERVED_KINDS}` is reserved for the host"
        ))),
        false => Ok(kind.len()),
    }
}

/// Checks the period of a timer.
pub(crate) fn check_period(period_ms: u64) -> Result<(), Error> {
    match period_ms < MIN_PERIOD_MS {
        true => Err(Error::Invalid(format!(
            "a period of {period_ms} ms is too short: use at least {MIN_PERIOD_MS} ms"
        ))),
        false => Ok(()),
    }
}

pub(crate) fn size_of(names: &[String]) -> usize {
    names.iter().map(String::len).sum()
}

fn size_of_selection(selection: &Selection) -> usize {
    size_of(&selection.clients) + size_of(&selection.channels)
}

fn check_name(what: &str, name: &str) -> Checked {
    match name.len() {
        size if size > MAX_NAME => Err(Error::Invalid(format!(
            "the name of the {what} has {size} bytes; a name may have {MAX_NAME}"
        ))),
        size => Ok(size),
    }
}
