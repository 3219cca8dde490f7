//! Packets in MessagePack, as `socket.io-msgpack-parser` has them, to and from JSON with attachments.
//! <https://github.com/darrachequesne/notepack>
//!
//! MessagePack holds values that JSON does not:
//!
//! - `undefined` is left out of an object and is null in an array.
//! - A date is written as [`date`](crate::date) describes, so that it stays a date.
//! - A number that is not finite is null. A key that is a number is its text.
//! - Another extension is an array of its type and its bytes, as with Node's server.
//! - An object that looks like a placeholder has [an escaped key](plugnode_message::json::OWN_PLACEHOLDER), so that it is not taken for one.
//!
//! Each format is written while the other is read, without recursion and without a tree of values, which would take a hundred times the
//! memory of what a client can send.

mod decode;
mod encode;

pub(crate) use decode::{decode, decode_emission};
pub(crate) use encode::{connect_error, encode};

use bytes::Bytes;

use crate::malformed::Malformed;
use crate::raw_payload::RawPayload;

/// Reads a value in MessagePack as JSON with attachments.
///
/// # Errors
/// If it is not one value, is nested too deeply, or has what JSON cannot say: a text that is not UTF-8, a key that is no text, a number that
/// is not finite.
pub fn to_json(data: &[u8]) -> Result<RawPayload, Malformed> {
    decode::value(data)
}

/// Writes JSON with attachments as MessagePack. Attachments without a placeholder are left out.
pub fn from_json(json: &str, attachments: &[Bytes]) -> Bytes {
    // An attachment that several placeholders refer to is written as often: more than that is cut to nothing.
    let most = attachments.iter().map(Bytes::len).sum::<usize>().saturating_mul(2);
    encode::encode(json, attachments, most).unwrap_or_else(|_| Bytes::from_static(&[0xc0]))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::incoming::PacketContent;
    use crate::malformed::{MAX_DEPTH, Malformed};

    /// `undefined`.
    const UNDEFINED: &[u8] = b"\xd4\0\0";

    /// An event with these encoded arguments.
    fn event(args: &[&[u8]]) -> Vec<u8> {
        let head = [
            b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data",
            &[0x91 + args.len() as u8][..],
            b"\xa1e",
        ];
        [head.concat(), args.concat()].concat()
    }

    fn parts(args: &[&[u8]]) -> (String, Vec<Bytes>) {
        let PacketContent::Event(payload, None) = decode(&event(args)).unwrap().content else {
            panic!("not an event")
        };
        (payload.json.as_str().to_owned(), payload.attachments)
    }

    /// The encoded payload of an event that a handler passes on unchanged.
    fn passed_on(args: &[&[u8]]) -> Vec<u8> {
        let (json, attachments) = parts(args);
        encode(&json, &attachments, 1 << 20).unwrap().into()
    }

    #[test]
    fn keeps_types_of_javascript() {
        let date = b"\xd7\0\x00\x00\x01\x8d\xf4\xdc\x54\x95";
        assert_eq!(
            parts(&[date, UNDEFINED]).0,
            r#"["e","\u0032024-02-29T12:34:56.789Z",null]"#
        );
        assert_eq!(passed_on(&[date]), [b"\x92\xa1e", &date[..]].concat());
        let object = b"\x83\xa1a\xd4\0\0\xa1b\x01\xa1c\xd4\0\0";
        assert_eq!(parts(&[object]).0, r#"["e",{"b":1}]"#);
        // An invalid date, and an unknown extension.
        assert_eq!(parts(&[b"\xd7\0\x7f\xff\xff\xff\0\0\0\0"]).0, r#"["e",null]"#);
        let (json, attachments) = parts(&[b"\xd5\x05ab"]);
        assert_eq!(json, r#"["e",[5,{"_placeholder":true,"num":0}]]"#);
        assert_eq!(attachments, ["ab"]);
        assert_eq!(parts(&[b"\xc7\x02\0ab"]).0, r#"["e",{"_placeholder":true,"num":0}]"#);
    }

    #[test]
    fn keeps_objects_that_look_like_placeholders() {
        let own = b"\x82\xac_placeholder\xc3\xa3num\x00";
        let bytes = b"\xc4\x03abc";
        let (json, attachments) = parts(&[own, bytes]);
        assert_eq!(
            json,
            r#"["e",{"\u005fplaceholder":true,"num":0},{"_placeholder":true,"num":0}]"#
        );
        assert_eq!(attachments, ["abc"]);
        assert_eq!(passed_on(&[own, bytes]), [b"\x93\xa1e", &own[..], bytes].concat());
    }

    #[test]
    fn values_of_programs_are_read_strictly() {
        let read = |data: &[u8]| to_json(data).map(|read| read.json.as_str().to_owned());
        assert_eq!(read(b"\x81\xa1a\x92\x01\xc0").unwrap(), r#"{"a":[1,null]}"#);
        for (data, part) in [
            (&b"\xa1\xc3"[..], "UTF-8"),
            (b"\x81\xa1\xc3\x01", "UTF-8"),
            (b"\x81\x01\x01", "key"),
            (b"\xca\x7f\xc0\0\0", "NaN"),
            (b"\xcb\x7f\xf0\0\0\0\0\0\0", "inf"),
        ] {
            let error = read(data).unwrap_err().to_string();
            assert!(error.contains(part), "{data:?}: {error}");
        }
    }

    #[test]
    fn limits_nesting_as_for_json() {
        let nested = |depth: usize| [vec![0x91; depth - 1], vec![0x90]].concat();
        let (json, _) = parts(&[&nested(MAX_DEPTH - 1)]);
        assert_eq!(
            encode(&json, &[], 0).unwrap(),
            [b"\x92\xa1e".to_vec(), nested(MAX_DEPTH - 1)].concat()
        );
        assert_eq!(decode(&event(&[&nested(MAX_DEPTH)])).unwrap_err(), Malformed::Deep);
        assert_eq!(decode(&event(&[&vec![0x91; 500_000]])).unwrap_err(), Malformed::Deep);
        assert!(decode(&event(&[&vec![0x81; 500_000]])).is_err());
    }
}
