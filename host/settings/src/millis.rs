//! Durations in whole milliseconds.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serializer, de};

/// The longest duration: more is a slip, and would overflow the clock.
const MAX_MILLIS: u64 = 100 * 365 * 24 * 60 * 60 * 1000;

/// serde module for a [`Duration`] whose key ends with `-ms`: `#[serde(rename = "lease-ms", with = "Millis")]`.
pub struct Millis;

impl Millis {
    /// Writes whole milliseconds.
    ///
    /// # Errors
    /// Errors of the serializer.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    /// Reads whole milliseconds.
    ///
    /// # Errors
    /// When it is not a non-negative integer, or more than 100 years.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        match u64::deserialize(deserializer)? {
            millis @ 0..=MAX_MILLIS => Ok(Duration::from_millis(millis)),
            _ => Err(de::Error::custom("is more than 100 years, in milliseconds")),
        }
    }
}

impl JsonSchema for Millis {
    fn schema_name() -> Cow<'static, str> {
        "Millis".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "format": "milliseconds" })
    }
}
