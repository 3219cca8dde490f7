//! Data in a format version that this node cannot read, written by another release of plugnode. It is left alone, and
//! each version is logged once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tracing::warn;

/// The unknown versions that were logged. Clones share their state.
#[derive(Clone, Default)]
pub(crate) struct UnknownVersions(Arc<Mutex<Logged>>);

/// Kind of data, shard, version.
type Logged = BTreeSet<(&'static str, u16, u8)>;

impl UnknownVersions {
    /// Warns about this kind of data in this version, the first time in each shard.
    pub(crate) fn warn_once(&self, what: &'static str, shard: u16, version: u8) {
        let mut logged = self.0.lock().expect("nothing panics while it holds this lock");
        if logged.insert((what, shard, version)) {
            warn!(
                shard,
                version,
                "{what} of a version that this node does not know are left to nodes that do: run the same release of plugnode \
                 everywhere"
            );
        }
    }
}
