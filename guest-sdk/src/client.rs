//! The client whose event is being handled.

use std::cell::RefCell;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::audience::{self, Audience};
use crate::bindings::plugnode::app::types;
use crate::command_error::CommandError;
use crate::host::outbox;
use crate::payload::{Args, ArgsError};

/// The client whose event is being handled: what Socket.IO's server calls `socket`.
#[derive(Debug, Clone)]
pub struct Client {
    id: String,
    io_node: String,
    namespace: String,
    attributes: RefCell<String>,
}

impl Client {
    /// Its session id, which the client sees as `socket.id`. Never reused.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The io-node that holds its connection.
    pub fn io_node(&self) -> &str {
        &self.io_node
    }

    /// The namespace it is connected to, such as `/` or `/chat`.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Parses its attributes: a JSON object that comes with each of its events, to any instance. `{}` until attributes are
    /// set.
    pub fn attributes<T: DeserializeOwned>(&self) -> Result<T, ArgsError> {
        serde_json::from_str(&self.attributes.borrow()).map_err(|error| {
            ArgsError(format!(
                "the attributes of client {} do not have the expected type: {error}",
                self.id
            ))
        })
    }

    /// Replaces its attributes. They become visible as described at [`patch_attributes`](Self::patch_attributes).
    pub fn set_attributes(&self, attributes: &impl Serialize) -> Result<(), CommandError> {
        let mut patch = object(attributes)?;
        for (name, _) in self.attributes::<Map<String, Value>>()? {
            patch.entry(name).or_insert(Value::Null);
        }
        self.send_patch(patch)
    }

    /// Changes its attributes by a JSON merge patch (RFC 7396): fields with the value `null` are removed, other fields are set,
    /// the rest stays.
    ///
    /// This `Client` shows the change at once. If the current event is the client's own, its next event carries the change.
    /// Otherwise, events that its io-node accepts after the commit carry it.
    pub fn patch_attributes(&self, patch: &impl Serialize) -> Result<(), CommandError> {
        self.send_patch(object(patch)?)
    }

    /// Emits an event to this client.
    pub fn emit(&self, event: &str, args: impl Args) -> Result<(), CommandError> {
        self.audience().emit(event, args)
    }

    /// Emits an event to all other clients of the namespace.
    pub fn broadcast(&self, event: &str, args: impl Args) -> Result<(), CommandError> {
        self.others().emit(event, args)
    }

    /// Emits an event to this client and asks it for an acknowledgement. The answer, or its absence after `timeout`, is passed
    /// to [`Handler::on_reply`](crate::Handler::on_reply) with `token`.
    pub fn request(
        &self,
        event: &str,
        args: impl Args,
        timeout: Duration,
        token: impl AsRef<[u8]>,
    ) -> Result<(), CommandError> {
        self.audience().request(event, args, timeout, token)
    }

    /// All other clients of the namespace.
    pub fn others(&self) -> Audience {
        audience::all().except_client(&self.id)
    }

    /// The clients of a channel, without this one. [`plugnode_sdk::to`](crate::to) includes it.
    pub fn to(&self, channel: impl Into<String>) -> Audience {
        self.others().to(channel)
    }

    /// Subscribes this client to a channel.
    pub fn join(&self, channel: impl Into<String>) -> Result<(), CommandError> {
        self.audience().join(channel)
    }

    /// Unsubscribes this client from a channel.
    pub fn leave(&self, channel: impl Into<String>) -> Result<(), CommandError> {
        self.audience().leave(channel)
    }

    /// Refuses this client while its connection is being handled. The client receives `connect_error` with this message. It was
    /// never connected, and no disconnect event follows. The last call wins. All other commands of the event are dropped;
    /// its writes to buckets are kept.
    ///
    /// Requires `admission = true` in the app's configuration: clients then wait until their connection has been handled. The
    /// host also refuses a client whose connection event becomes a dead letter or takes too long.
    ///
    /// ```
    /// # use plugnode_sdk::prelude::*;
    /// # #[derive(Default)] struct Club;
    /// # impl Handler for Club {
    /// fn on_connection(&mut self, client: &Client, handshake: &Handshake) -> Result {
    ///     match handshake.auth::<String>() {
    ///         Some(password) if password == "swordfish" => client.join("members")?,
    ///         _ => client.refuse("members only")?,
    ///     }
    ///     Ok(())
    /// }
    /// # }
    /// ```
    pub fn refuse(&self, message: &str) -> Result<(), CommandError> {
        Ok(outbox::refuse(message, None)?)
    }

    /// Like [`refuse`](Self::refuse), with this `data` in the error.
    pub fn refuse_with(&self, message: &str, data: &impl Serialize) -> Result<(), CommandError> {
        let data = serde_json::to_string(data)
            .map_err(|error| CommandError::Invalid(format!("the data cannot be written as JSON: {error}")))?;
        Ok(outbox::refuse(message, Some(&data))?)
    }

    /// Disconnects this client from the namespace. A JavaScript client does not reconnect automatically.
    pub fn disconnect(&self) -> Result<(), CommandError> {
        self.audience().disconnect()
    }

    /// Closes this client's whole connection. A JavaScript client reconnects automatically.
    pub fn close(&self) -> Result<(), CommandError> {
        self.audience().close()
    }

    fn audience(&self) -> Audience {
        audience::client(&self.id)
    }

    fn send_patch(&self, patch: Map<String, Value>) -> Result<(), CommandError> {
        let mut attributes = self.attributes::<Value>()?;
        let patch = Value::Object(patch);
        outbox::patch_attributes(&self.id, &patch.to_string())?;
        merge(&mut attributes, patch);
        self.attributes.replace(attributes.to_string());
        Ok(())
    }
}

impl From<types::Client> for Client {
    fn from(client: types::Client) -> Self {
        let types::Client {
            id,
            io_node,
            namespace,
            attributes,
        } = client;
        Self {
            id,
            io_node,
            namespace,
            attributes: RefCell::new(attributes),
        }
    }
}

fn object(value: &impl Serialize) -> Result<Map<String, Value>, CommandError> {
    match serde_json::to_value(value) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(CommandError::Invalid("attributes must be a JSON object".into())),
        Err(error) => Err(CommandError::Invalid(format!(
            "attributes cannot be written as JSON: {error}"
        ))),
    }
}

/// Applies a JSON merge patch (RFC 7396).
pub(crate) fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let fields = target.as_object_mut().expect("replaced by an object above");
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(&name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn merges_per_rfc_7396() {
        for (mut target, patch, merged) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"a": [1]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            merge(&mut target, patch);
            assert_eq!(target, merged);
        }
    }
}
