//! The partitions that an io-node prefers for its new clients: a few of each app-node, so that its batches are large. Clients of other
//! io-nodes are in other partitions, because the choice depends on the name of the io-node.

use std::collections::{HashMap, HashSet};
use std::sync::{RwLock, RwLockReadGuard};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::membership::member::ClusterView;
use plugnode_message::{NodeId, Partition, SessionId};
use plugnode_transport::partition_of;

/// Number of preferred partitions of each app-node, in all shards.
const OF_EACH: usize = 2;
/// Number of preferred partitions of all app-nodes at least, so that clients are spread over app-nodes that join later.
const OF_ALL: usize = 16;

/// The partitions that an io-node prefers.
pub(crate) struct PreferredPartitions {
    io_node: NodeId,
    /// Number of all partitions.
    partitions: u16,
    /// The preferred ones of each shard.
    preferred: RwLock<Vec<HashSet<Partition>>>,
}

impl PreferredPartitions {
    /// No preference yet.
    pub(crate) fn none(io_node: NodeId, partitions: u16, shards: u16) -> Self {
        Self {
            io_node,
            partitions,
            preferred: RwLock::new(vec![HashSet::new(); usize::from(shards)]),
        }
    }

    /// Whether a client with this id is in a preferred partition. True for all if there is none.
    pub(crate) fn has(&self, client: &SessionId) -> bool {
        let partition = partition_of(client, self.partitions);
        let preferred = self.preferred();
        let shard = usize::from(partition.0) % preferred.len();
        preferred[shard].contains(&partition) || preferred.iter().all(HashSet::is_empty)
    }

    /// Chooses among the partitions of a shard that app-nodes lease.
    pub(crate) fn choose(&self, shard: u16, view: &ClusterView) {
        let mut leased: HashMap<&str, Vec<Partition>> = HashMap::new();
        for (partition, lease) in &view.leases {
            let holder = lease.split_once('@').map(|(_, name)| name);
            if let Some(holder) = holder.filter(|holder| view.apps.iter().any(|app| app.as_str() == *holder)) {
                leased.entry(holder).or_default().push(*partition);
            }
        }
        let shards = self.preferred().len();
        let of_each = OF_EACH.max(OF_ALL.div_ceil(leased.len().max(1))).div_ceil(shards);
        let name = self.io_node.as_str().as_bytes();
        let mut chosen = HashSet::new();
        for mut partitions in leased.into_values() {
            partitions.sort_unstable_by_key(|partition| (xxh3_64_with_seed(name, u64::from(partition.0)), *partition));
            chosen.extend(partitions.into_iter().take(of_each));
        }
        let mut preferred = self.preferred.write().expect("nothing panics while it holds this lock");
        preferred[usize::from(shard)] = chosen;
    }

    fn preferred(&self) -> RwLockReadGuard<'_, Vec<HashSet<Partition>>> {
        self.preferred.read().expect("nothing panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTITIONS: u16 = 64;

    /// A view in which these app-nodes lease the partitions of a shard in turn.
    fn view(apps: &[&str], shard: u16, shards: u16) -> ClusterView {
        let partitions = (shard..PARTITIONS).step_by(usize::from(shards));
        let leases = partitions.enumerate().map(|(place, partition)| {
            let holder = apps[place % apps.len()];
            (Partition(partition), format!("1:incarnation@{holder}"))
        });
        ClusterView {
            leases: leases.collect(),
            apps: apps.iter().map(|app| NodeId::from(*app)).collect(),
            ..ClusterView::default()
        }
    }

    fn chosen(preferred: &PreferredPartitions) -> HashSet<Partition> {
        let ids = (0..2_000).map(|number| SessionId::from(format!("client-{number}")));
        let mine = ids.filter(|id| preferred.has(id));
        mine.map(|id| partition_of(&id, PARTITIONS)).collect()
    }

    #[test]
    fn a_few_partitions_of_each_app_node_are_preferred() {
        let preferred = PreferredPartitions::none("io-1".into(), PARTITIONS, 1);
        assert_eq!(chosen(&preferred).len(), 64, "nothing is known");
        preferred.choose(0, &view(&["a"], 0, 1));
        let of_one = chosen(&preferred);
        assert_eq!(of_one.len(), 16);
        preferred.choose(0, &view(&["a"], 0, 1));
        assert_eq!(chosen(&preferred), of_one, "the choice is stable");
        let other = PreferredPartitions::none("io-2".into(), PARTITIONS, 1);
        other.choose(0, &view(&["a"], 0, 1));
        assert_ne!(chosen(&other), of_one);

        let names: Vec<String> = (0..16).map(|number| format!("app-{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let all = view(&names, 0, 1);
        preferred.choose(0, &all);
        let of_all = chosen(&preferred);
        assert_eq!(of_all.len(), 32);
        for name in names {
            let its = of_all.iter().filter(|partition| all.leases[*partition].ends_with(name));
            assert!(its.count() >= 2, "{name}");
        }
    }

    #[test]
    fn partitions_of_each_shard_and_of_living_holders_are_preferred() {
        let preferred = PreferredPartitions::none("io".into(), PARTITIONS, 4);
        for shard in 0..4 {
            preferred.choose(shard, &view(&["a", "b"], shard, 4));
        }
        let partitions = chosen(&preferred);
        assert_eq!(partitions.len(), 16);
        for shard in 0..4 {
            assert_eq!(
                partitions.iter().filter(|partition| partition.0 % 4 == shard).count(),
                4
            );
        }
        let gone = ClusterView {
            apps: vec!["b".into()],
            ..view(&["a", "b"], 0, 4)
        };
        preferred.choose(0, &gone);
        let of_b = view(&["a", "b"], 0, 4);
        for partition in chosen(&preferred).iter().filter(|partition| partition.0 % 4 == 0) {
            assert!(of_b.leases[partition].ends_with("@b"));
        }
    }
}
