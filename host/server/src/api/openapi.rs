//! The OpenAPI 3.1 document of the API, written from the types of its bodies.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::problem::ProblemBody;
use super::request::{
    Accepted, Disconnect, Done, Event, Find, Found, Handled, Join, Leave, Presence, PresencePage, Publish,
};

/// The document, as JSON.
pub(super) fn document() -> &'static str {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
        let mut text = serde_json::to_string_pretty(&write()).unwrap_or_default();
        text.push('\n');
        text
    });
    &DOCUMENT
}

fn write() -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    paths.insert(
        "/api/v1/publish".into(),
        path::<Publish, Done>(&mut generator, "publish", "Emit an event to clients", true),
    );
    paths.insert(
        "/api/v1/join".into(),
        path::<Join, Done>(&mut generator, "join", "Subscribe clients to channels", true),
    );
    paths.insert(
        "/api/v1/leave".into(),
        path::<Leave, Done>(&mut generator, "leave", "Unsubscribe clients from channels", true),
    );
    paths.insert(
        "/api/v1/disconnect".into(),
        path::<Disconnect, Done>(&mut generator, "disconnect", "Disconnect clients", true),
    );
    paths.insert(
        "/api/v1/find".into(),
        path::<Find, Found>(&mut generator, "find", "Find clients", false),
    );
    paths.insert(
        "/api/v1/presence".into(),
        path::<Presence, PresencePage>(&mut generator, "presence", "Read who is in a channel", false),
    );
    paths.insert(
        "/api/v1/event".into(),
        path::<Event, Handled>(&mut generator, "event", "Give a custom event to a handler", false),
    );
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": { "title": "plugnode server API", "version": "1" },
        "security": [{ "key": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas,
        },
    })
}

/// The path of an operation.
fn path<B: JsonSchema, A: JsonSchema>(
    generator: &mut SchemaGenerator,
    id: &str,
    summary: &str,
    has_batches: bool,
) -> Value {
    let one = generator.subschema_for::<B>().to_value();
    let body = match has_batches {
        true => json!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] }),
        false => one,
    };
    let answer = generator.subschema_for::<A>().to_value();
    let accepted = generator.subschema_for::<Accepted>().to_value();
    let problem = generator.subschema_for::<ProblemBody>().to_value();
    let in_both = |schema: &Value| json!({ "application/json": { "schema": schema }, "application/msgpack": { "schema": schema } });
    let is_question = matches!(id, "find" | "presence");
    let mut responses = Map::new();
    responses.insert(
        "200".into(),
        json!({ "description": "Done", "content": in_both(&answer) }),
    );
    if !is_question {
        let description = "Accepted: it will be done once";
        responses.insert(
            "202".into(),
            json!({ "description": description, "content": in_both(&accepted) }),
        );
    }
    for (status, description) in [
        ("400", "The body cannot be parsed"),
        ("401", "No valid key"),
        ("403", "The key does not permit this"),
        ("404", "No app serves the namespace"),
        ("406", "No acceptable media type"),
        ("408", "The body did not arrive in time"),
        ("413", "The request is too large"),
        ("415", "Unsupported media type"),
        (
            "422",
            "The request is invalid, or the idempotency key was used for another",
        ),
        ("429", "Too many calls"),
        ("502", "The handler failed"),
        ("503", "Not available at present"),
        ("504", "No answer in time"),
    ] {
        let is_never = matches!((id, status), (id, "502") if id != "event")
            || matches!((id, status), (id, "504") if !matches!(id, "event" | "find"));
        if !is_never {
            let content = json!({ "application/problem+json": { "schema": problem } });
            responses.insert(status.into(), json!({ "description": description, "content": content }));
        }
    }
    let mut operation = json!({
        "operationId": id,
        "summary": summary,
        "requestBody": { "required": true, "content": in_both(&body) },
        "responses": responses,
    });
    if !is_question {
        operation["parameters"] = json!([{
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "Requests with the same key, of the same API key, take effect once within a day.",
            "schema": { "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$" },
        }]);
    }
    json!({ "post": operation })
}
