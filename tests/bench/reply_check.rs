//! Numbers the messages of one client that exchanges messages with the server alone, and checks the replies.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use plugnode_tests::sequence::{FIRST, SequenceCheck};

use crate::load::{Load, Progress};

/// The messages and replies of one client.
pub(crate) struct ReplyCheck {
    pub(crate) progress: Arc<Progress>,
    sent: Arc<AtomicU64>,
    check: Arc<Mutex<SequenceCheck>>,
}

impl ReplyCheck {
    /// Adds the check of one more client to a load.
    pub(crate) fn add_to(load: &mut Load) -> Self {
        let sent = Arc::<AtomicU64>::default();
        let check = Arc::new(Mutex::new(SequenceCheck::new(sent.clone())));
        load.checks.push(check.clone());
        Self {
            progress: load.progress.clone(),
            sent,
            check,
        }
    }

    /// The number of messages sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Counts one more message, and returns its number.
    pub(crate) fn next_number(&self) -> u64 {
        self.progress.expect(1);
        FIRST + self.sent.fetch_add(1, Ordering::Release)
    }

    /// Records a reply, and returns its number if it was still missing.
    pub(crate) fn record(&self, number: Option<u64>) -> Option<u64> {
        let was_missing = self.check.lock().expect("the lock is not poisoned").record(number);
        if was_missing {
            self.progress.received();
        }
        number.filter(|_| was_missing)
    }
}
