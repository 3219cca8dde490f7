//! Numbers of bytes.

use std::borrow::Cow;
use std::fmt;

use bytesize::ByteSize;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The largest [`Size`]: more is a slip, and would overflow sums of sizes.
const MAX_BYTES: u64 = 1_000_000_000_000_000;
/// Units in which a size is shown, with their binary and decimal values, which the file does not tell apart by name.
const UNITS: [(&str, u64, u64); 3] = [
    ("GB", 1 << 30, 1_000_000_000),
    ("MB", 1 << 20, 1_000_000),
    ("KB", 1 << 10, 1_000),
];

/// A number of bytes, written as `"64MB"` (64,000,000), `"1MiB"` (1,048,576) or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// The number for things in memory.
    pub fn in_memory(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl From<usize> for Size {
    fn from(bytes: usize) -> Self {
        Self(bytes as u64)
    }
}

/// Shows `64MB`, or `12345 bytes` if no unit divides it. Binary and decimal units have the same names.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0;
        for (unit, binary, decimal) in UNITS {
            for size in [binary, decimal] {
                if bytes >= size && bytes.is_multiple_of(size) {
                    return write!(f, "{}{unit}", bytes / size);
                }
            }
        }
        write!(f, "{bytes} bytes")
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
