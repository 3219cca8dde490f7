//! The clients of one namespace: who is there, and who is subscribed to what.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use super::codec::Codec;
use super::hooks::Hooks;
use super::incarnation::Gate;
use super::member::Member;
use plugnode_message::id_map::{ById, Ids};
use plugnode_message::{Audience, Channel, Namespace, NodeId, Scope, SessionId};
use plugnode_process::timings;

/// What all clients of this io-node have in common.
pub(super) struct Common {
    pub(super) io_node: NodeId,
    pub(super) codec: Codec,
    pub(super) gate: Arc<Gate>,
    /// How many channels a client may be subscribed to.
    pub(super) max_channels: AtomicUsize,
    pub(super) hooks: Hooks,
}

/// The clients of one namespace on this io-node.
pub(super) struct Clients {
    pub(super) namespace: Namespace,
    pub(super) common: Arc<Common>,
    /// How long a handler may take to admit a client; none when it is not asked.
    pub(super) admission: Option<Duration>,
    present: RwLock<Present>,
}

#[derive(Default)]
struct Present {
    /// They wait to be admitted, or left before they were.
    at_door: ById<SessionId, Arc<Member>>,
    members: ById<SessionId, Arc<Member>>,
    channels: HashMap<Channel, Ids<SessionId>>,
    subscriptions: ById<SessionId, HashSet<Channel>>,
}

/// A client cannot be subscribed to so many channels.
pub(super) struct TooManyChannels;

impl Clients {
    pub(super) fn new(namespace: Namespace, admission: Option<Duration>, common: Arc<Common>) -> Arc<Self> {
        Arc::new(Self {
            namespace,
            common,
            admission,
            present: RwLock::default(),
        })
    }

    /// Notes a client that waits to be admitted.
    pub(super) fn wait_at_door(&self, member: &Arc<Member>) {
        self.present_mut().at_door.insert(member.id.clone(), member.clone());
    }

    /// Notes a client that is connected.
    pub(super) fn let_in(&self, member: &Arc<Member>) {
        let mut present = self.present_mut();
        present.at_door.remove(&member.id);
        if present.members.insert(member.id.clone(), member.clone()).is_none() {
            timings::CLIENTS.more();
        }
    }

    /// Forgets a client.
    pub(super) fn remove(&self, id: &SessionId) {
        let mut present = self.present_mut();
        present.at_door.remove(id);
        if present.members.remove(id).is_some() {
            timings::CLIENTS.fewer();
        }
        for channel in present.subscriptions.remove(id).into_iter().flatten() {
            present.leave(&channel, id);
        }
    }

    /// A client that is connected.
    pub(super) fn find(&self, id: &SessionId) -> Option<Arc<Member>> {
        self.present().members.get(id).cloned()
    }

    /// A client that is connected or at the door.
    pub(super) fn find_at_door(&self, id: &SessionId) -> Option<Arc<Member>> {
        let present = self.present();
        present.at_door.get(id).or_else(|| present.members.get(id)).cloned()
    }

    /// All that are connected.
    pub(super) fn connected(&self) -> Vec<Arc<Member>> {
        self.present().members.values().cloned().collect()
    }

    /// All of them, also those at the door.
    pub(super) fn all(&self) -> Vec<Arc<Member>> {
        let present = self.present();
        present
            .members
            .values()
            .chain(present.at_door.values())
            .cloned()
            .collect()
    }

    pub(super) fn are_gone(&self) -> bool {
        let present = self.present();
        present.members.is_empty() && present.at_door.is_empty()
    }

    /// Those of an audience that are here, each once.
    pub(super) fn audience(&self, audience: &Audience) -> Vec<Arc<Member>> {
        let present = self.present();
        if let Some(id) = audience.only_client() {
            return present.members.get(id).cloned().into_iter().collect();
        }
        let mut left_out: Ids<&SessionId> = audience.except.clients.iter().collect();
        for channel in &audience.except.channels {
            left_out.extend(present.channels.get(channel).into_iter().flatten());
        }
        let is_meant = |id: &SessionId| left_out.is_empty() || !left_out.contains(id);
        let selection = match &audience.to {
            Scope::All => {
                let members = present.members.values();
                return members.filter(|member| is_meant(&member.id)).cloned().collect();
            }
            Scope::Only(selection) => selection,
        };
        let of_channels = selection
            .channels
            .iter()
            .filter_map(|channel| present.channels.get(channel));
        let ids = selection.clients.iter().chain(of_channels.flatten());
        let mut seen = Ids::default();
        let is_once = selection.channels.len() + selection.clients.len() == 1;
        ids.filter(|id| is_meant(id) && (is_once || seen.insert(*id)))
            .filter_map(|id| present.members.get(id).cloned())
            .collect()
    }

    /// Subscribes a client that is here to channels; to none of them when they are too many.
    pub(super) fn subscribe(&self, id: &SessionId, channels: &[Channel]) -> Result<(), TooManyChannels> {
        let present = &mut *self.present_mut();
        if !present.members.contains_key(id) {
            return Ok(());
        }
        let subscriptions = present.subscriptions.entry(id.clone()).or_default();
        let new = channels
            .iter()
            .filter(|channel| !subscriptions.contains(*channel))
            .count();
        if subscriptions.len() + new > self.common.max_channels.load(Ordering::Relaxed) {
            return Err(TooManyChannels);
        }
        for channel in channels {
            if subscriptions.insert(channel.clone()) {
                present.channels.entry(channel.clone()).or_default().insert(id.clone());
            }
        }
        Ok(())
    }

    /// Ends subscriptions of a client.
    pub(super) fn unsubscribe(&self, id: &SessionId, channels: &[Channel]) {
        let present = &mut *self.present_mut();
        let Some(subscriptions) = present.subscriptions.get_mut(id) else {
            return;
        };
        let ended: Vec<_> = channels
            .iter()
            .filter(|channel| subscriptions.remove(channel))
            .collect();
        if subscriptions.is_empty() {
            present.subscriptions.remove(id);
        }
        ended.into_iter().for_each(|channel| present.leave(channel, id));
    }

    /// The channels of a client.
    pub(super) fn subscriptions(&self, id: &SessionId) -> Vec<Channel> {
        let present = self.present();
        present.subscriptions.get(id).into_iter().flatten().cloned().collect()
    }

    /// How many channels have clients here, and as many as asked for, with how many clients they have.
    pub(super) fn channels(&self, most: usize) -> (usize, Vec<(Channel, u32)>) {
        let channels = &self.present().channels;
        let some = channels.iter().take(most);
        let named = some.map(|(channel, clients)| (channel.clone(), clients.len() as u32));
        (channels.len(), named.collect())
    }

    fn present(&self) -> RwLockReadGuard<'_, Present> {
        self.present.read().expect("nothing panics while it holds this lock")
    }

    fn present_mut(&self) -> RwLockWriteGuard<'_, Present> {
        self.present.write().expect("nothing panics while it holds this lock")
    }
}

impl Present {
    fn leave(&mut self, channel: &Channel, id: &SessionId) {
        if let Some(clients) = self.channels.get_mut(channel) {
            clients.remove(id);
            if clients.is_empty() {
                self.channels.remove(channel);
            }
        }
    }
}
