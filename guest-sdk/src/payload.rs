//! Conversion between Rust values and the arguments of Socket.IO events ([`Payload`]).
//!
//! A payload that is only forwarded is not parsed.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, DeserializeSeed, IgnoredAny, SeqAccess, Visitor};
use serde::ser::{self, Impossible};
use serde::{Deserialize, Serialize, Serializer};

use crate::binary;
pub use crate::bindings::plugnode::app::types::Payload;
use crate::surrogates::replace_lone_surrogates;

/// Values that can be the arguments of an event or acknowledgement.
///
/// - `()`: no arguments.
/// - A tuple: one argument per item; `("ada", 36)` is two arguments. serde treats arrays of fixed length as tuples, so they
///   count as tuples here; a `Vec` or slice does not.
/// - Any other value that serde can write: one argument. `(value,)` is always one argument.
/// - A [`Payload`], or a reference to one: forwarded unchanged.
///
/// [`Binary`](crate::Binary) values are sent as binary, at any depth.
pub trait Args {
    /// Converts the arguments to a payload.
    fn to_payload(&self) -> Result<Cow<'_, Payload>, ArgsError>;
}

impl<T: Serialize + ?Sized> Args for T {
    fn to_payload(&self) -> Result<Cow<'_, Payload>, ArgsError> {
        let (json, attachments) = binary::collect_attachments(|| write(self));
        let json = json.map_err(|error| ArgsError(format!("arguments cannot be written as JSON: {error}")))?;
        Ok(Cow::Owned(Payload { json, attachments }))
    }
}

impl Args for Payload {
    fn to_payload(&self) -> Result<Cow<'_, Payload>, ArgsError> {
        Ok(Cow::Borrowed(self))
    }
}

impl Args for &Payload {
    fn to_payload(&self) -> Result<Cow<'_, Payload>, ArgsError> {
        Ok(Cow::Borrowed(self))
    }
}

impl Payload {
    /// Creates a payload from `args`.
    pub fn new(args: impl Args) -> Result<Self, ArgsError> {
        args.to_payload().map(Cow::into_owned)
    }

    /// Parses all arguments: into a tuple with a type for each, or into a `Vec` if they all have one type.
    ///
    /// JavaScript strings may contain lone surrogates, which Rust strings cannot; each is read as U+FFFD.
    pub fn args<T: DeserializeOwned>(&self) -> Result<T, ArgsError> {
        binary::with_attachments(&self.attachments, || {
            serde_json::from_str(&replace_lone_surrogates(&self.json))
        })
        .map_err(|error| ArgsError(format!("the arguments do not have the expected types: {error}")))
    }

    /// Parses one argument, counted from 0. A missing argument counts as `null`, so it can be read as an `Option`.
    pub fn arg<T: DeserializeOwned>(&self, index: usize) -> Result<T, ArgsError> {
        let found = binary::with_attachments(&self.attachments, || {
            let json = replace_lone_surrogates(&self.json);
            let mut json = serde_json::Deserializer::from_str(&json);
            Nth(index, PhantomData).deserialize(&mut json)
        });
        let found =
            found.map_err(|error| ArgsError(format!("argument {index} does not have the expected type: {error}")))?;
        match found {
            Some(argument) => Ok(argument),
            None => serde_json::from_str("null").map_err(|_| ArgsError(format!("argument {index} is missing"))),
        }
    }
}

/// Arguments cannot be written, or do not have the expected types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgsError(pub(crate) String);

impl fmt::Display for ArgsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ArgsError {}

fn write<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<String> {
    // This first pass may also serialize binary values; they must not be collected twice.
    let (shape, _) = binary::collect_attachments(|| value.serialize(ShapeSerializer));
    match shape {
        Err(Shape::Unit) => Ok("[]".into()),
        Err(Shape::Tuple) => serde_json::to_string(value),
        Err(Shape::Single) | Ok(()) => serde_json::to_string(&(value,)),
    }
}

/// Item N of a JSON array; none if the array is shorter.
struct Nth<T>(usize, PhantomData<T>);

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Nth<T> {
    type Value = Option<T>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Nth<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of arguments")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        for _ in 0..self.0 {
            if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let found = items.next_element()?;
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

/// How a value's serde type maps to arguments.
#[derive(Debug)]
enum Shape {
    /// No arguments.
    Unit,
    /// One argument per item.
    Tuple,
    /// One argument.
    Single,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Shape {}

impl ser::Error for Shape {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Single
    }
}

/// A serializer that writes nothing and returns the value's [`Shape`] as an error.
struct ShapeSerializer;

macro_rules! single {
    ($($method:ident($($kind:ty),*) -> $answer:ty;)*) => {
        $(fn $method(self, $(_: $kind),*) -> Result<$answer, Shape> {
            Err(Shape::Single)
        })*
    };
}

impl Serializer for ShapeSerializer {
    type Ok = ();
    type Error = Shape;
    type SerializeSeq = Impossible<(), Shape>;
    type SerializeTuple = Impossible<(), Shape>;
    type SerializeTupleStruct = Impossible<(), Shape>;
    type SerializeTupleVariant = Impossible<(), Shape>;
    type SerializeMap = Impossible<(), Shape>;
    type SerializeStruct = Impossible<(), Shape>;
    type SerializeStructVariant = Impossible<(), Shape>;

    fn serialize_unit(self) -> Result<(), Shape> {
        Err(Shape::Unit)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Shape> {
        Err(Shape::Tuple)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), Shape> {
        Err(Shape::Single)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, _: &T) -> Result<(), Shape> {
        Err(Shape::Single)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Shape> {
        Err(Shape::Single)
    }

    single! {
        serialize_bool(bool) -> ();
        serialize_i8(i8) -> ();
        serialize_i16(i16) -> ();
        serialize_i32(i32) -> ();
        serialize_i64(i64) -> ();
        serialize_i128(i128) -> ();
        serialize_u8(u8) -> ();
        serialize_u16(u16) -> ();
        serialize_u32(u32) -> ();
        serialize_u64(u64) -> ();
        serialize_u128(u128) -> ();
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
        serialize_char(char) -> ();
        serialize_str(&str) -> ();
        serialize_bytes(&[u8]) -> ();
        serialize_none() -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_unit_variant(&'static str, u32, &'static str) -> ();
        serialize_seq(Option<usize>) -> Impossible<(), Shape>;
        serialize_tuple_struct(&'static str, usize) -> Impossible<(), Shape>;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Impossible<(), Shape>;
        serialize_map(Option<usize>) -> Impossible<(), Shape>;
        serialize_struct(&'static str, usize) -> Impossible<(), Shape>;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Impossible<(), Shape>;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Binary;

    fn json(args: impl Args) -> String {
        Payload::new(args).unwrap().json
    }

    #[derive(Serialize)]
    struct Point {
        x: i32,
        y: i32,
    }

    #[test]
    fn tuple_becomes_arguments_other_values_become_one() {
        assert_eq!(json(()), "[]");
        assert_eq!(json("a"), r#"["a"]"#);
        assert_eq!(json(("a", 1)), r#"["a",1]"#);
        assert_eq!(json(vec![1, 2]), "[[1,2]]");
        assert_eq!(json(([1, 2],)), "[[1,2]]");
        assert_eq!(json(Point { x: 1, y: 2 }), r#"[{"x":1,"y":2}]"#);
        assert_eq!(json(None::<i32>), "[null]");
        assert_eq!(json(((),)), "[null]");
        assert_eq!(json(serde_json::json!([1, 2])), "[[1,2]]");
    }

    #[test]
    fn forwards_payload_unchanged() {
        let payload = Payload {
            json: r#"[ 1 ]"#.into(),
            attachments: vec![],
        };
        assert_eq!(json(&payload), "[ 1 ]");
        assert!(matches!(Args::to_payload(&payload).unwrap(), Cow::Borrowed(_)));
    }

    #[test]
    fn binary_at_any_depth_becomes_attachment() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct File {
            name: String,
            content: Binary,
        }
        let file = || File {
            name: "a".into(),
            content: Binary(vec![1, 2]),
        };
        let payload = Payload::new((Binary(vec![9]), vec![file()])).unwrap();
        assert_eq!(
            payload.json,
            r#"[{"_placeholder":true,"num":0},[{"name":"a","content":{"_placeholder":true,"num":1}}]]"#
        );
        assert_eq!(payload.attachments, [vec![9], vec![1, 2]]);
        let (first, files): (Binary, Vec<File>) = payload.args().unwrap();
        assert_eq!((first, files), (Binary(vec![9]), vec![file()]));
        assert_eq!(payload.arg::<Vec<File>>(1).unwrap(), [file()]);
    }

    #[test]
    fn single_binary_argument_becomes_attachment() {
        let payload = Payload::new(Binary(vec![7])).unwrap();
        assert_eq!(payload.json, r#"[{"_placeholder":true,"num":0}]"#);
        assert_eq!(payload.attachments, [vec![7]]);
    }

    #[test]
    fn reads_lone_surrogate_as_replacement_character() {
        let payload = Payload {
            json: r#"[{"\ud83d":"a\uDE00"},"\ud83d\ude00","\\ud83d"]"#.into(),
            attachments: vec![],
        };
        let expected = serde_json::json!([{"\u{fffd}": "a\u{fffd}"}, "😀", "\\ud83d"]);
        assert_eq!(payload.args::<serde_json::Value>().unwrap(), expected);
        assert_eq!(payload.arg::<serde_json::Value>(0).unwrap(), expected[0]);
    }

    #[test]
    fn refuses_placeholder_without_attachment() {
        let payload = Payload {
            json: r#"[{"_placeholder":true,"num":3}]"#.into(),
            attachments: vec![],
        };
        let error = payload.arg::<Binary>(0).unwrap_err().to_string();
        assert!(error.contains("attachment 3"), "{error}");
    }

    #[test]
    fn reads_missing_argument_as_null() {
        let payload = Payload::new(("a",)).unwrap();
        assert_eq!(payload.arg::<String>(0).unwrap(), "a");
        assert_eq!(payload.arg::<Option<String>>(1).unwrap(), None);
        assert_eq!(
            payload.arg::<String>(1).unwrap_err().to_string(),
            "argument 1 is missing"
        );
        assert!(
            payload
                .arg::<u32>(0)
                .unwrap_err()
                .to_string()
                .starts_with("argument 0 does not have the expected type")
        );
    }
}
