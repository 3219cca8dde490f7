//! Functions of the program that embeds an io-node: they give clients their first attributes, take custom commands, and observe events and
//! commands.
//!
//! They are called in the tasks that handle events and commands, so they must not block. A hook that panics fails only the call that it
//! was made for.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tracing::error;

use super::attributes::Fields;
use super::field::Field;
use super::handle::IoHandle;
use plugnode_message::json::without_lone_surrogates;
use plugnode_message::{Command, Event, Handshake, MAX_ATTRIBUTES, NodeId, Refusal, Text};

/// The refusal of a client if its attributes could not be computed.
const UNDECIDED: &str = "the server could not decide";

type ClientInfo = dyn Fn(&ConnectingClient<'_>) -> Result<Map<String, Value>, Refusal> + Send + Sync;
type OnCustom = dyn Fn(&IoHandle, CustomCommand) + Send + Sync;
type OnEvent = dyn Fn(&IoHandle, &Event) + Send + Sync;
type OnCommand = dyn Fn(&IoHandle, &Command) + Send + Sync;

/// The hooks of an embedding program. By default there are none.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Returns first attributes of a client, which override those of the configuration, or refuses the client.
    pub client_info: Option<Arc<ClientInfo>>,
    /// Takes the custom commands of handlers.
    pub on_custom: Option<Arc<OnCustom>>,
    /// Observes each event before it is offered to the transport.
    pub on_event: Option<Arc<OnEvent>>,
    /// Observes each command before it is applied.
    pub on_command: Option<Arc<OnCommand>>,
}

/// A client that connects to a namespace.
#[derive(Debug)]
pub struct ConnectingClient<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// Its handshake. If a token is required, it was verified.
    pub handshake: &'a Handshake,
    /// The first attributes that the configuration gives it: fields of the handshake, and claims of its token.
    pub attributes: &'a Map<String, Value>,
}

/// A handler's message to the program that embeds its io-nodes.
#[derive(Debug, Clone)]
pub struct CustomCommand {
    /// Its kind.
    pub kind: Text,
    /// Its content.
    pub data: Bytes,
    /// The io-node that it is for. None if it is for all.
    pub io_node: Option<NodeId>,
}

impl ConnectingClient<'_> {
    /// A parameter of the query; the first of several.
    pub fn query(&self, name: &str) -> Option<String> {
        match Fields::of(self.handshake).find(&Field::Query(name.to_owned())) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// A header, by its name in lower case; the first of several.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.handshake.headers.iter();
        headers.find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Its `auth`. None if there is none, or it is not a `T`.
    pub fn auth<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(&without_lone_surrogates(self.handshake.auth.as_deref()?)).ok()
    }
}

impl CustomCommand {
    /// The content, if it is JSON of this type.
    pub fn json<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.data).ok()
    }
}

impl Hooks {
    /// The first attributes of a client, given those of the configuration.
    ///
    /// # Errors
    /// With the refusal of the client.
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
        let newcomer = ConnectingClient {
            namespace,
            handshake,
            attributes: &attributes,
        };
        let given = guarded("client_info", || client_info(&newcomer)).unwrap_or_else(|| Err(undecided()))?;
        attributes.extend(given);
        let attributes = Value::Object(attributes).to_string();
        if attributes.len() > MAX_ATTRIBUTES {
            error!(
                namespace,
                "client refused: client_info returned attributes of {} bytes, over the limit of {MAX_ATTRIBUTES}",
                attributes.len()
            );
            return Err(undecided());
        }
        Ok(attributes.into())
    }

    /// Calls the hook for custom commands. Returns whether there is one.
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

/// The refusal of a client if the server could not decide about it.
pub fn undecided() -> Refusal {
    Refusal {
        message: Text::from_static(UNDECIDED),
        data: None,
    }
}

/// Runs code of the embedding program. None if it panics; that is logged.
fn guarded<T>(hook: &'static str, run: impl FnOnce() -> T) -> Option<T> {
    let ran = catch_unwind(AssertUnwindSafe(run));
    ran.inspect_err(|_| error!(hook, "a hook of the embedding program panicked"))
        .ok()
}
