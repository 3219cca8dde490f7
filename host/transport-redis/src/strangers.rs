//! What other releases of plugnode wrote and this node cannot read: it is left alone, and each version is told of once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tracing::warn;

/// What was told already. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Strangers(Arc<Mutex<Told>>);

/// What, in which shard, of which version.
type Told = BTreeSet<(&'static str, u16, u8)>;

impl Strangers {
    /// Tells, the first time, that there is something of this version in a shard.
    pub(super) fn tell(&self, what: &'static str, shard: u16, version: u8) {
        let mut told = self.0.lock().expect("nothing panics while it holds this lock");
        if told.insert((what, shard, version)) {
            warn!(
                shard,
                version,
                "{what} of a version that this node does not know are left to nodes that do: run the same release of plugnode \
                 everywhere"
            );
        }
    }
}
