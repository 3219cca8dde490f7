//! Structs whose keys stand in one table of the file.
//!
//! A struct may hold another as a *part*: the part's keys stand among its own. serde's `flatten` reads the values of such keys before
//! their types are known, so that errors lose their line, and it does not go together with `deny_unknown_fields`. With [`flat!`] each
//! value is read where it stands, and a key that is neither the struct's nor of a part is refused with all known keys.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Default, Serialize, Deserialize)]
//! #[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
//! struct Limits {
//!     max_rooms: usize,
//! }
//!
//! #[derive(Default, Serialize, Deserialize)]
//! #[serde(deny_unknown_fields, default, rename_all = "kebab-case", remote = "Self")]
//! struct Section {
//!     path: String,
//!     #[serde(flatten, skip_deserializing)]
//!     limits: Limits,
//! }
//! plugnode_settings::flat!(Section { limits: Limits });
//!
//! let section: Section = toml::from_str("path = \"/\"\nmax-rooms = 3").unwrap();
//! assert_eq!(section.limits.max_rooms, 3);
//! ```

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{Error as PlainError, MapAccessDeserializer, StrDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Error, MapAccess, Visitor};
use serde::{Deserializer, Serialize, forward_to_deserialize_any};
use serde_json::{Map, Value};

/// A struct with parts. Implemented by [`flat!`](crate::flat!).
pub trait Flat: Sized {
    /// Reads the struct's own keys.
    ///
    /// # Errors
    /// Those of the deserializer.
    fn own<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;

    /// The keys of each part.
    fn part_keys() -> Vec<&'static [&'static str]>;

    /// Reads the value of a part's key, and returns it as the part writes it.
    ///
    /// # Errors
    /// If the part refuses it.
    fn part_value<'de, D: Deserializer<'de>>(key: &'static str, deserializer: D) -> Result<Value, D::Error>;

    /// Sets the parts.
    ///
    /// # Errors
    /// If a part cannot read what it has written.
    fn set_parts(&mut self, values: &Map<String, Value>) -> serde_json::Result<()>;
}

/// The keys of a struct with parts.
pub struct FlatKeys {
    all: Vec<&'static str>,
    own: usize,
}

impl FlatKeys {
    /// Finds the keys.
    pub fn of<T: Flat>() -> Self {
        let mut own: &[&str] = &[];
        let _ = T::own(KeyFinder(&mut own));
        let all = own.iter().chain(T::part_keys().into_iter().flatten()).copied();
        Self {
            all: all.collect(),
            own: own.len(),
        }
    }
}

/// The keys that a struct reads.
pub fn keys<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut keys: &[&str] = &[];
    let _ = T::deserialize(KeyFinder(&mut keys));
    keys
}

/// Reads a struct with its parts.
///
/// # Errors
/// If a key is unknown, or its value is refused.
pub fn deserialize<'de, T: Flat, D: Deserializer<'de>>(
    deserializer: D,
    keys: &'static FlatKeys,
) -> Result<T, D::Error> {
    let mut values = Map::new();
    let mut read = T::own(Splitter::<T, D> {
        inner: deserializer,
        keys,
        values: &mut values,
        flat: PhantomData,
    })?;
    read.set_parts(&values).map_err(D::Error::custom)?;
    Ok(read)
}

/// Reads one value of a part, as if its key stood alone.
///
/// # Errors
/// If the part refuses it.
pub fn read_value<'de, P, D>(key: &'static str, deserializer: D) -> Result<Value, D::Error>
where
    P: DeserializeOwned + Serialize,
    D: Deserializer<'de>,
{
    let part = P::deserialize(MapAccessDeserializer::new(OneEntry {
        key: Some(key),
        value: Some(deserializer),
    }))?;
    let mut written = serde_json::to_value(&part).map_err(D::Error::custom)?;
    Ok(written.get_mut(key).map(Value::take).unwrap_or_default())
}

/// Reads a part from the values of its keys.
///
/// # Errors
/// If the part cannot read what it has written.
pub fn read_part<P: DeserializeOwned>(values: &Map<String, Value>) -> serde_json::Result<P> {
    let keys = keys::<P>();
    let own = values.iter().filter(|(key, _)| keys.contains(&key.as_str()));
    let own = own.map(|(key, value)| (key.clone(), value.clone())).collect();
    P::deserialize(Value::Object(own))
}

/// Implements `Serialize` and `Deserialize` for a struct with parts. The struct derives both with `remote = "Self"`, and its parts
/// are `#[serde(flatten, skip_deserializing)]`. A part must be able to read what it writes.
#[macro_export]
macro_rules! flat {
    ($name:ident { $($field:ident: $part:ty),+ $(,)? }) => {
        impl $crate::flat::Flat for $name {
            fn own<'de, D: $crate::serde::Deserializer<'de>>(deserializer: D) -> ::std::result::Result<Self, D::Error> {
                // What is derived for the remote type.
                $name::deserialize(deserializer)
            }

            fn part_keys() -> Vec<&'static [&'static str]> {
                vec![$($crate::flat::keys::<$part>()),+]
            }

            fn part_value<'de, D: $crate::serde::Deserializer<'de>>(
                key: &'static str,
                deserializer: D,
            ) -> ::std::result::Result<$crate::serde_json::Value, D::Error> {
                $(
                    if $crate::flat::keys::<$part>().contains(&key) {
                        return $crate::flat::read_value::<$part, D>(key, deserializer);
                    }
                )+
                unreachable!("it is called with the keys of parts")
            }

            fn set_parts(
                &mut self,
                values: &$crate::serde_json::Map<String, $crate::serde_json::Value>,
            ) -> $crate::serde_json::Result<()> {
                $(self.$field = $crate::flat::read_part(values)?;)+
                Ok(())
            }
        }

        impl<'de> $crate::serde::Deserialize<'de> for $name {
            fn deserialize<D: $crate::serde::Deserializer<'de>>(deserializer: D) -> ::std::result::Result<Self, D::Error> {
                static KEYS: ::std::sync::LazyLock<$crate::flat::FlatKeys> =
                    ::std::sync::LazyLock::new($crate::flat::FlatKeys::of::<$name>);
                $crate::flat::deserialize(deserializer, &KEYS)
            }
        }

        impl $crate::serde::Serialize for $name {
            fn serialize<S: $crate::serde::Serializer>(&self, serializer: S) -> ::std::result::Result<S::Ok, S::Error> {
                $name::serialize(self, serializer)
            }
        }
    };
}

/// Gives a struct its own keys, and keeps the values of its parts.
struct Splitter<'a, T, D> {
    inner: D,
    keys: &'static FlatKeys,
    values: &'a mut Map<String, Value>,
    flat: PhantomData<T>,
}

impl<'de, T: Flat, D: Deserializer<'de>> Deserializer<'de> for Splitter<'_, T, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let Self {
            inner,
            keys,
            values,
            flat,
        } = self;
        let splitter = Splitter {
            inner: visitor,
            keys,
            values,
            flat,
        };
        inner.deserialize_struct(name, &keys.all, splitter)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl<'de, T: Flat, V: Visitor<'de>> Visitor<'de> for Splitter<'_, T, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        let Self {
            inner,
            keys,
            values,
            flat,
        } = self;
        inner.visit_map(Splitter {
            inner: map,
            keys,
            values,
            flat,
        })
    }
}

impl<'de, T: Flat, A: MapAccess<'de>> MapAccess<'de> for Splitter<'_, T, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(place) = self.inner.next_key_seed(KnownKey(self.keys))? {
            let key = self.keys.all[place];
            if place < self.keys.own {
                return seed.deserialize(StrDeserializer::new(key)).map(Some);
            }
            let value = self.inner.next_value_seed(PartValue(key, PhantomData::<T>))?;
            self.values.insert(key.into(), value);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.inner.next_value_seed(seed)
    }
}

/// Reads a key, as its place among all.
struct KnownKey(&'static FlatKeys);

impl<'de> DeserializeSeed<'de> for KnownKey {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for KnownKey {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<usize, E> {
        let all = &self.0.all;
        let place = all.iter().position(|known| *known == key);
        place.ok_or_else(|| E::unknown_field(key, all))
    }
}

/// Reads the value of a part's key.
struct PartValue<T>(&'static str, PhantomData<T>);

impl<'de, T: Flat> DeserializeSeed<'de> for PartValue<T> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        T::part_value(self.0, deserializer)
    }
}

/// A table of one key.
struct OneEntry<D> {
    key: Option<&'static str>,
    value: Option<D>,
}

impl<'de, D: Deserializer<'de>> MapAccess<'de> for OneEntry<D> {
    type Error = D::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, D::Error> {
        let key = self.key.take();
        key.map(|key| seed.deserialize(StrDeserializer::new(key))).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, D::Error> {
        match self.value.take() {
            Some(value) => seed.deserialize(value),
            None => Err(D::Error::custom("the value was read already")),
        }
    }
}

/// Finds the keys that a struct asks for, and reads nothing.
struct KeyFinder<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for KeyFinder<'_> {
    type Error = PlainError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, PlainError> {
        Err(PlainError::custom("only the keys are read"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, PlainError> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde::Deserialize;

    use super::*;
    use crate::{Bytes, Millis};

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
    struct Inner {
        #[serde(with = "Bytes")]
        size: usize,
        names: Vec<Name>,
        number: Option<u16>,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Name {
        One,
        Two,
    }

    #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default, rename_all = "kebab-case", remote = "Self")]
    struct Middle {
        #[serde(rename = "pause-ms", with = "Millis")]
        pause: Duration,
        #[serde(flatten, skip_deserializing)]
        inner: Inner,
    }
    flat!(Middle { inner: Inner });

    #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default, rename_all = "kebab-case", remote = "Self")]
    struct Outer {
        path: String,
        #[serde(flatten, skip_deserializing)]
        middle: Middle,
    }
    flat!(Outer { middle: Middle });

    impl Default for Inner {
        fn default() -> Self {
            Self {
                size: 7,
                names: vec![Name::One],
                number: None,
            }
        }
    }

    #[test]
    fn reads_keys_of_parts_beside_own_keys() {
        let file = "size = \"2MB\"\npath = \"/a\"\npause-ms = 5\nnumber = 3";
        let read: Outer = toml::from_str(file).unwrap();
        let Outer { path, middle } = &read;
        assert_eq!((path.as_str(), middle.pause), ("/a", Duration::from_millis(5)));
        let inner = Inner {
            size: 2_000_000,
            names: vec![Name::One],
            number: Some(3),
        };
        assert_eq!(middle.inner, inner);
        let written = toml::to_string(&read).unwrap();
        assert_eq!(toml::from_str::<Outer>(&written).unwrap(), read);
        assert_eq!(toml::from_str::<Outer>("").unwrap(), Outer::default());
        assert_eq!(keys::<Outer>(), ["path", "pause-ms", "size", "names", "number"]);
    }

    #[test]
    fn errors_name_place_and_known_keys() {
        for (file, place, message) in [
            (
                "path = \"\"\nsise = 1",
                "sise",
                "unknown field `sise`, expected one of `path`, `pause-ms`, `size`, `names`, `number`",
            ),
            ("number = -1", "-1", "invalid value: integer `-1`, expected u16"),
            (
                "pause-ms = \"3s\"",
                "\"3s\"",
                "invalid type: string \"3s\", expected u64",
            ),
            (
                "names = [\n\"one\",\n\"three\"]",
                "\"three\"",
                "unknown variant `three`, expected `one` or `two`",
            ),
            ("size = \"1XB\"", "\"1XB\"", "invalid value: string \"1XB\""),
        ] {
            let error = toml::from_str::<Outer>(file).unwrap_err();
            assert!(error.message().starts_with(message), "{error}");
            assert_eq!(&file[error.span().unwrap()], place, "{error}");
        }
        let error = Vec::<Outer>::deserialize(toml::Value::Array(vec![3.into()])).unwrap_err();
        assert!(
            error.message().contains("integer `3`, expected struct Outer"),
            "{error}"
        );
    }
}
