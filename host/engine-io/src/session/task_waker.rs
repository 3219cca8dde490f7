//! Wakes a session's task: once for any number of changes, and never while it runs anyway.

use std::task::Waker;

/// Wakes a session's task. The task brackets each of its passes by [`begin_pass`](Self::begin_pass) and
/// [`try_sleep`](Self::try_sleep).
#[derive(Debug)]
pub(crate) struct TaskWaker {
    waker: Option<Waker>,
    /// Whether the task runs or will run, so that it need not be woken.
    is_awake: bool,
    /// Whether something has changed since the last pass began.
    has_changed: bool,
}

impl TaskWaker {
    /// The waker of a task that has not run yet.
    pub(crate) fn new() -> Self {
        Self {
            waker: None,
            is_awake: true,
            has_changed: false,
        }
    }

    /// Notes a change, and wakes the task if it sleeps.
    pub(crate) fn wake(&mut self) {
        self.has_changed = true;
        if !self.is_awake {
            self.is_awake = true;
            if let Some(waker) = &self.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// The task begins a pass: it sees all changes up to now.
    pub(crate) fn begin_pass(&mut self, waker: &Waker) {
        self.has_changed = false;
        self.is_awake = true;
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            None => self.waker = Some(waker.clone()),
        }
    }

    /// The task sleeps until the next change. False when something has changed since the pass began: then it stays awake.
    pub(crate) fn try_sleep(&mut self) -> bool {
        self.is_awake = self.has_changed;
        !self.has_changed
    }
}
