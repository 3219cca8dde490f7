//! The last fifteen messages.
//!
//! Each message has its own key, made of its time and its event's id. Instances that add at the same time therefore write different
//! keys, and sorting the keys sorts the messages. Adding a message removes all but the fifteen newest that the event sees;
//! concurrent events may do the same, because each removes only messages that have fifteen newer ones.

use plugnode_sdk::{Result, kv};
use serde::Serialize;
use serde_json::Value;

const LIMIT: usize = 15;
const BUCKET: &str = "default";
const PREFIX: &str = "message:";

/// Adds a message.
pub(crate) fn add(at_ms: u64, id: &str, message: &impl Serialize) -> Result {
    let bucket = kv::open(BUCKET)?;
    bucket.set(&format!("{PREFIX}{at_ms:015}:{id}"), message)?;
    let keys = keys(&bucket)?;
    let old = &keys[..keys.len().saturating_sub(LIMIT)];
    if !old.is_empty() {
        bucket.delete_many(old)?;
    }
    Ok(())
}

/// The last messages, oldest first.
pub(crate) fn last() -> Result<Vec<Value>> {
    let bucket = kv::open(BUCKET)?;
    let keys = keys(&bucket)?;
    let latest = &keys[keys.len().saturating_sub(LIMIT)..];
    Ok(bucket.get_many(latest)?.into_iter().flatten().collect())
}

fn keys(bucket: &kv::Bucket) -> Result<Vec<String>> {
    let mut keys = bucket.keys()?;
    keys.retain(|key| key.starts_with(PREFIX));
    keys.sort_unstable();
    Ok(keys)
}
