//! The clients of a kit: their channels, their attributes, and what reached them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::effects::{Command, Refusal, Sent};
use super::{Audience, Scope, Selection};
use crate::client::merge;
use crate::payload::Payload;

/// All clients that ever were, in one namespace, and the answers they got.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) namespace: String,
    /// The first answer to each acknowledgement.
    pub(super) acks: BTreeMap<String, Payload>,
    /// Those whom a command disconnected, and who have not had their disconnect event.
    pub(super) gone: VecDeque<String>,
    by_id: BTreeMap<String, Connected>,
}

/// A client, which stays known when it is gone.
#[derive(Debug)]
pub(super) struct Connected {
    /// How many were before it.
    pub(super) number: usize,
    pub(super) live: bool,
    pub(super) attributes: Value,
    pub(super) channels: BTreeSet<String>,
    pub(super) inbox: Vec<Sent>,
    /// What it acknowledges events with that ask for it.
    pub(super) answers: BTreeMap<String, Payload>,
    /// How it was refused, if it was.
    pub(super) refusal: Option<Refusal>,
}

impl Clients {
    pub(super) fn new() -> Self {
        Self {
            namespace: "/".into(),
            acks: BTreeMap::new(),
            gone: VecDeque::new(),
            by_id: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, id: &str) {
        let connected = Connected {
            number: self.by_id.len(),
            live: true,
            attributes: Value::Object(Map::new()),
            channels: BTreeSet::new(),
            inbox: Vec::new(),
            answers: BTreeMap::new(),
            refusal: None,
        };
        let known = self.by_id.insert(id.into(), connected);
        assert!(
            known.is_none(),
            "client ids are never used again, and `{id}` was used before"
        );
    }

    pub(super) fn remove(&mut self, id: &str) {
        let client = self.get_mut(id);
        client.live = false;
        client.channels.clear();
    }

    pub(super) fn get(&self, id: &str) -> &Connected {
        self.by_id
            .get(id)
            .unwrap_or_else(|| panic!("client `{id}` never connected"))
    }

    pub(super) fn get_mut(&mut self, id: &str) -> &mut Connected {
        self.by_id
            .get_mut(id)
            .unwrap_or_else(|| panic!("client `{id}` never connected"))
    }

    /// Carries out one command.
    pub(super) fn apply(&mut self, command: &Command) {
        match command {
            Command::Publish { to, event, args, .. }
            | Command::Request { to, event, args, .. }
            | Command::Collect { to, event, args, .. } => {
                for (_, client) in self.audience(to) {
                    client.inbox.push(Sent {
                        event: event.clone(),
                        payload: args.clone(),
                    });
                }
            }
            Command::Subscribe { who, channels } => {
                for (_, client) in self.audience(who) {
                    client.channels.extend(channels.iter().cloned());
                }
            }
            Command::Unsubscribe { who, channels } => {
                for (_, client) in self.audience(who) {
                    client.channels.retain(|channel| !channels.contains(channel));
                }
            }
            Command::Ack { id, args } => {
                self.acks.entry(id.clone()).or_insert_with(|| args.clone());
            }
            Command::Disconnect { who, .. } => {
                let ids = self.audience(who).map(|(id, _)| id.clone()).collect::<Vec<_>>();
                self.gone.extend(ids);
            }
            Command::PatchAttributes { id, patch } => {
                let patch = serde_json::from_str(patch).expect("the SDK writes patches as JSON");
                if let Some(client) = self.by_id.get_mut(id) {
                    merge(&mut client.attributes, patch);
                }
            }
            Command::Custom { .. }
            | Command::Refuse { .. }
            | Command::FindClients { .. }
            | Command::ListChannels { .. }
            | Command::Settle { .. }
            // A test hands their events in by itself.
            | Command::At { .. }
            | Command::Every { .. }
            | Command::Cancel { .. } => {}
        }
    }

    /// Those who are there.
    pub(super) fn live(&self) -> impl Iterator<Item = &Connected> {
        self.by_id.values().filter(|client| client.live)
    }

    pub(super) fn audience(&mut self, audience: &Audience) -> impl Iterator<Item = (&String, &mut Connected)> {
        let here = audience
            .namespace
            .as_ref()
            .is_none_or(|namespace| *namespace == self.namespace);
        self.by_id.iter_mut().filter(move |(id, client)| {
            let among = |selection: &Selection| {
                selection.clients.contains(id)
                    || selection
                        .channels
                        .iter()
                        .any(|channel| client.channels.contains(channel))
            };
            let meant = match &audience.to {
                Scope::All => true,
                Scope::Only(selection) => among(selection),
            };
            here && client.live && meant && !among(&audience.except)
        })
    }
}
