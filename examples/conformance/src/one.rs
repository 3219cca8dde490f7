//! One argument out of several, passed on as it is and with the binary that it holds.

use plugnode_sdk::{Payload, Result};
use serde_json::value::RawValue;

/// Argument `index` alone, which is `null` when there is none. Attachments keep their numbers, and so all go along.
pub(crate) fn one(payload: &Payload, index: usize) -> Result<Payload> {
    let args: Vec<&RawValue> = serde_json::from_str(&payload.json)?;
    let json = args.get(index).map_or("null", |argument| argument.get());
    Ok(Payload {
        json: format!("[{json}]"),
        attachments: payload.attachments.clone(),
    })
}
