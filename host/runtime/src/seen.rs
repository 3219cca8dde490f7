//! Which instances have seen which client, so that an instance that has not is given `no-client` first.

use plugnode_message::id_map::ById;
use plugnode_message::{Namespace, SessionId};

/// How many instances this can tell apart.
pub(super) const MOST: usize = u64::BITS as usize;

/// A client of any namespace.
pub(super) type Key = (Namespace, SessionId);

/// For each client the instances that have seen it. An instance that is replaced has seen nobody; that is told from
/// the turn at which it was made, so that replacing one costs the same whatever the number of clients.
#[derive(Debug, Default)]
pub(super) struct Seen {
    clients: ById<Key, Sighting>,
    /// Grows with every replacement.
    turn: u64,
    /// The turn at which each instance was made.
    made: Vec<u64>,
}

/// The instances that had seen a client as of some turn, a bit each.
#[derive(Debug, Clone, Copy)]
struct Sighting {
    by: u64,
    turn: u64,
}

impl Seen {
    pub(super) fn new(instances: usize) -> Self {
        Self {
            made: vec![0; instances],
            ..Self::default()
        }
    }

    /// Whether this instance has seen the client.
    pub(super) fn has(&self, instance: usize, client: &Key) -> bool {
        let sighting = self.clients.get(client);
        sighting.is_some_and(|sighting| self.is_present(instance, sighting))
    }

    /// This instance has seen the client.
    pub(super) fn mark(&mut self, instance: usize, client: Key) {
        let (made, turn) = (&self.made, self.turn);
        let sighting = self.clients.entry(client).or_insert(Sighting { by: 0, turn });
        if sighting.turn != turn {
            let gone = made.iter().enumerate().filter(|(_, made)| **made > sighting.turn);
            sighting.by = gone.fold(sighting.by, |by, (instance, _)| by & !(1 << instance));
            sighting.turn = turn;
        }
        sighting.by |= 1 << instance;
    }

    /// Whom this instance has seen.
    pub(super) fn by(&self, instance: usize) -> Vec<Key> {
        let seen = self
            .clients
            .iter()
            .filter(|(_, sighting)| self.is_present(instance, sighting));
        seen.map(|(client, _)| client.clone()).collect()
    }

    /// This instance is a new one.
    pub(super) fn replace(&mut self, instance: usize) {
        self.turn += 1;
        self.made[instance] = self.turn;
    }

    /// The client is gone for good.
    pub(super) fn forget(&mut self, client: &Key) {
        self.clients.remove(client);
    }

    fn is_present(&self, instance: usize, sighting: &Sighting) -> bool {
        sighting.by & (1 << instance) != 0 && self.made[instance] <= sighting.turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> Key {
        ("/".into(), id.into())
    }

    #[test]
    fn a_replaced_instance_has_seen_nobody_and_the_others_what_they_saw() {
        let mut seen = Seen::new(2);
        seen.mark(0, key("a"));
        seen.mark(1, key("a"));
        seen.mark(0, key("b"));
        seen.replace(0);
        assert!(!seen.has(0, &key("a")));
        assert!(seen.has(1, &key("a")));
        assert!(!seen.has(0, &key("b")));
        seen.mark(1, key("b"));
        assert!(
            !seen.has(0, &key("b")),
            "marking one instance must not bring the other back"
        );
        seen.mark(0, key("a"));
        assert!(seen.has(0, &key("a")) && seen.has(1, &key("a")));
    }

    #[test]
    fn a_forgotten_client_was_seen_by_nobody() {
        let mut seen = Seen::new(64);
        seen.mark(63, key("a"));
        assert!(seen.has(63, &key("a")));
        seen.forget(&key("a"));
        assert!(!seen.has(63, &key("a")));
        assert!(seen.clients.is_empty());
    }
}
