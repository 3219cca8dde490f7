//! The client whose event is being handled.

use std::cell::RefCell;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::audience::{self, Audience};
use crate::bindings::plugnode::app::types;
use crate::host::outbox;
use crate::outbox::CommandError;
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
    /// Its session id, which is `socket.id` on its own side too. Never used again.
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

    /// Its attributes: a JSON object that comes with each of its events, to whatever instance. Empty until something
    /// was set.
    pub fn attributes<T: DeserializeOwned>(&self) -> Result<T, ArgsError> {
        serde_json::from_str(&self.attributes.borrow()).map_err(|error| {
            ArgsError(format!(
                "the attributes of client {} are not those expected: {error}",
                self.id
            ))
        })
    }

    /// Replaces its attributes. See [`patch_attributes`](Self::patch_attributes) for when this is seen.
    pub fn set_attributes(&self, attributes: &impl Serialize) -> Result<(), CommandError> {
        let mut patch = object(attributes)?;
        for (name, _) in self.attributes::<Map<String, Value>>()? {
            patch.entry(name).or_insert(Value::Null);
        }
        self.send_patch(patch)
    }

    /// Changes its attributes by a JSON merge patch: fields that are `null` are removed, others set, the rest stays.
    ///
    /// Seen at once through this `Client`, and with its next event, when this event is its own. Else, with the events that its
    /// io-node takes in once this one is committed.
    pub fn patch_attributes(&self, patch: &impl Serialize) -> Result<(), CommandError> {
        self.send_patch(object(patch)?)
    }

    /// Emits an event to this client.
    pub fn emit(&self, event: &str, args: impl Args) -> Result<(), CommandError> {
        self.this().emit(event, args)
    }

    /// Emits an event to everybody else in the namespace.
    pub fn broadcast(&self, event: &str, args: impl Args) -> Result<(), CommandError> {
        self.others().emit(event, args)
    }

    /// Emits an event to this client and asks it for an acknowledgement. The answer, or its absence after `timeout`,
    /// comes to [`Handler::on_reply`](crate::Handler::on_reply) with `token`.
    pub fn request(
        &self,
        event: &str,
        args: impl Args,
        timeout: Duration,
        token: impl AsRef<[u8]>,
    ) -> Result<(), CommandError> {
        self.this().request(event, args, timeout, token)
    }

    /// Everybody else in the namespace.
    pub fn others(&self) -> Audience {
        audience::all().except_client(&self.id)
    }

    /// The clients of a channel, but for this one. [`plugnode_sdk::to`](crate::to) does not leave it out.
    pub fn to(&self, channel: impl Into<String>) -> Audience {
        self.others().to(channel)
    }

    /// Subscribes this client to a channel.
    pub fn join(&self, channel: impl Into<String>) -> Result<(), CommandError> {
        self.this().join(channel)
    }

    /// Ends this client's subscription to a channel.
    pub fn leave(&self, channel: impl Into<String>) -> Result<(), CommandError> {
        self.this().leave(channel)
    }

    /// Refuses this client, while its connection is handled: it is told `connect_error` with this message, was never
    /// connected, and has no disconnect. The last call counts, and whatever else the event asks for is dropped; writes to
    /// buckets are not.
    ///
    /// Only for an app with `admission = true` in its configuration, whose clients wait until their connection has been
    /// handled. To refuse everybody whom the handler fails to look at, nothing is needed: a connection that ends in an error
    /// for good, or takes too long, is refused.
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

    /// Refuses this client as [`refuse`](Self::refuse) does, and gives its error this `data`.
    pub fn refuse_with(&self, message: &str, data: &impl Serialize) -> Result<(), CommandError> {
        let data = serde_json::to_string(data)
            .map_err(|error| CommandError::Invalid(format!("the data cannot be written as JSON: {error}")))?;
        Ok(outbox::refuse(message, Some(&data))?)
    }

    /// Disconnects this client from the namespace. A JavaScript client does not come back by itself.
    pub fn disconnect(&self) -> Result<(), CommandError> {
        self.this().disconnect()
    }

    /// Closes this client's whole connection. A JavaScript client comes back by itself.
    pub fn close(&self) -> Result<(), CommandError> {
        self.this().close()
    }

    fn this(&self) -> Audience {
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
        Ok(_) => Err(CommandError::Invalid(
            "attributes are an object, and this is another value".into(),
        )),
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
    let fields = target.as_object_mut().expect("made an object just above");
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
    fn merges_as_rfc_7396_says() {
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
