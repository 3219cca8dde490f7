//! The shape of the configuration: which keys are sections, and which sections can occur several times. serde would read a list in place
//! of a section, by the position of its items.

use serde_json::Value as Json;
use toml::{Table, Value};

use super::value_sources::KeyPath;
use super::{ApiKey, ApiSettings, App, Config, Webhook};

/// The default configuration, with one of each section that can occur several times.
pub(super) fn complete() -> Config {
    Config {
        apps: vec![App::default()],
        webhooks: vec![Webhook::default()],
        api: ApiSettings {
            keys: vec![ApiKey::default()],
            ..ApiSettings::default()
        },
        ..Config::default()
    }
}

/// The keys of [`complete`] and their values.
pub(super) fn shape() -> Json {
    serde_json::to_value(complete()).unwrap_or_default()
}

/// The first key that is a list instead of a section, or one section instead of several, with a message for it, in serde's words where
/// serde has one.
pub(super) fn mismatch(table: &Table) -> Option<(KeyPath, String)> {
    let mut path = Vec::new();
    let problem = in_table(&shape(), table, &mut path)?;
    Some((path, problem))
}

fn in_table(shape: &Json, table: &Table, path: &mut KeyPath) -> Option<String> {
    table
        .iter()
        .find_map(|(key, value)| within(key.clone(), shape.get(key)?, value, path))
}

/// The problem of the value at `key` in `path`, which then ends at it.
fn within(key: String, shape: &Json, value: &Value, path: &mut KeyPath) -> Option<String> {
    path.push(key);
    let problem = match (shape, value) {
        (Json::Object(_), Value::Array(_)) => Some("invalid type: sequence, expected a map".into()),
        (Json::Object(_), Value::Table(table)) => in_table(shape, table, path),
        (Json::Array(sections), value) => sections
            .first()
            .filter(|section| section.is_object())
            .and_then(|section| match value {
                Value::Table(_) => Some(format!(
                    "is one section, but can occur several times; write [[{}]]",
                    path.join(".")
                )),
                Value::Array(items) => items
                    .iter()
                    .enumerate()
                    .find_map(|(i, item)| within(i.to_string(), section, item, path)),
                _ => None,
            }),
        _ => None,
    };
    if problem.is_none() {
        path.pop();
    }
    problem
}
