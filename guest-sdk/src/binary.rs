//! Binary arguments. Socket.IO carries them beside the JSON, which holds a numbered placeholder for each.
//!
//! serde has no place for them, so they are handed over beside it, in a thread-local that lives as long as one payload
//! is written or read.

use std::cell::RefCell;
use std::fmt;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that travel as binary: a `Buffer`, `ArrayBuffer` or `Blob` on the JavaScript side.
///
/// Anywhere but in the arguments of an event or acknowledgement (as in a `serde_json::Value`, or in a bucket) it is
/// an array of numbers.
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
    static COLLECTED: RefCell<Option<Vec<Vec<u8>>>> = const { RefCell::new(None) };
    static LENT: RefCell<Vec<Option<Vec<u8>>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `write`, and gives what it wrote with the binary values that it met.
pub(crate) fn collecting<T>(write: impl FnOnce() -> T) -> (T, Vec<Vec<u8>>) {
    let outer = COLLECTED.replace(Some(Vec::new()));
    let written = write();
    let attachments = COLLECTED.replace(outer);
    (written, attachments.unwrap_or_default())
}

/// Runs `read`, which may take each of the attachments once.
pub(crate) fn lending<T>(attachments: &[Vec<u8>], read: impl FnOnce() -> T) -> T {
    if attachments.is_empty() {
        return read();
    }
    let outer = LENT.replace(attachments.iter().cloned().map(Some).collect());
    let value = read();
    LENT.set(outer);
    value
}

impl Serialize for Binary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = COLLECTED.with_borrow_mut(|collected| {
            let attachments = collected.as_mut()?;
            attachments.push(self.0.clone());
            Some(attachments.len() - 1)
        });
        let Some(number) = number else {
            return serializer.serialize_bytes(&self.0);
        };
        let mut placeholder = serializer.serialize_struct("Placeholder", 2)?;
        placeholder.serialize_field("_placeholder", &true)?;
        placeholder.serialize_field("num", &number)?;
        placeholder.end()
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
        f.write_str("binary")
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
                "_placeholder" => marked = fields.next_value()?,
                "num" => number = Some(fields.next_value::<usize>()?),
                _ => return Err(A::Error::custom("an object stands where binary was expected")),
            }
        }
        let number = number
            .filter(|_| marked)
            .ok_or_else(|| A::Error::custom("an object stands where binary was expected"))?;
        LENT.with_borrow_mut(|lent| lent.get_mut(number).and_then(Option::take))
            .ok_or_else(|| A::Error::custom(format!("attachment {number} is missing or was taken before")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_of_arguments_it_is_an_array_of_numbers() {
        let json = serde_json::to_string(&Binary(vec![1, 2])).unwrap();
        assert_eq!(json, "[1,2]");
        assert_eq!(serde_json::from_str::<Binary>(&json).unwrap(), Binary(vec![1, 2]));
    }
}
