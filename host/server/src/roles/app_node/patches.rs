//! Patches of clients' attributes that this partition's events have made and that the clients' io-nodes may not have applied yet.
//!
//! An io-node sends the client's attributes with each event, and the number of the last patch that they include. Later patches are
//! applied here, so that a handler sees the attributes as the client's earlier events have left them.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

use super::in_flight::ClientKey;
use plugnode_message::id_map::ById;
use plugnode_message::{AttributePatch, Effects, Event, EventId, MAX_ATTRIBUTES, Text};

/// Limits of one client's kept patches, in number and bytes. Beyond them the oldest are dropped, and handlers see these late.
const MAX_PATCHES: usize = 512;
const MAX_BYTES: usize = 16 * MAX_ATTRIBUTES;

/// The pending patches of a partition's clients.
#[derive(Default)]
pub(super) struct Patches {
    clients: ById<ClientKey, PendingPatches>,
}

/// The patches of one client that its io-node is not known to have applied, in order.
#[derive(Default)]
struct PendingPatches {
    patches: VecDeque<AttributePatch>,
    bytes: usize,
    cached: Option<PatchedAttributes>,
}

/// Attributes with patches applied. Kept, so that the next event costs only the patches since.
struct PatchedAttributes {
    /// The attributes that the io-node sent,
    sent: Text,
    /// and the number of the last patch that they include.
    patched: u64,
    /// The last patch that is applied here.
    up_to: u64,
    attributes: Value,
    text: Text,
}

impl Patches {
    /// Begins with the patches of earlier owners of the partition.
    pub(super) fn new(left: Vec<AttributePatch>) -> Self {
        let mut patches = Self::default();
        left.into_iter().for_each(|patch| patches.add(patch));
        patches
    }

    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Adds the patches among an event's effects.
    pub(super) fn add_effects(&mut self, event: EventId, effects: &Effects) {
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

    /// Applies the pending patches to an event's attributes. Returns the changed event, if it is one, and the patches that are no
    /// longer needed. The event's own patches, from an attempt that was not committed, are dropped.
    pub(super) fn apply(
        &mut self,
        key: &ClientKey,
        sequence: u64,
        event: &Arc<Event>,
    ) -> (Option<Arc<Event>>, Vec<AttributePatch>) {
        let (Some(pending), Some(client)) = (self.clients.get_mut(key), &event.client) else {
            return (None, Vec::new());
        };
        while let Some(patch) = pending.patches.pop_back_if(|patch| patch.number >= sequence) {
            pending.bytes -= patch.patch.len();
            pending.cached = None;
        }
        let mut unneeded = Vec::new();
        while let Some(patch) = pending.patches.pop_front_if(|patch| patch.number <= client.patched) {
            pending.bytes -= patch.patch.len();
            unneeded.push(patch);
        }
        while (pending.patches.len() > MAX_PATCHES || pending.bytes > MAX_BYTES)
            && let Some(patch) = pending.patches.pop_front()
        {
            pending.bytes -= patch.patch.len();
            unneeded.push(patch);
        }
        if pending.patches.is_empty() {
            self.clients.remove(key);
            return (None, unneeded);
        }
        let attributes = pending.apply(&client.attributes, client.patched);
        let mut event = Event::clone(event);
        if let Some(client) = &mut event.client {
            client.attributes = attributes;
        }
        (Some(Arc::new(event)), unneeded)
    }

    /// The pending patches of a client.
    pub(super) fn of(&self, key: &ClientKey) -> Vec<AttributePatch> {
        let pending = self.clients.get(key);
        pending
            .map(|pending| pending.patches.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// Drops the patches of a client that has left.
    pub(super) fn forget(&mut self, key: &ClientKey) {
        self.clients.remove(key);
    }
}

impl PendingPatches {
    /// The attributes that an io-node has sent, with all pending patches applied.
    fn apply(&mut self, sent: &Text, patched: u64) -> Text {
        let known = self
            .cached
            .take()
            .filter(|cached| cached.sent == *sent && cached.patched == patched);
        let mut result = known.unwrap_or_else(|| PatchedAttributes {
            sent: sent.clone(),
            patched,
            up_to: patched,
            attributes: serde_json::from_str(sent).unwrap_or_default(),
            text: sent.clone(),
        });
        for patch in self.patches.iter().filter(|patch| patch.number > result.up_to) {
            // A patch is a JSON object. The io-node skips patches that make the attributes too large, and so does this.
            let Ok(parsed) = serde_json::from_str(&patch.patch) else {
                continue;
            };
            let mut attributes = result.attributes.clone();
            json_patch::merge(&mut attributes, &parsed);
            let text = attributes.to_string();
            if text.len() <= MAX_ATTRIBUTES {
                (result.attributes, result.text) = (attributes, text.into());
            }
        }
        result.up_to = self.patches.back().map_or(result.up_to, |last| last.number);
        let text = result.text.clone();
        self.cached = Some(result);
        text
    }
}
