//! Timers on request.

use std::time::Duration;

use plugnode_sdk::prelude::*;
use plugnode_sdk::{all, kv, schedule};
use serde_json::Value;

const KIND: &str = "faulty.due/1";

/// (owner, key, ms, data): a timer of the client or of the app, once;
pub(super) fn after(message: &Incoming) -> Result {
    let (owner, key, ms, data): (String, String, u64, Value) = message.args()?;
    of(&owner).after(&key, Duration::from_millis(ms), KIND, &data)?;
    message.ack(())?;
    Ok(())
}

/// the same again and again;
pub(super) fn every(message: &Incoming) -> Result {
    let (owner, key, ms, data): (String, String, u64, Value) = message.args()?;
    of(&owner).every(&key, Duration::from_millis(ms), KIND, &data)?;
    message.ack(())?;
    Ok(())
}

/// (owner, key): none any more.
pub(super) fn cancel(message: &Incoming) -> Result {
    let (owner, key): (String, String) = message.args()?;
    of(&owner).cancel(&key)?;
    message.ack(())?;
    Ok(())
}

/// Counts a timer that is due under `due:KEY`, and tells its client, or everybody, as `due` with key, data and what was missed.
pub(super) fn due(due: &schedule::Due) -> Result {
    kv::open("default")?.add(&format!("due:{}", due.key), 1)?;
    let told = (&due.key, due.data::<Value>()?, due.missed);
    match &due.client {
        Some(client) => client.emit("due", told)?,
        None => all().emit("due", told)?,
    }
    Ok(())
}

fn of(owner: &str) -> schedule::Timers {
    match owner {
        "client" => schedule::of_client(),
        _ => schedule::of_app(),
    }
}
