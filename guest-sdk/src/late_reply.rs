//! Late replies: results of cluster queries whose client has disconnected. The host sends them as custom events with JSON data.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::incoming::{Custom, Reply};
use crate::payload::Payload;

/// The kind of these events.
const KIND: &str = "plugnode.reply/1";

#[derive(Serialize, Deserialize)]
struct Content {
    client: String,
    token: String,
    answer: Box<RawValue>,
    attachments: Vec<String>,
}

/// The id of the disconnected client, and the reply. None if the event is not a late reply.
pub(crate) fn read(custom: &Custom) -> Option<(String, Reply)> {
    if custom.kind != KIND {
        return None;
    }
    let content: Content = serde_json::from_slice(&custom.data).ok()?;
    let attachments = content.attachments.iter().map(|bytes| BASE64.decode(bytes).ok());
    let answer = Payload {
        json: format!("[{}]", content.answer),
        attachments: attachments.collect::<Option<_>>()?,
    };
    let reply = Reply {
        token: BASE64.decode(&content.token).ok()?,
        answer: Some(answer),
    };
    Some((content.client, reply))
}

/// The custom event of a late reply, for the test kit. `answer` must have one argument.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn write(client: &str, token: &[u8], answer: &Payload) -> Custom {
    let content = Content {
        client: client.into(),
        token: BASE64.encode(token),
        answer: answer.arg(0).expect("the answer of a cluster query has one argument"),
        attachments: answer.attachments.iter().map(|bytes| BASE64.encode(bytes)).collect(),
    };
    Custom {
        kind: KIND.into(),
        client: None,
        data: serde_json::to_vec(&content).expect("strings and raw JSON can be written as JSON"),
        content_type: Some("application/json".into()),
    }
}
