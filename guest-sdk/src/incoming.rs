//! Input from clients: handshakes, messages, replies.

use serde::de::DeserializeOwned;

use crate::bindings::plugnode::app::types;
pub use crate::bindings::plugnode::app::types::{Custom, DisconnectReason, Handshake};
use crate::command::AckId;
use crate::command_error::CommandError;
use crate::context::{ACK_ID, context};
use crate::payload::{Args, ArgsError, Payload};
use crate::surrogates::replace_lone_surrogates;

impl Custom {
    /// The acknowledgement that a caller of the host's server API may be waiting for; none for other events. It can be stored,
    /// and answered while handling a later event. Call this while the event is handled.
    pub fn ack_id(&self) -> Option<AckId> {
        let context = context();
        let (_, id) = context.extra.iter().find(|(name, _)| name == ACK_ID)?;
        Some(AckId(id.clone()))
    }

    /// Acknowledges an event that came through the server API: the caller gets these arguments. Does nothing for other events.
    ///
    /// ```
    /// # use plugnode_sdk::prelude::*;
    /// # struct Shop;
    /// # impl Shop {
    /// fn on_custom(&mut self, custom: &Custom) -> Result {
    ///     if custom.kind == "acme.price-change/1" {
    ///         plugnode_sdk::all().emit("price", serde_json::from_slice::<serde_json::Value>(&custom.data)?)?;
    ///         custom.ack("published")?;
    ///     }
    ///     Ok(())
    /// }
    /// # }
    /// ```
    pub fn ack(&self, args: impl Args) -> Result<(), CommandError> {
        match self.ack_id() {
            Some(ack) => ack.answer(args),
            None => Ok(()),
        }
    }
}

/// An event that a client emitted.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The name of the event.
    pub event: String,
    /// The arguments, not yet parsed, so that forwarding them unchanged costs nothing.
    pub payload: Payload,
    ack: Option<AckId>,
}

impl Incoming {
    /// Parses all arguments: into a tuple with a type for each, or into a `Vec` if they all have one type.
    pub fn args<T: DeserializeOwned>(&self) -> Result<T, ArgsError> {
        self.payload.args().map_err(|error| self.with_event_name(error))
    }

    /// Parses one argument, counted from 0. A missing argument counts as `null`, so it can be read as an `Option`.
    pub fn arg<T: DeserializeOwned>(&self, index: usize) -> Result<T, ArgsError> {
        self.payload.arg(index).map_err(|error| self.with_event_name(error))
    }

    /// Answers the acknowledgement that the client waits for. Does nothing if it waits for none.
    pub fn ack(&self, args: impl Args) -> Result<(), CommandError> {
        match &self.ack {
            Some(ack) => ack.answer(args),
            None => Ok(()),
        }
    }

    /// The acknowledgement that the client waits for, if any. Store it to answer while handling a later event.
    pub fn ack_id(&self) -> Option<&AckId> {
        self.ack.as_ref()
    }

    fn with_event_name(&self, error: ArgsError) -> ArgsError {
        ArgsError(format!("event `{}`: {error}", self.event))
    }
}

impl From<types::Message> for Incoming {
    fn from(message: types::Message) -> Self {
        Self {
            event: message.event,
            payload: message.args,
            ack: message.ack.map(AckId),
        }
    }
}

/// A client's answer to a request, or the result of a cluster query: see [`answers`](crate::answers).
#[derive(Debug, Clone)]
pub struct Reply {
    /// The token that was passed with the request.
    pub token: Vec<u8>,
    /// The client's answer; none if it did not answer in time.
    pub answer: Option<Payload>,
}

impl From<types::Reply> for Reply {
    fn from(reply: types::Reply) -> Self {
        Self {
            token: reply.token,
            answer: reply.answer,
        }
    }
}

impl Handshake {
    /// Parses the client's `auth` option. None if it sent none, or if the value is not a `T`.
    pub fn auth<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(&replace_lone_surrogates(self.auth.as_deref()?)).ok()
    }

    /// The first header with this name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }
}
