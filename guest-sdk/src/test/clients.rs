//! The clients of a kit: their channels, attributes and received events.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::effects::{Command, Refusal, Sent};
use super::{Audience, Scope, Selection};
use crate::client::merge;
use crate::native::Member;
use crate::payload::Payload;

/// All clients of one namespace, including disconnected ones, and the acknowledgements they received.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) namespace: String,
    /// The first answer to each acknowledgement.
    pub(super) acks: BTreeMap<String, Payload>,
    /// Clients that a command disconnected and whose disconnect event is still due.
    pub(super) disconnecting: VecDeque<String>,
    by_id: BTreeMap<String, ClientState>,
}

/// The state of a client. It is kept after the client has disconnected.
#[derive(Debug)]
pub(super) struct ClientState {
    /// The number of clients that were added before.
    pub(super) number: usize,
    pub(super) is_connected: bool,
    pub(super) attributes: Value,
    pub(super) channels: BTreeSet<String>,
    pub(super) inbox: Vec<Sent>,
    /// Its answers to events that ask for an acknowledgement, by event name.
    pub(super) answers: BTreeMap<String, Payload>,
    /// Set if the client was refused.
    pub(super) refusal: Option<Refusal>,
}

impl Clients {
    pub(super) fn new() -> Self {
        Self {
            namespace: "/".into(),
            acks: BTreeMap::new(),
            disconnecting: VecDeque::new(),
            by_id: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, id: &str) {
        let state = ClientState {
            number: self.by_id.len(),
            is_connected: true,
            attributes: Value::Object(Map::new()),
            channels: BTreeSet::new(),
            inbox: Vec::new(),
            answers: BTreeMap::new(),
            refusal: None,
        };
        let previous = self.by_id.insert(id.into(), state);
        assert!(
            previous.is_none(),
            "client id `{id}` was already used: ids are never reused, choose another"
        );
    }

    /// The clients in each channel, as presence shows them: with their present attributes, and joined at 0.
    pub(super) fn present(&self) -> BTreeMap<String, Vec<Member>> {
        let mut present: BTreeMap<String, Vec<Member>> = BTreeMap::new();
        for (id, client) in &self.by_id {
            for channel in &client.channels {
                present.entry(channel.clone()).or_default().push(Member {
                    client: id.clone(),
                    since_ms: 0,
                    attributes: Some(client.attributes.to_string()),
                });
            }
        }
        present
    }

    pub(super) fn remove(&mut self, id: &str) {
        let client = self.get_mut(id);
        client.is_connected = false;
        client.channels.clear();
    }

    pub(super) fn get(&self, id: &str) -> &ClientState {
        self.by_id
            .get(id)
            .unwrap_or_else(|| panic!("client `{id}` never connected"))
    }

    pub(super) fn get_mut(&mut self, id: &str) -> &mut ClientState {
        self.by_id
            .get_mut(id)
            .unwrap_or_else(|| panic!("client `{id}` never connected"))
    }

    /// Whether a client is connected; false if it never was.
    pub(super) fn is_connected(&self, id: &str) -> bool {
        self.by_id.get(id).is_some_and(|client| client.is_connected)
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
                self.disconnecting.extend(ids);
            }
            Command::PatchAttributes { id, patch } => {
                let patch = serde_json::from_str(patch).expect("the SDK writes patches as valid JSON");
                if let Some(client) = self.by_id.get_mut(id) {
                    merge(&mut client.attributes, patch);
                }
            }
            // Others change nothing that a client can see. `Timers` carries out timers.
            _ => {}
        }
    }

    /// The connected clients.
    pub(super) fn connected(&self) -> impl Iterator<Item = &ClientState> {
        self.by_id.values().filter(|client| client.is_connected)
    }

    pub(super) fn audience(&mut self, audience: &Audience) -> impl Iterator<Item = (&String, &mut ClientState)> {
        let in_namespace = audience
            .namespace
            .as_ref()
            .is_none_or(|namespace| *namespace == self.namespace);
        self.by_id.iter_mut().filter(move |(id, client)| {
            let is_selected = |selection: &Selection| {
                selection.clients.contains(id)
                    || selection
                        .channels
                        .iter()
                        .any(|channel| client.channels.contains(channel))
            };
            let in_scope = match &audience.to {
                Scope::All => true,
                Scope::Only(selection) => is_selected(selection),
            };
            in_namespace && client.is_connected && in_scope && !is_selected(&audience.except)
        })
    }
}
