//! What comes from clients: how they connected, what they emitted, what they answered.

use serde::de::DeserializeOwned;

use crate::bindings::plugnode::app::types;
pub use crate::bindings::plugnode::app::types::{Custom, DisconnectReason, Handshake};
use crate::outbox::{AckId, CommandError};
use crate::payload::{Args, ArgsError, Payload};
use crate::surrogates::without_lone;

/// What a client emitted.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The name of the event.
    pub event: String,
    /// The arguments, not yet parsed: what is passed on as it is costs nothing.
    pub payload: Payload,
    ack: Option<AckId>,
}

impl Incoming {
    /// All arguments: a tuple with a type for each, or a `Vec` where they are all of one type.
    pub fn args<T: DeserializeOwned>(&self) -> Result<T, ArgsError> {
        self.payload.args().map_err(|error| self.named(error))
    }

    /// One argument, counted from 0. One that is missing reads as `null`, and so can be an `Option`.
    pub fn arg<T: DeserializeOwned>(&self, index: usize) -> Result<T, ArgsError> {
        self.payload.arg(index).map_err(|error| self.named(error))
    }

    /// Answers the acknowledgement that the client waits for; does nothing when it waits for none.
    pub fn ack(&self, args: impl Args) -> Result<(), CommandError> {
        match &self.ack {
            Some(ack) => ack.answer(args),
            None => Ok(()),
        }
    }

    /// The acknowledgement that the client waits for, to be answered by a later event.
    pub fn ack_id(&self) -> Option<&AckId> {
        self.ack.as_ref()
    }

    fn named(&self, error: ArgsError) -> ArgsError {
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

/// The answer of a client to a request, or what came of asking all io-nodes: see [`answers`](crate::answers).
#[derive(Debug, Clone)]
pub struct Reply {
    /// What was given as token with the request.
    pub token: Vec<u8>,
    /// What the client answered; none when it did not answer in time or was gone.
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
    /// What the client gave as `auth`; none when it gave nothing, or something else than a `T`.
    pub fn auth<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(&without_lone(self.auth.as_deref()?)).ok()
    }

    /// The first header of that name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }
}
