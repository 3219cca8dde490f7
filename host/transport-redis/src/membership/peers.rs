//! The app-nodes of the cluster as the last heartbeat in shard 0 listed them; logs those that vanish without leaving.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tracing::warn;

/// The app-nodes of the last heartbeat. All members of this process share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peers(Arc<Mutex<HashMap<String, Peer>>>);

#[derive(Debug)]
struct Peer {
    /// Ends with `-` while the app-node is leaving.
    incarnation: String,
    partitions: usize,
}

impl Peers {
    /// Replaces the list, and warns about each app-node that has vanished without leaving. `left` has the incarnations of those that
    /// have left: one that leaves quickly is never seen as leaving.
    pub(crate) fn observe(&self, apps: &[(String, String)], leases: &[(u16, String)], left: &str) {
        let mut known = self.0.lock().expect("nothing panics while it holds this lock");
        let held_by = |name: &str, incarnation: &str| {
            let holder = format!("{}@{name}", incarnation.trim_end_matches('-'));
            let held = leases
                .iter()
                .filter(|(_, lease)| lease.split_once(':').is_some_and(|(_, member)| member == holder));
            held.count()
        };
        let is_present = |name: &str| apps.iter().any(|(other, _)| other == name);
        for (name, peer) in known.extract_if(|name, _| !is_present(name)) {
            // Some of its partitions may have been taken over already.
            let partitions = peer.partitions.max(held_by(&name, &peer.incarnation));
            if !peer.incarnation.ends_with('-') && !left.contains(&peer.incarnation) {
                warn!(
                    app_node = name,
                    partitions, "an app-node is gone without having left: others take its partitions over"
                );
            }
        }
        for (name, incarnation) in apps {
            let (partitions, before) = (held_by(name, incarnation), known.get(name));
            let partitions = match before.filter(|before| before.incarnation == *incarnation) {
                // Keeps the last count above 0: an app-node that dies loses all partitions before it vanishes.
                Some(before) if partitions == 0 => before.partitions,
                _ => partitions,
            };
            let incarnation = incarnation.clone();
            known.insert(
                name.clone(),
                Peer {
                    incarnation,
                    partitions,
                },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::Lines;

    #[test]
    fn only_nodes_that_have_not_left_are_reported() {
        let (lines, _guard) = Lines::heard();
        let peers = Peers::default();
        let apps = ["quick", "slow", "dead"].map(|name| (name.to_owned(), format!("of-{name}")));
        peers.observe(&apps, &[(7, "1:of-dead@dead".into())], "");
        let mut leaving = apps.to_vec();
        leaving[1].1.push('-');
        peers.observe(&leaving, &[(7, "1:of-dead@dead".into())], " of-quick ");
        peers.observe(&[], &[], " of-quick ");
        assert_eq!(lines.with("WARN", "gone without having left"), 1);
        assert_eq!(lines.with("WARN", "app_node=\"dead\" partitions=1"), 1);
    }
}
