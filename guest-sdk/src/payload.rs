//! Arguments of Socket.IO events: from Rust values to a [`Payload`], and back.
//!
//! A payload that is only passed on is never parsed.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, DeserializeSeed, IgnoredAny, SeqAccess, Visitor};
use serde::ser::{self, Impossible};
use serde::{Deserialize, Serialize, Serializer};

use crate::binary;
pub use crate::bindings::plugnode::app::types::Payload;
use crate::surrogates::without_lone;

/// What can be the arguments of an event or of an acknowledgement.
///
/// - `()`: no arguments.
/// - A tuple: one argument for each item, so that `("ada", 36)` is two. Arrays of a fixed length are tuples to serde,
///   and so count as tuples here; a `Vec` or a slice does not.
/// - Any other value that serde can write: one argument. `(value,)` is one argument whatever the value is.
/// - A [`Payload`], or a reference to one: passed on as it is.
///
/// [`Binary`](crate::Binary) values arrive as binary, at whatever depth they are.
pub trait Args {
    /// The arguments as they travel.
    fn to_payload(&self) -> Result<Cow<'_, Payload>, ArgsError>;
}

impl<T: Serialize + ?Sized> Args for T {
    fn to_payload(&self) -> Result<Cow<'_, Payload>, ArgsError> {
        let (json, attachments) = binary::collecting(|| write(self));
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
    /// The arguments `args` as they travel.
    pub fn new(args: impl Args) -> Result<Self, ArgsError> {
        args.to_payload().map(Cow::into_owned)
    }

    /// All arguments: a tuple with a type for each, or a `Vec` where they are all of one type.
    ///
    /// A text of JavaScript that is not one in Rust, as half of a surrogate pair stands alone in it, reads with U+FFFD there.
    pub fn args<T: DeserializeOwned>(&self) -> Result<T, ArgsError> {
        binary::lending(&self.attachments, || serde_json::from_str(&without_lone(&self.json)))
            .map_err(|error| ArgsError(format!("the arguments are not those expected: {error}")))
    }

    /// One argument, counted from 0. One that is missing reads as `null`, and so can be an `Option`.
    pub fn arg<T: DeserializeOwned>(&self, index: usize) -> Result<T, ArgsError> {
        let found = binary::lending(&self.attachments, || {
            let json = without_lone(&self.json);
            let mut json = serde_json::Deserializer::from_str(&json);
            Nth(index, PhantomData).deserialize(&mut json)
        });
        let found = found.map_err(|error| ArgsError(format!("argument {index} is not what was expected: {error}")))?;
        match found {
            Some(argument) => Ok(argument),
            None => serde_json::from_str("null").map_err(|_| ArgsError(format!("argument {index} is missing"))),
        }
    }
}

/// Arguments that cannot be written, or are not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgsError(pub(crate) String);

impl fmt::Display for ArgsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ArgsError {}

fn write<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<String> {
    // Binary values are met here too, and must not be collected twice.
    let (shape, _) = binary::collecting(|| value.serialize(ShapeOf));
    match shape {
        Err(Shape::Unit) => Ok("[]".into()),
        Err(Shape::Tuple) => serde_json::to_string(value),
        Err(Shape::Single) | Ok(()) => serde_json::to_string(&(value,)),
    }
}

/// Item N of a JSON array; none when the array is shorter.
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

/// What a value is to serde, as far as arguments care.
#[derive(Debug)]
enum Shape {
    Unit,
    Tuple,
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

/// Answers, as an error and before anything is written, which shape a value has.
struct ShapeOf;

macro_rules! single {
    ($($method:ident($($kind:ty),*) -> $answer:ty;)*) => {
        $(fn $method(self, $(_: $kind),*) -> Result<$answer, Shape> {
            Err(Shape::Single)
        })*
    };
}

impl Serializer for ShapeOf {
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
    fn tuples_spread_and_everything_else_is_one_argument() {
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
    fn a_payload_is_passed_on_as_it_is() {
        let payload = Payload {
            json: r#"[ 1 ]"#.into(),
            attachments: vec![],
        };
        assert_eq!(json(&payload), "[ 1 ]");
        assert!(matches!(Args::to_payload(&payload).unwrap(), Cow::Borrowed(_)));
    }

    #[test]
    fn binary_travels_as_attachments_at_any_depth() {
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
    fn one_binary_argument_is_one_attachment() {
        let payload = Payload::new(Binary(vec![7])).unwrap();
        assert_eq!(payload.json, r#"[{"_placeholder":true,"num":0}]"#);
        assert_eq!(payload.attachments, [vec![7]]);
    }

    #[test]
    fn half_a_surrogate_pair_reads_as_the_replacement_character() {
        let payload = Payload {
            json: r#"[{"\ud83d":"a\uDE00"},"\ud83d\ude00","\\ud83d"]"#.into(),
            attachments: vec![],
        };
        let expected = serde_json::json!([{"\u{fffd}": "a\u{fffd}"}, "😀", "\\ud83d"]);
        assert_eq!(payload.args::<serde_json::Value>().unwrap(), expected);
        assert_eq!(payload.arg::<serde_json::Value>(0).unwrap(), expected[0]);
    }

    #[test]
    fn a_placeholder_without_its_attachment_is_an_error() {
        let payload = Payload {
            json: r#"[{"_placeholder":true,"num":3}]"#.into(),
            attachments: vec![],
        };
        let error = payload.arg::<Binary>(0).unwrap_err().to_string();
        assert!(error.contains("attachment 3"), "{error}");
    }

    #[test]
    fn a_missing_argument_reads_as_null() {
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
                .starts_with("argument 0 is not what was expected")
        );
    }
}
