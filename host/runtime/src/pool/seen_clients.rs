//! Which instances have seen which client. An instance that gets an event of a client it has not seen is given `no-client`
//! first.

use plugnode_message::id_map::ById;
use plugnode_message::{Namespace, SessionId};

/// Most instances of a pool: one bit each.
pub(crate) const MAX_INSTANCES: usize = u64::BITS as usize;

/// A client, by namespace and session id.
pub(crate) type ClientKey = (Namespace, SessionId);

/// For each client, the instances that have seen it. Replacing an instance, which then has seen no client, takes constant
/// time: each instance has the generation in which it was made, and bits of an older generation do not count.
#[derive(Debug, Default)]
pub(crate) struct SeenClients {
    clients: ById<ClientKey, SeenBy>,
    /// Incremented by every replacement.
    generation: u64,
    /// The generation in which each instance was made.
    made_in: Vec<u64>,
}

/// The instances that had seen a client as of a generation.
#[derive(Debug, Clone, Copy)]
struct SeenBy {
    instances: u64,
    generation: u64,
}

impl SeenClients {
    pub(crate) fn new(instances: usize) -> Self {
        Self {
            made_in: vec![0; instances],
            ..Self::default()
        }
    }

    /// Whether this instance has seen the client.
    pub(crate) fn has(&self, instance: usize, client: &ClientKey) -> bool {
        let seen_by = self.clients.get(client);
        seen_by.is_some_and(|seen_by| self.contains(seen_by, instance))
    }

    /// Records that this instance has seen the client.
    pub(crate) fn mark(&mut self, instance: usize, client: ClientKey) {
        let (made_in, generation) = (&self.made_in, self.generation);
        let seen_by = self.clients.entry(client).or_insert(SeenBy {
            instances: 0,
            generation,
        });
        if seen_by.generation != generation {
            for (instance, made_in) in made_in.iter().enumerate() {
                if *made_in > seen_by.generation {
                    seen_by.instances &= !(1 << instance);
                }
            }
            seen_by.generation = generation;
        }
        seen_by.instances |= 1 << instance;
    }

    /// The clients that this instance has seen.
    pub(crate) fn seen_by(&self, instance: usize) -> Vec<ClientKey> {
        let seen = self
            .clients
            .iter()
            .filter(|(_, seen_by)| self.contains(seen_by, instance));
        seen.map(|(client, _)| client.clone()).collect()
    }

    /// Records that this instance was replaced by a new one.
    pub(crate) fn instance_replaced(&mut self, instance: usize) {
        self.generation += 1;
        self.made_in[instance] = self.generation;
    }

    /// Removes a client that has disconnected.
    pub(crate) fn forget(&mut self, client: &ClientKey) {
        self.clients.remove(client);
    }

    fn contains(&self, seen_by: &SeenBy, instance: usize) -> bool {
        seen_by.instances & (1 << instance) != 0 && self.made_in[instance] <= seen_by.generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> ClientKey {
        ("/".into(), id.into())
    }

    #[test]
    fn replacing_an_instance_clears_only_what_it_has_seen() {
        let mut seen = SeenClients::new(2);
        seen.mark(0, key("a"));
        seen.mark(1, key("a"));
        seen.mark(0, key("b"));
        seen.instance_replaced(0);
        assert!(!seen.has(0, &key("a")));
        assert!(seen.has(1, &key("a")));
        assert!(!seen.has(0, &key("b")));
        seen.mark(1, key("b"));
        assert!(
            !seen.has(0, &key("b")),
            "marking one instance must not restore the other's bit"
        );
        seen.mark(0, key("a"));
        assert!(seen.has(0, &key("a")) && seen.has(1, &key("a")));
    }

    #[test]
    fn forgotten_client_was_seen_by_no_instance() {
        let mut seen = SeenClients::new(64);
        seen.mark(63, key("a"));
        assert!(seen.has(63, &key("a")));
        seen.forget(&key("a"));
        assert!(!seen.has(63, &key("a")));
        assert!(seen.clients.is_empty());
    }
}
