//! The account of one client that talks to the server alone: it numbers each message, and records each reply.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use plugnode_tests::account::{Account, FIRST};

use crate::load::{Load, Progress};

/// The account of one client.
pub(crate) struct ClientAccount {
    pub(crate) progress: Arc<Progress>,
    sent: Arc<AtomicU64>,
    account: Arc<Mutex<Account>>,
}

impl ClientAccount {
    /// Opens an account for one more client of a load.
    pub(crate) fn open(load: &mut Load) -> Self {
        let sent = Arc::<AtomicU64>::default();
        let account = Arc::new(Mutex::new(Account::new(sent.clone())));
        load.accounts.push(account.clone());
        Self {
            progress: load.progress.clone(),
            sent,
            account,
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
        let was_missing = self.account.lock().expect("the lock is not poisoned").settle(number);
        if was_missing {
            self.progress.received();
        }
        number.filter(|_| was_missing)
    }
}
