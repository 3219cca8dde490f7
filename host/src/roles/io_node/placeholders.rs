//! Objects that stand for attachments: `{"_placeholder":true,"num":0}`.
//!
//! They are looked for while JSON is read, and nothing of that is kept: as values it would take a hundred times its size.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::args::Malformed;

/// Without attachments a placeholder is an object like any other.
pub(super) fn check(json: &str, attachments: usize) -> Result<(), Malformed> {
    if attachments == 0 {
        return Ok(());
    }
    let mut json = serde_json::Deserializer::from_str(json);
    match (Placeholders { attachments }).deserialize(&mut json) {
        Ok(_) => Ok(()),
        Err(error) if error.is_data() => Err(Malformed::NoAttachment),
        Err(_) => Err(Malformed::NotAnArray),
    }
}

/// What of a value matters to a placeholder that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    True,
    Number(u64),
    Other,
}

impl Place {
    pub(super) fn of_bool(value: bool) -> Self {
        match value {
            true => Self::True,
            false => Self::Other,
        }
    }
}

/// An object that may be a placeholder, as its fields come: of two of the same name the last counts, as in JavaScript.
#[derive(Debug, Default)]
pub(super) struct Placeholder {
    is_one: bool,
    number: Option<u64>,
}

impl Placeholder {
    pub(super) fn field(&mut self, key: &str, value: Place) {
        match (key, value) {
            ("_placeholder", value) => self.is_one = value == Place::True,
            ("num", Place::Number(number)) => self.number = Some(number),
            ("num", _) => self.number = None,
            _ => {}
        }
    }

    /// Which attachment it stands for, if it is a placeholder with a number.
    pub(super) fn number(&self) -> Option<usize> {
        self.number.filter(|_| self.is_one)?.try_into().ok()
    }
}

/// Looks at placeholders while the JSON is read, and keeps nothing of it.
#[derive(Clone, Copy)]
struct Placeholders {
    attachments: usize,
}

impl<'de> DeserializeSeed<'de> for Placeholders {
    type Value = Place;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Place, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Placeholders {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Place, E> {
        Ok(Place::Other)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Place, E> {
        Ok(Place::of_bool(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Place, E> {
        Ok(Place::Other)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Place, E> {
        Ok(Place::Number(number))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Place, E> {
        Ok(Place::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Place, E> {
        Ok(Place::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Place, A::Error> {
        while items.next_element_seed(self)?.is_some() {}
        Ok(Place::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Place, A::Error> {
        let mut placeholder = Placeholder::default();
        while let Some(key) = fields.next_key::<String>()? {
            let value = fields.next_value_seed(self)?;
            placeholder.field(&key, value);
        }
        let names_one = placeholder.number().is_some_and(|number| number < self.attachments);
        match placeholder.is_one && !names_one {
            true => Err(A::Error::custom("a placeholder names an attachment that is not there")),
            false => Ok(Place::Other),
        }
    }
}
