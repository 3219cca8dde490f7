//! Timers on request.

use std::time::Duration;

use plugnode_sdk::prelude::*;
use plugnode_sdk::{all, kv, schedule};
use serde_json::Value;

const KIND: &str = "faulty.due/1";

/// (owner, key, ms, data): sets a one-shot timer of the client or the app.
pub(super) fn after(message: &Incoming) -> Result {
    let (owner, key, ms, data): (String, String, u64, Value) = message.args()?;
    of(&owner).after(&key, Duration::from_millis(ms), KIND, &data)?;
    message.ack(())?;
    Ok(())
}

/// (owner, key, ms, data): sets a periodic timer.
pub(super) fn every(message: &Incoming) -> Result {
    let (owner, key, ms, data): (String, String, u64, Value) = message.args()?;
    of(&owner).every(&key, Duration::from_millis(ms), KIND, &data)?;
    message.ack(())?;
    Ok(())
}

/// (owner, key): cancels a timer.
pub(super) fn cancel(message: &Incoming) -> Result {
    let (owner, key): (String, String) = message.args()?;
    of(&owner).cancel(&key)?;
    message.ack(())?;
    Ok(())
}

/// Counts a due timer under `due:KEY`, and emits `due` with key, data and missed periods to its client, or to all clients.
pub(super) fn due(due: &schedule::Due) -> Result {
    kv::open("default")?.add(&format!("due:{}", due.key), 1)?;
    let args = (&due.key, due.data::<Value>()?, due.missed);
    match &due.client {
        Some(client) => client.emit("due", args)?,
        None => all().emit("due", args)?,
    }
    Ok(())
}

fn of(owner: &str) -> schedule::Timers {
    match owner {
        "client" => schedule::of_client(),
        _ => schedule::of_app(),
    }
}
