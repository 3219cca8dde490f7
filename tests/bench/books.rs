//! The books of a client that talks to the server alone: each of its messages is numbered when it is sent, and booked when its
//! answer came.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use plugnode_tests::sequence::{FIRST, SequenceCheck};

use crate::crowd::{Crowd, Field};

/// One client's books.
pub(crate) struct Books {
    pub(crate) field: Arc<Field>,
    sent: Arc<AtomicU64>,
    account: Arc<Mutex<SequenceCheck>>,
}

impl Books {
    /// Opens them for one more client of this crowd.
    pub(crate) fn open(crowd: &mut Crowd) -> Self {
        let sent = Arc::<AtomicU64>::default();
        let account = Arc::new(Mutex::new(SequenceCheck::new(sent.clone())));
        crowd.accounts.push(account.clone());
        Self {
            field: crowd.field.clone(),
            sent,
            account,
        }
    }

    /// How many messages it has sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Books one more message, and returns its number.
    pub(crate) fn send(&self) -> u64 {
        self.field.sends(1);
        FIRST + self.sent.fetch_add(1, Ordering::Release)
    }

    /// Books an answer, and returns its number if it was still missing.
    pub(crate) fn settle(&self, number: Option<u64>) -> Option<u64> {
        let settled = self.account.lock().expect("nobody panics with it").record(number);
        if settled {
            self.field.came();
        }
        number.filter(|_| settled)
    }
}
