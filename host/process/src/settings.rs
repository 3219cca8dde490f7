//! Value types of settings: how durations and sizes are written in the configuration file.
//!
//! Every part of the host declares its settings as a serde struct with these types; the configuration only nests them.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The largest [`Size`]: more is a slip, and would overflow sums of sizes.
const MAX_BYTES: u64 = 1_000_000_000_000_000;
/// The longest duration: more is a slip, and would overflow the clock.
const MAX_MILLIS: u64 = 100 * 365 * 24 * 60 * 60 * 1000;

/// A number of bytes, written as `"64MB"` (64,000,000), `"1MiB"` (1,048,576) or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// The number for things in memory.
    pub fn in_memory(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ByteSize(self.0).display().si().fmt(f)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl de::Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as \"64MB\", \"1MiB\" or a number of bytes")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Size, E> {
        match u64::try_from(number) {
            Ok(bytes) => self.visit_u64(bytes),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
        }
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Size, E> {
        match number {
            0..=MAX_BYTES => Ok(Size(number)),
            _ => Err(E::custom("is more than 1PB; give a size such as \"64MB\"")),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
        match text.trim().parse::<ByteSize>() {
            Ok(ByteSize(bytes)) => self.visit_u64(bytes),
            Err(_) => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "format": "bytes" })
    }
}

/// serde module for a field that holds a [`Size`] of the file as a number of bytes: `#[serde(with = "Bytes")]`.
pub struct Bytes;

impl Bytes {
    /// Writes a number of bytes.
    ///
    /// # Errors
    /// Errors of the serializer.
    pub fn serialize<S: Serializer>(bytes: &usize, serializer: S) -> Result<S::Ok, S::Error> {
        bytes.serialize(serializer)
    }

    /// Reads a [`Size`].
    ///
    /// # Errors
    /// When it is not a size.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
        Size::deserialize(deserializer).map(Size::in_memory)
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> Cow<'static, str> {
        Size::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Size::json_schema(generator)
    }
}

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
