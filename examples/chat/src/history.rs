//! The last fifteen messages.
//!
//! One key for each message, made of the time it came in and of its event's id, so that instances which add at the same
//! time never write the same key, and sorting the keys sorts the messages. Whoever adds one removes those beyond the
//! fifteen that it sees; that others do so at the same time does no harm, for each removes only what has fifteen
//! newer ones.

use plugnode_sdk::{Result, kv};
use serde::Serialize;
use serde_json::Value;

const KEPT: usize = 15;
const BUCKET: &str = "default";
const PREFIX: &str = "message:";

/// Adds a message.
pub(crate) fn add(at_ms: u64, id: &str, message: &impl Serialize) -> Result {
    let bucket = kv::open(BUCKET)?;
    bucket.set(&format!("{PREFIX}{at_ms:015}:{id}"), message)?;
    let keys = keys(&bucket)?;
    let beyond = &keys[..keys.len().saturating_sub(KEPT)];
    if !beyond.is_empty() {
        bucket.delete_many(beyond)?;
    }
    Ok(())
}

/// The last messages, oldest first, as they were added.
pub(crate) fn last() -> Result<Vec<Value>> {
    let bucket = kv::open(BUCKET)?;
    let keys = keys(&bucket)?;
    let latest = &keys[keys.len().saturating_sub(KEPT)..];
    Ok(bucket.get_many(latest)?.into_iter().flatten().collect())
}

fn keys(bucket: &kv::Bucket) -> Result<Vec<String>> {
    let mut keys = bucket.keys()?;
    keys.retain(|key| key.starts_with(PREFIX));
    keys.sort_unstable();
    Ok(keys)
}
