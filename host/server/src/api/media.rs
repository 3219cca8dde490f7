//! JSON and MessagePack, as the headers of a request name them. Both are read to JSON with attachments, as events have it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};

use super::problem::Problem;
use plugnode_message::Payload;
use plugnode_socket_io::msgpack;

/// A media type of bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    Json,
    MessagePack,
}

impl Media {
    /// The media type of a request's body.
    pub(super) fn of_body(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut codings = headers.get_all(CONTENT_ENCODING).iter();
        if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            let detail = "bodies are not decompressed; send it without a Content-Encoding";
            return Err(Problem::unsupported_media_type(detail).of_field("Content-Encoding"));
        }
        let unsupported = || {
            let detail = "send the body as application/json in UTF-8, or as application/msgpack";
            Problem::unsupported_media_type(detail).of_field("Content-Type")
        };
        let mut types = headers.get_all(CONTENT_TYPE).iter();
        let (Some(named), None) = (types.next(), types.next()) else {
            return Err(unsupported());
        };
        let named = named.to_str().ok().filter(|text| is_in_utf8(text));
        named.and_then(Self::named).ok_or_else(unsupported)
    }

    /// The media type for the answer: the first acceptable one, and that of the body if any is.
    pub(super) fn for_answer(headers: &HeaderMap, body: Self) -> Result<Self, Problem> {
        let mut accepted = headers.get_all(ACCEPT).iter().peekable();
        if accepted.peek().is_none() {
            return Ok(body);
        }
        let texts = accepted.filter_map(|value| value.to_str().ok());
        for range in texts.flat_map(|text| text.split(',')) {
            let (range, parameters) = range.split_once(';').unwrap_or((range, ""));
            let weight = parameters.split(';').find_map(|one| one.trim().strip_prefix("q="));
            if weight.is_some_and(|weight| weight.trim().parse() == Ok(0.0)) {
                continue;
            }
            match range.trim() {
                "*/*" | "application/*" => return Ok(body),
                range => {
                    if let Some(media) = Self::named(range) {
                        return Ok(media);
                    }
                }
            }
        }
        Err(Problem::not_acceptable())
    }

    fn named(text: &str) -> Option<Self> {
        let name = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match &*name {
            "application/json" => Some(Self::Json),
            "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => Some(Self::MessagePack),
            _ => None,
        }
    }

    pub(super) fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json => "application/json",
            Self::MessagePack => "application/msgpack",
        })
    }

    /// Reads a body: JSON with attachments.
    pub(super) fn read(self, body: &Bytes) -> Result<Payload, Problem> {
        match self {
            Self::Json => {
                let text = std::str::from_utf8(body);
                let text = text.map_err(|error| {
                    Problem::malformed(format!("the body is not UTF-8: {error}; send JSON in UTF-8"))
                })?;
                Ok(Payload {
                    json: text.into(),
                    attachments: Vec::new(),
                })
            }
            Self::MessagePack => {
                let read = msgpack::to_json(body);
                let read =
                    read.map_err(|error| Problem::malformed(format!("{error}; send one value in MessagePack")))?;
                Ok(Payload {
                    json: read.json.as_str().into(),
                    attachments: read.attachments,
                })
            }
        }
    }

    /// Writes the fields of an answer. `payload`, an array, becomes the field with the name. In JSON, its attachments become a list of
    /// base64 texts beside it.
    pub(super) fn write(
        self,
        mut fields: serde_json::Map<String, serde_json::Value>,
        payload: Option<(&str, &Payload)>,
    ) -> Bytes {
        let attachments = payload.map(|(_, payload)| &payload.attachments[..]).unwrap_or_default();
        if self == Self::Json && !attachments.is_empty() {
            let encoded: Vec<_> = attachments.iter().map(|bytes| BASE64.encode(bytes)).collect();
            fields.insert("attachments".into(), encoded.into());
        }
        let mut text = serde_json::Value::Object(fields).to_string();
        if let Some((name, payload)) = payload {
            // Passed on unparsed. There is at least one other field.
            text.pop();
            text.push_str(&format!(r#","{name}":{}}}"#, payload.json));
        }
        match self {
            Self::Json => text.into(),
            Self::MessagePack => msgpack::from_json(&text, attachments),
        }
    }
}

/// Whether a media type names no other character set than UTF-8.
fn is_in_utf8(media_type: &str) -> bool {
    let mut parameters = media_type
        .split(';')
        .skip(1)
        .filter_map(|one| one.trim().split_once('='));
    parameters.all(|(name, value)| {
        !name.trim().eq_ignore_ascii_case("charset") || value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
    })
}
