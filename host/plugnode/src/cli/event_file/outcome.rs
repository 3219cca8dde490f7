//! Outcome of an event, actual or expected: its effects as JSON, or its error. Compares the two.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use super::effects::{arguments_of, command_in_json, write};
use super::notation::{JSON_KEYS, arguments, entry, text};
use super::timer::with_expected_time;
use super::value::{json_of, plain_json_of};
use plugnode_message::{Command, Effects, Event, EventKind};

/// Stands for any value in an expectation.
const ANY: &str = "<any>";

/// Effects of an event, or its error.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in super::super) struct EventOutcome {
    /// Arguments of the acknowledgement.
    ack: Option<Value>,
    commands: Vec<Value>,
    writes: Vec<Value>,
    /// Why the event failed; it then has no effects.
    error: Option<String>,
}

impl EventOutcome {
    /// The effects of an event that was handled.
    pub(super) fn handled(event: &Event, effects: &Effects) -> Self {
        let mut outcome = Self {
            writes: effects.writes.iter().map(|change| write(change, event)).collect(),
            ..Self::default()
        };
        let own = match &event.kind {
            EventKind::Message { ack, .. } => ack.as_ref(),
            _ => None,
        };
        for command in &effects.commands {
            match command {
                Command::Ack { id, args } if Some(id) == own && outcome.ack.is_none() => {
                    outcome.ack = Some(arguments_of(args))
                }
                // Every accepted connection has it.
                Command::Admit { refusal: None, .. } => {}
                command => outcome
                    .commands
                    .push(Value::Object(command_in_json(command, &event.namespace))),
            }
        }
        outcome
    }

    /// The outcome of an event that failed.
    pub(super) fn failed(reason: String) -> Self {
        Self {
            error: Some(reason),
            ..Self::default()
        }
    }

    /// The reason, if the event failed.
    pub(in super::super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Parses `expect` of an event.
    pub(in super::super) fn expected(table: &toml::Table) -> Result<Self> {
        let mut expected = Self::default();
        for (key, value) in table {
            match (key.as_str(), value) {
                ("ack", value) => expected.ack = Some(acknowledgement(value)?),
                ("commands", toml::Value::Array(items)) => expected.commands = entries(items)?,
                ("writes", toml::Value::Array(items)) => expected.writes = entries(items)?,
                ("error", toml::Value::String(reason)) => expected.error = Some(reason.clone()),
                ("commands" | "writes", _) => bail!("{key}: is not a list such as [{{ emit = \"hello\" }}]"),
                ("error", _) => bail!("error: is not a string"),
                _ => bail!("there is no `{key}`; there are ack, commands, writes and error"),
            }
        }
        Ok(expected)
    }

    /// Whether the actual outcome meets this expectation. Of an error, a part is enough.
    pub(in super::super) fn is_met_by(&self, actual: &Self) -> bool {
        let error = match (&self.error, &actual.error) {
            (Some(part), Some(reason)) => part == ANY || reason.contains(part.as_str()),
            (None, None) => true,
            _ => false,
        };
        let all = |some: &[Value], others: &[Value]| {
            some.len() == others.len() && some.iter().zip(others).all(|(one, other)| fits(one, other))
        };
        let ack = match (&self.ack, &actual.ack) {
            (Some(expected), Some(ack)) => fits(expected, ack),
            (None, None) => true,
            _ => false,
        };
        error && ack && all(&self.commands, &actual.commands) && all(&self.writes, &actual.writes_as_expected_by(self))
    }

    /// The actual writes, with the expected times of timers where they are close enough.
    fn writes_as_expected_by(&self, expected: &Self) -> Vec<Value> {
        let mut expected = expected.writes.iter();
        let writes = self.writes.iter().cloned();
        writes
            .map(|write| match expected.next() {
                Some(expected) => with_expected_time(write, expected),
                None => write,
            })
            .collect()
    }

    /// The actual outcome with the wildcards of `expected`, for a new expectation.
    pub(in super::super) fn with_wildcards_of(self, expected: &Self) -> Self {
        let writes = self.writes_as_expected_by(expected);
        let keep = |actual: Vec<Value>, expected: &[Value]| -> Vec<Value> {
            let mut expected = expected.iter();
            actual
                .into_iter()
                .map(|value| match expected.next() {
                    Some(pattern) => with_wildcards(value, pattern),
                    None => value,
                })
                .collect()
        };
        Self {
            ack: self.ack.map(|ack| match &expected.ack {
                Some(pattern) => with_wildcards(ack, pattern),
                None => ack,
            }),
            commands: keep(self.commands, &expected.commands),
            writes: keep(writes, &expected.writes),
            error: match (&self.error, &expected.error) {
                (Some(reason), Some(part)) if part == ANY || reason.contains(part.as_str()) => expected.error.clone(),
                _ => self.error,
            },
        }
    }

    /// The lines below `[event.expect]` of a file.
    pub(in super::super) fn to_toml(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(reason) = &self.error {
            // Further lines, such as the stack trace, differ from run to run.
            lines.push(format!("error = {}", text(reason.lines().next().unwrap_or_default())));
        }
        if let Some(ack) = &self.ack {
            lines.push(format!("ack = {}", arguments(ack)));
        }
        for (name, items) in [("commands", &self.commands), ("writes", &self.writes)] {
            if items.is_empty() {
                continue;
            }
            lines.push(format!("{name} = ["));
            lines.extend(items.iter().map(|item| format!("  {},", entry(item))));
            lines.push("]".to_owned());
        }
        lines
    }
}

/// Parses a list of commands or writes.
fn entries(items: &[toml::Value]) -> Result<Vec<Value>> {
    let mut entries = Vec::with_capacity(items.len());
    for item in items {
        let toml::Value::Table(table) = item else {
            bail!("{item}: is not a table such as {{ emit = \"hello\" }}");
        };
        let mut keys = Map::new();
        for (name, value) in table {
            let value = match JSON_KEYS.contains(&name.as_str()) && value.as_str() != Some(ANY) {
                true => json_of(value).with_context(|| name.clone())?,
                false => plain_json_of(value),
            };
            keys.insert(name.clone(), value);
        }
        // `args` is optional.
        if keys.contains_key("emit") || keys.contains_key("request") {
            keys.entry("args").or_insert_with(|| json!([]));
        }
        entries.push(keys.into());
    }
    Ok(entries)
}

/// Parses `ack`.
fn acknowledgement(value: &toml::Value) -> Result<Value> {
    match value.as_str() {
        Some(ANY) => Ok(ANY.into()),
        _ => json_of(value).context("ack"),
    }
}

/// Whether a value matches the expected one.
fn fits(expected: &Value, actual: &Value) -> bool {
    match (expected, actual) {
        (Value::String(any), _) if any == ANY => true,
        (Value::Array(expected), Value::Array(actual)) => {
            expected.len() == actual.len() && expected.iter().zip(actual).all(|(one, other)| fits(one, other))
        }
        (Value::Object(expected), Value::Object(actual)) => {
            expected.len() == actual.len()
                && expected
                    .iter()
                    .all(|(key, value)| actual.get(key).is_some_and(|other| fits(value, other)))
        }
        // 1 and 1.0 are equal in JavaScript.
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (one, other) => one == other,
    }
}

/// A value with the wildcards of a pattern.
fn with_wildcards(actual: Value, pattern: &Value) -> Value {
    match (actual, pattern) {
        (_, Value::String(any)) if any == ANY => pattern.clone(),
        (Value::Array(items), Value::Array(patterns)) if items.len() == patterns.len() => items
            .into_iter()
            .zip(patterns)
            .map(|(item, pattern)| with_wildcards(item, pattern))
            .collect(),
        (Value::Object(keys), Value::Object(patterns)) => {
            let opened = keys.into_iter().map(|(key, value)| {
                let value = match patterns.get(&key) {
                    Some(pattern) => with_wildcards(value, pattern),
                    None => value,
                };
                (key, value)
            });
            Value::Object(opened.collect())
        }
        (actual, _) => actual,
    }
}
