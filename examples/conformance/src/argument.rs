//! Forwards one of several arguments, unchanged and with its binary values.

use plugnode_sdk::{Payload, Result};
use serde_json::value::RawValue;

/// Only argument `index`, or `null` if there is none. Contains all attachments, because placeholders keep their numbers.
pub(crate) fn single_argument(payload: &Payload, index: usize) -> Result<Payload> {
    let args: Vec<&RawValue> = serde_json::from_str(&payload.json)?;
    let json = args.get(index).map_or("null", |argument| argument.get());
    Ok(Payload {
        json: format!("[{json}]"),
        attachments: payload.attachments.clone(),
    })
}
