//! Calls of the server API on an app-node: looks up their idempotency keys, and makes their effects.
//!
//! A key is looked up before the call is carried out, and its record is written in the same commit, which fails if another call with the
//! key was committed meanwhile. So a call takes effect once, whichever app-nodes and API nodes die in between.

use std::sync::Arc;

use bytes::Bytes;
use plugnode_message::{
    Call, CallAction, CallAnswer, CallKey, CallOutcome, Command, Effects, EventId, KeyValue, Payload,
};

/// Largest record that is read: an answer that is kept, and its encoding.
const MAX_RECORD: usize = 128 << 10;

/// Why a call is refused whose key cannot be recorded.
pub(super) const KEYS_FULL: &str = "the bucket of the caller's idempotency keys is full, which keeps each for a day; use fewer keys, or raise [transport] bucket-bytes";

/// Looks up the record of a key, if there is one.
///
/// # Errors
/// Why the store cannot be read.
pub(super) async fn look_up(key: CallKey, store: Arc<dyn KeyValue>) -> Result<Option<Bytes>, String> {
    let values = store.get(&key.bucket, &[key.name], MAX_RECORD).await;
    let mut values = values.map_err(|error| error.to_string())?;
    Ok(values.pop().flatten())
}

/// The effects of a call whose commands are carried out without a handler. None: its event is for a handler.
pub(super) fn effects(call: &Call, id: EventId) -> Option<Effects> {
    let CallAction::Commands(commands) = &call.action else {
        return None;
    };
    let mut effects = Effects {
        commands: commands.clone(),
        ..Effects::default()
    };
    complete(call, id, &mut effects);
    Some(effects)
}

/// Whether this bucket has the record of the call's key.
pub(super) fn is_recorded_in(call: &Call, bucket: &str) -> bool {
    call.key.as_ref().is_some_and(|key| &*key.bucket == bucket)
}

/// The effects of a call that does nothing but answer.
pub(super) fn only_answer(call: &Call, outcome: CallOutcome) -> Effects {
    Effects {
        commands: vec![call.answer(outcome)],
        ..Effects::default()
    }
}

/// Adds the answer of a call and the record of its key to the effects of its commands or of its handler.
pub(super) fn complete(call: &Call, id: EventId, effects: &mut Effects) {
    let answer = take_acknowledgement(call, effects);
    if let Some(key) = &call.key {
        effects.reads.push(key.is_new());
        effects.writes.push(key.record(id, answer.as_ref()));
    }
    let done = CallOutcome::Done {
        event: id,
        answer,
        repeated: false,
    };
    effects.commands.push(call.answer(done));
}

/// Takes the first acknowledgement of this call out of the effects, so that it goes with the outcome.
fn take_acknowledgement(call: &Call, effects: &mut Effects) -> Option<Payload> {
    let is_its = |command: &mut Command| {
        matches!(command, Command::CallAnswer(CallAnswer { api_node, call: id, outcome: CallOutcome::Acknowledged(_) })
            if *api_node == call.api_node && *id == call.id)
    };
    let mut taken: Vec<Command> = effects.commands.extract_if(.., is_its).collect();
    match taken.drain(..).next() {
        Some(Command::CallAnswer(CallAnswer {
            outcome: CallOutcome::Acknowledged(answer),
            ..
        })) => Some(answer),
        _ => None,
    }
}
