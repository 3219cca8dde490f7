//! A release that is loaded on this node and in use, or was before.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::release_stats::ReleaseStats;
use plugnode_runtime::{Component, Pool};

/// A loaded release that is in use, or was before.
pub(super) struct LoadedRelease {
    pub(super) number: u64,
    pub(super) component: Component,
    pub(super) pool: Arc<Pool>,
    pub(super) stats: ReleaseStats,
    /// Whether it has handled an event successfully.
    has_answered: AtomicBool,
    /// Why an event failed before it handled one successfully.
    first_failure: OnceLock<String>,
}

impl LoadedRelease {
    pub(super) fn new(number: u64, component: Component, pool: Arc<Pool>) -> Self {
        Self {
            number,
            component,
            pool,
            stats: ReleaseStats::new(),
            has_answered: AtomicBool::new(false),
            first_failure: OnceLock::new(),
        }
    }

    /// The same release under another number.
    pub(super) fn renumbered(&self, number: u64) -> Self {
        let release = Self::new(number, self.component.clone(), self.pool.clone());
        release.has_answered.store(self.has_answered(), Ordering::Relaxed);
        release
    }

    /// Notes that it has handled an event. True for the first.
    pub(super) fn set_answered(&self) -> bool {
        // Written once: every event comes here.
        !self.has_answered() && !self.has_answered.swap(true, Ordering::Relaxed)
    }

    pub(super) fn has_answered(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed)
    }

    /// Notes why an event failed. True for the first failure before any success.
    pub(super) fn set_failed(&self, reason: String) -> bool {
        !self.has_answered() && self.first_failure.set(reason).is_ok()
    }

    /// Why its first event failed, while it has handled none successfully.
    pub(super) fn first_failure(&self) -> Option<&String> {
        self.first_failure.get().filter(|_| !self.has_answered())
    }
}
