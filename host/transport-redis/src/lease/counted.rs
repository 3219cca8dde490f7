//! For counted tests: a lease that nobody has given. See `plugnode_testing::counted`.

use super::*;

impl Hold {
    /// Of the first partition, of which nothing is committed.
    pub(crate) fn of_nobody() -> Arc<Self> {
        let over = Over {
            revoked: CancellationToken::new(),
            lost: CancellationToken::new(),
        };
        Arc::new(Self {
            partition: Partition(0),
            lease: "app-1#1/1".into(),
            over: Arc::new(over),
            progress: Mutex::default(),
            forgotten: Mutex::default(),
            changed: Arc::default(),
            returns: mpsc::unbounded_channel().0,
        })
    }
}
