//! Patches of clients' attributes that are decided here and that the clients' io-nodes may not have applied yet.
//!
//! An io-node sends the attributes along with each event, as they are when it takes the event in, and says which patch it has
//! applied last. What came after that is laid over them here, so that a client's next event sees what its events before it
//! have set.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

use super::refused::ClientKey;
use plugnode_message::id_map::ById;
use plugnode_message::{AttributePatch, Effects, Event, EventId, MOST_ATTRIBUTES, Text};

/// How many patches of one client are kept, and how many bytes of them; older ones go, and may be seen late then.
const MOST: usize = 512;
const MOST_BYTES: usize = 16 * MOST_ATTRIBUTES;

/// What was decided of a partition's clients.
#[derive(Default)]
pub(super) struct Patches {
    clients: ById<ClientKey, Pending>,
}

/// The patches of one client that its io-node is not known to have applied, in order.
#[derive(Default)]
struct Pending {
    patches: VecDeque<AttributePatch>,
    bytes: usize,
    laid: Option<Laid>,
}

/// What came of laying patches over attributes, so that the next event costs the patches since alone.
struct Laid {
    /// What the io-node sent,
    sent: Text,
    /// and the last that it has applied.
    patched: u64,
    /// The last that was laid over it.
    up_to: u64,
    attributes: Value,
    text: Text,
}

impl Patches {
    /// Begins with what the owners before have left.
    pub(super) fn new(left: Vec<AttributePatch>) -> Self {
        let mut patches = Self::default();
        left.into_iter().for_each(|patch| patches.add(patch));
        patches
    }

    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Takes note of what an event of a client has set.
    pub(super) fn note(&mut self, event: EventId, effects: &Effects) {
        let patches = effects
            .commands
            .iter()
            .filter_map(|command| AttributePatch::of(command, event));
        patches.for_each(|patch| self.add(patch));
    }

    fn add(&mut self, patch: AttributePatch) {
        let key = (patch.namespace.clone(), patch.client.clone());
        let pending = self.clients.entry(key).or_default();
        pending.bytes += patch.patch.len();
        pending.patches.push_back(patch);
    }

    /// The event as its client's events before it have left its attributes, if that is another; and the patches that nobody need
    /// know of any more. What the event itself has set, when it was handled before and came to nothing, is forgotten.
    pub(super) fn lay_over(
        &mut self,
        key: &ClientKey,
        number: u64,
        event: &Arc<Event>,
    ) -> (Option<Arc<Event>>, Vec<AttributePatch>) {
        let (Some(pending), Some(client)) = (self.clients.get_mut(key), &event.client) else {
            return (None, Vec::new());
        };
        while let Some(patch) = pending.patches.pop_back_if(|patch| patch.number >= number) {
            pending.bytes -= patch.patch.len();
            pending.laid = None;
        }
        let mut done = Vec::new();
        while let Some(patch) = pending.patches.pop_front_if(|patch| patch.number <= client.patched) {
            pending.bytes -= patch.patch.len();
            done.push(patch);
        }
        while (pending.patches.len() > MOST || pending.bytes > MOST_BYTES)
            && let Some(patch) = pending.patches.pop_front()
        {
            pending.bytes -= patch.patch.len();
            done.push(patch);
        }
        if pending.patches.is_empty() {
            self.clients.remove(key);
            return (None, done);
        }
        let attributes = pending.over(&client.attributes, client.patched);
        let mut event = Event::clone(event);
        if let Some(client) = &mut event.client {
            client.attributes = attributes;
        }
        (Some(Arc::new(event)), done)
    }

    /// The patches of a client.
    pub(super) fn of(&self, key: &ClientKey) -> Vec<AttributePatch> {
        let pending = self.clients.get(key);
        pending
            .map(|pending| pending.patches.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// The client is gone.
    pub(super) fn forget(&mut self, key: &ClientKey) {
        self.clients.remove(key);
    }
}

impl Pending {
    /// All of them over attributes that an io-node has sent.
    fn over(&mut self, sent: &Text, patched: u64) -> Text {
        let known = self
            .laid
            .take()
            .filter(|laid| laid.sent == *sent && laid.patched == patched);
        let mut laid = known.unwrap_or_else(|| Laid {
            sent: sent.clone(),
            patched,
            up_to: patched,
            attributes: serde_json::from_str(sent).unwrap_or_default(),
            text: sent.clone(),
        });
        for patch in self.patches.iter().filter(|patch| patch.number > laid.up_to) {
            // What was decided is a JSON object, and what is too large the io-node refuses as well.
            let Ok(parsed) = serde_json::from_str(&patch.patch) else {
                continue;
            };
            let mut attributes = laid.attributes.clone();
            json_patch::merge(&mut attributes, &parsed);
            let text = attributes.to_string();
            if text.len() <= MOST_ATTRIBUTES {
                (laid.attributes, laid.text) = (attributes, text.into());
            }
        }
        laid.up_to = self.patches.back().map_or(laid.up_to, |last| last.number);
        let text = laid.text.clone();
        self.laid = Some(laid);
        text
    }
}
