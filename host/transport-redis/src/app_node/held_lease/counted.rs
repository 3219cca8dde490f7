//! For instruction counts: a lease without a lease manager. See `plugnode_testing::counted`.

use super::*;

impl HeldLease {
    /// A lease of partition 0, without any progress.
    pub(crate) fn unmanaged() -> Arc<Self> {
        Arc::new(Self {
            partition: Partition(0),
            lease: "app-1#1/1".into(),
            end: Arc::default(),
            progress: Mutex::default(),
            changed: Arc::default(),
            returns: mpsc::unbounded_channel().0,
        })
    }
}
