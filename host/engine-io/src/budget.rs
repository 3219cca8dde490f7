//! Memory that all sessions share: bytes of messages that have not come to their end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Small messages are not counted: a session always holds some.
const FREE: usize = 16 * 1024;

/// So many bytes, for all sessions together.
#[derive(Debug)]
pub(crate) struct Budget {
    most: usize,
    used: AtomicUsize,
}

/// What one message has of a budget, until this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

/// The budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all sessions together hold too many bytes of unfinished messages")]
pub(crate) struct Exhausted;

impl Budget {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            used: AtomicUsize::new(0),
        })
    }

    /// A share of nothing.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share {
            budget: self.clone(),
            bytes: 0,
        }
    }
}

impl Share {
    /// The message has so many bytes by now.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let bytes = bytes.saturating_sub(FREE);
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            let fits = |used: usize| used.checked_add(more).filter(|used| *used <= self.budget.most);
            let used = &self.budget.used;
            used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits)
                .map_err(|_| Exhausted)?;
        } else {
            self.budget.used.fetch_sub(self.bytes - bytes, Ordering::AcqRel);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_bounded_together_and_returned() {
        let budget = Budget::new(100);
        let (mut one, mut other) = (budget.share(), budget.share());
        assert_eq!(one.hold(FREE), Ok(()));
        assert_eq!(one.hold(FREE + 60), Ok(()));
        assert_eq!(other.hold(FREE + 41), Err(Exhausted));
        assert_eq!(other.hold(FREE + 40), Ok(()));
        assert_eq!(one.hold(0), Ok(()));
        assert_eq!(other.hold(FREE + 100), Ok(()));
        drop(other);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }
}
