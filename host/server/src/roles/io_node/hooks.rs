//! What the program that embeds an io-node has to say: what is known of clients as they connect, and what comes of commands
//! that are meant for it. Each is called in the midst of things, so none may wait; one that panics costs what it was
//! called for.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tracing::error;

use super::attributes::{Field, Fields, MOST};
use super::handle::IoHandle;
use plugnode_message::json::without_lone_surrogates;
use plugnode_message::{Command, Event, Handshake, NodeId, Refusal, Text};

/// Told to a client whose attributes could not be made.
const UNDECIDED: &str = "the server could not decide";

type ClientInfo = dyn Fn(&Newcomer<'_>) -> Result<Map<String, Value>, Refusal> + Send + Sync;
type OnCustom = dyn Fn(&IoHandle, CustomCommand) + Send + Sync;
type OnEvent = dyn Fn(&IoHandle, &Event) + Send + Sync;
type OnCommand = dyn Fn(&IoHandle, &Command) + Send + Sync;

/// What an embedding program gives an io-node. By default nothing.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Gives each client its first attributes, over those that the configuration gives it, or refuses it.
    pub client_info: Option<Arc<ClientInfo>>,
    /// Takes the custom commands of handlers.
    pub on_custom: Option<Arc<OnCustom>>,
    /// Hears of each event before it goes to its app.
    pub on_event: Option<Arc<OnEvent>>,
    /// Hears of each command before it is applied.
    pub on_command: Option<Arc<OnCommand>>,
}

/// A client that wants to enter a namespace.
#[derive(Debug)]
pub struct Newcomer<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// How it connects. When it had to show a token, that was in order.
    pub handshake: &'a Handshake,
    /// What the configuration gives it as attributes: fields of the handshake, and claims of its token.
    pub attributes: &'a Map<String, Value>,
}

/// A handler's message to the program that embeds its io-nodes.
#[derive(Debug, Clone)]
pub struct CustomCommand {
    /// What it is.
    pub kind: Text,
    /// Its content.
    pub data: Bytes,
    /// The io-node it was for; none when it was for all.
    pub io_node: Option<NodeId>,
}

impl Newcomer<'_> {
    /// A parameter of the query; of several the first.
    pub fn query(&self, name: &str) -> Option<String> {
        match Fields::of(self.handshake).find(&Field::Query(name.to_owned())) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// A header, by its name in lower case; of several the first.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.handshake.headers.iter();
        headers.find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// What it gave as `auth`; none when it gave nothing, or something else than a `T`.
    pub fn auth<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(&without_lone_surrogates(self.handshake.auth.as_deref()?)).ok()
    }
}

impl CustomCommand {
    /// The content, when it is JSON of this type.
    pub fn json<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.data).ok()
    }
}

impl Hooks {
    /// The first attributes of a client to whom the configuration gives these.
    pub(super) fn first_attributes(
        &self,
        namespace: &str,
        handshake: &Handshake,
        configured: Text,
    ) -> Result<Text, Refusal> {
        let Some(client_info) = &self.client_info else {
            return Ok(configured);
        };
        let mut attributes: Map<String, Value> = serde_json::from_str(&configured).unwrap_or_default();
        let newcomer = Newcomer {
            namespace,
            handshake,
            attributes: &attributes,
        };
        let given = guarded("client_info", || client_info(&newcomer)).unwrap_or_else(|| Err(undecided()))?;
        attributes.extend(given);
        let attributes = Value::Object(attributes).to_string();
        if attributes.len() > MOST {
            error!(
                namespace,
                "client_info gives attributes of {} bytes, over the limit of {MOST}",
                attributes.len()
            );
            return Err(undecided());
        }
        Ok(attributes.into())
    }

    /// Gives a custom command to whoever takes it, and says whether somebody does.
    pub(super) fn custom(&self, handle: &IoHandle, command: CustomCommand) -> bool {
        let Some(on_custom) = &self.on_custom else {
            return false;
        };
        guarded("on_custom", || on_custom(handle, command));
        true
    }

    pub(super) fn event(&self, handle: &IoHandle, event: &Event) {
        if let Some(on_event) = &self.on_event {
            guarded("on_event", || on_event(handle, event));
        }
    }

    pub(super) fn command(&self, handle: &IoHandle, command: &Command) {
        if let Some(on_command) = &self.on_command {
            guarded("on_command", || on_command(handle, command));
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("client_info", &self.client_info.is_some())
            .field("on_custom", &self.on_custom.is_some())
            .field("on_event", &self.on_event.is_some())
            .field("on_command", &self.on_command.is_some())
            .finish()
    }
}

/// What a client is told when it is not known what to make of it.
pub fn undecided() -> Refusal {
    Refusal {
        message: Text::from_static(UNDECIDED),
        data: None,
    }
}

/// Runs code that is not ours. None when it panics.
fn guarded<T>(hook: &'static str, run: impl FnOnce() -> T) -> Option<T> {
    let ran = catch_unwind(AssertUnwindSafe(run));
    ran.inspect_err(|_| error!(hook, "the program's hook panicked")).ok()
}
