//! The acknowledgements that one client awaits for its events.
//!
//! A client that awaits too many is not read until half of them were sent, or none for a time: a handler need not acknowledge. After that
//! time the oldest are forgotten as newer ones come.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use plugnode_process::metrics;

/// Acknowledgements that a client may await.
const MAX_AWAITED: usize = 1_024;
/// How long reading pauses without any acknowledgement.
const PATIENCE: Duration = Duration::from_secs(10);

/// The awaited acknowledgements of a client.
#[derive(Default)]
pub(crate) struct AwaitedAcks {
    /// When each event came, by acknowledgement id.
    since: BTreeMap<i64, Instant>,
    /// Set while reading pauses: when that began, or when the last acknowledgement was sent.
    paused_since: Option<Instant>,
    /// A pause ended without any acknowledgement, and none was sent since.
    is_given_up: bool,
}

impl AwaitedAcks {
    /// Adds an acknowledgement id. Returns whether reading has to pause from now on.
    pub(crate) fn add(&mut self, id: i64) -> bool {
        let now = Instant::now();
        self.since.insert(id, now);
        let pauses = self.since.len() >= MAX_AWAITED && self.paused_since.is_none() && !self.is_given_up;
        if pauses {
            self.paused_since = Some(now);
        }
        if self.since.len() > MAX_AWAITED {
            // Clients count upwards.
            self.since.pop_first();
            metrics::ACKS_FORGOTTEN.increment();
        }
        pauses
    }

    /// Removes an acknowledgement id. Returns how long it was awaited, if it was, and whether reading has to resume.
    pub(crate) fn remove(&mut self, id: i64) -> (Option<Duration>, bool) {
        self.is_given_up = false;
        let since = self.since.remove(&id);
        if self.paused_since.is_some() {
            self.paused_since = Some(Instant::now());
        }
        let resumes = self.since.len() <= MAX_AWAITED / 2 && self.end_pause();
        (since.map(|since| since.elapsed()), resumes)
    }

    /// When the pause ends if no acknowledgement is sent. None if reading does not pause.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        Some(self.paused_since? + PATIENCE)
    }

    /// Ends the pause because no acknowledgement was sent. Returns whether reading has to resume.
    pub(crate) fn give_up(&mut self) -> bool {
        self.is_given_up = true;
        self.end_pause()
    }

    /// Ends the pause. Returns whether reading has to resume.
    pub(crate) fn end_pause(&mut self) -> bool {
        self.paused_since.take().is_some()
    }
}
