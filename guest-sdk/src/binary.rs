//! Binary arguments. Socket.IO sends them as attachments beside the JSON, which contains a numbered placeholder for each.
//!
//! serde's data model has no attachments, so they pass through a thread-local while one payload is written or read.

use std::cell::RefCell;
use std::fmt;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::placeholder;

/// Bytes that travel as binary: a `Buffer`, `ArrayBuffer` or `Blob` on the JavaScript side.
///
/// Outside the arguments of an event or acknowledgement, for example in a `serde_json::Value` or in a bucket, it is an array
/// of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Binary(pub Vec<u8>);

impl From<Vec<u8>> for Binary {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl std::ops::Deref for Binary {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

thread_local! {
    /// The attachments of the payload that is being written, if any.
    static WRITTEN: RefCell<Option<Vec<Vec<u8>>>> = const { RefCell::new(None) };
    /// The attachments of the payload that is being read; each can be taken once.
    static READABLE: RefCell<Vec<Option<Vec<u8>>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `write` and returns its result with the binary values it has serialized.
pub(crate) fn collect_attachments<T>(write: impl FnOnce() -> T) -> (T, Vec<Vec<u8>>) {
    let outer = WRITTEN.replace(Some(Vec::new()));
    let written = write();
    let attachments = WRITTEN.replace(outer);
    (written, attachments.unwrap_or_default())
}

/// Runs `read`, which can deserialize each of the attachments once.
pub(crate) fn with_attachments<T>(attachments: &[Vec<u8>], read: impl FnOnce() -> T) -> T {
    if attachments.is_empty() {
        return read();
    }
    let outer = READABLE.replace(attachments.iter().cloned().map(Some).collect());
    let value = read();
    READABLE.set(outer);
    value
}

impl Serialize for Binary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = WRITTEN.with_borrow_mut(|written| {
            let attachments = written.as_mut()?;
            attachments.push(self.0.clone());
            Some(attachments.len() - 1)
        });
        let Some(number) = number else {
            return serializer.serialize_bytes(&self.0);
        };
        let mut object = serializer.serialize_struct("Placeholder", 2)?;
        object.serialize_field(placeholder::MARKER, &true)?;
        object.serialize_field(placeholder::INDEX, &number)?;
        object.end()
    }
}

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BinaryVisitor).map(Self)
    }
}

struct BinaryVisitor;

impl<'de> Visitor<'de> for BinaryVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("binary data")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<u8>, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = items.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Vec<u8>, A::Error> {
        let (mut marked, mut number) = (false, None);
        while let Some(name) = fields.next_key::<String>()? {
            match name.as_str() {
                placeholder::MARKER => marked = fields.next_value()?,
                placeholder::INDEX => number = Some(fields.next_value::<usize>()?),
                _ => return Err(A::Error::custom("expected binary data, found an object")),
            }
        }
        let number = number
            .filter(|_| marked)
            .ok_or_else(|| A::Error::custom("expected binary data, found an object"))?;
        READABLE
            .with_borrow_mut(|attachments| attachments.get_mut(number).and_then(Option::take))
            .ok_or_else(|| A::Error::custom(format!("attachment {number} is missing or was already read")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_array_of_numbers_outside_arguments() {
        let json = serde_json::to_string(&Binary(vec![1, 2])).unwrap();
        assert_eq!(json, "[1,2]");
        assert_eq!(serde_json::from_str::<Binary>(&json).unwrap(), Binary(vec![1, 2]));
    }
}
