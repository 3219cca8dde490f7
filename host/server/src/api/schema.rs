//! Schemas of the texts in requests, for the OpenAPI document: what `plan` checks beyond their type.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use super::plan::MAX_NAMES;
use plugnode_message::{MAX_NAME, RESERVED_EVENTS, RESERVED_KINDS};

/// Declares types that stand for texts in the document.
macro_rules! schemas {
    ($($(#[$doc:meta])* $name:ident = $schema:expr;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub(super) struct $name;

            impl JsonSchema for $name {
                fn schema_name() -> Cow<'static, str> {
                    stringify!($name).into()
                }

                fn inline_schema() -> bool {
                    true
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    Schema::try_from($schema).unwrap_or_default()
                }
            }
        )*
    };
}

schemas! {
    /// The name of a channel, a client or an order. The limit is in bytes, which a schema cannot say.
    Name = name();
    /// Any number of names.
    Names = json!({ "type": "array", "items": name(), "maxItems": MAX_NAMES });
    /// At least one name.
    ChannelNames = json!({ "type": "array", "items": name(), "minItems": 1, "maxItems": MAX_NAMES });
    /// The name of a namespace.
    NamespaceName = json!({ "type": "string", "pattern": "^/", "minLength": 1, "maxLength": MAX_NAME });
    /// The name of an event.
    EventName = json!({ "type": "string", "minLength": 1, "maxLength": MAX_NAME, "not": { "enum": RESERVED_EVENTS } });
    /// The kind of a custom event.
    Kind = json!({
        "type": "string", "minLength": 1, "maxLength": MAX_NAME, "pattern": format!("^(?!{})", RESERVED_KINDS.replace('.', "\\.")),
    });
}

fn name() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": MAX_NAME })
}

/// The ways to name clients: all of a namespace, or some.
pub(super) fn audiences() -> Value {
    let some = |field: &str| {
        let some = json!({ "minItems": 1 });
        json!({ "required": [field], "properties": { "all": { "const": false }, field: some } })
    };
    let none = json!({ "maxItems": 0 });
    json!([
        { "required": ["all"], "properties": { "all": { "const": true }, "to": none, "clients": none } },
        some("to"),
        some("clients"),
    ])
}
