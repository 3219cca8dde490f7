//! A partition that is read: the position in its log, and the events that were read and not taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::{Notify, mpsc};

use crate::app_node::log_event::{LogEvent, ReadEvents};
use crate::app_node::log_reader::ReadEntry;
use crate::app_node::log_reader::hint::Hint;
use crate::batch::Batch;
use plugnode_transport::Load;

/// Read-ahead at which a partition is paused. What one more read finds is added to it.
const PAUSE_AT: Load = Load {
    events: 2_048,
    bytes: 4 << 20,
};
/// Read-ahead at which a paused partition resumes.
const RESUME_AT: Load = Load {
    events: 512,
    bytes: 1 << 20,
};

/// A partition that is read.
pub(crate) struct Subscription {
    /// Number of the last event that was sent or is not wanted.
    pub(crate) from: u64,
    /// Whether its log may have events that were not sent and will not be hinted.
    is_behind: bool,
    /// Number of its events, as it was found in Redis.
    accepted: u64,
    /// The last entry that was read.
    pub(crate) last: Option<ReadEntry>,
    sender: mpsc::UnboundedSender<ReadEvents>,
    pub(crate) read_ahead: Arc<ReadAhead>,
}

/// Events of a partition that are read and not taken.
#[derive(Default)]
pub(crate) struct ReadAhead {
    events: AtomicUsize,
    bytes: AtomicUsize,
    is_paused: AtomicBool,
}

/// Receiver of a partition's events.
pub(crate) struct PartitionFeed {
    receiver: mpsc::UnboundedReceiver<ReadEvents>,
    read_ahead: Arc<ReadAhead>,
    /// Notified when the reader may resume.
    resumed: Arc<Notify>,
}

impl Subscription {
    /// A subscription to events behind this number, which has to catch up.
    pub(crate) fn new(from: u64, resumed: Arc<Notify>) -> (Self, PartitionFeed) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let read_ahead = Arc::<ReadAhead>::default();
        let subscription = Self {
            from,
            is_behind: true,
            accepted: 0,
            last: None,
            sender,
            read_ahead: read_ahead.clone(),
        };
        let feed = PartitionFeed {
            receiver,
            read_ahead,
            resumed,
        };
        (subscription, feed)
    }

    /// Whether its log is to be read. If it is behind and paused, its feed notifies the reader later.
    pub(crate) fn is_to_catch_up(&self) -> bool {
        self.is_behind && self.read_ahead.wants_more()
    }

    /// Sends the events of a hint, unless some before them are missing.
    pub(crate) fn take_hint(&mut self, hint: &Hint) {
        if self.is_behind || hint.last <= self.from {
            return;
        }
        match hint.events_behind(self.from) {
            Some((batch, read)) => self.send(read, batch),
            None => self.is_behind = true,
        }
    }

    /// Sends the events of an entry that were not sent before.
    pub(crate) fn send(&mut self, read: ReadEntry, batch: Batch) {
        let Batch { version, events } = batch;
        let up_to = read.number;
        if up_to <= self.from {
            return;
        }
        let first = (up_to + 1).saturating_sub(events.len() as u64);
        let numbered = (first..).zip(events).filter(|(number, _)| *number > self.from);
        let events: Vec<LogEvent> = numbered
            .map(|(number, (_, event))| LogEvent::new(number, version, event))
            .collect();
        self.from = up_to;
        self.last = Some(read);
        self.is_behind |= self.read_ahead.add(&events);
        // Fails if the feed was dropped; the partition is then removed soon.
        let _ = self.sender.send(ReadEvents { events, up_to });
    }

    /// Notes that the whole log was read, and that its last event had this number.
    pub(crate) fn has_read_to(&mut self, accepted: u64) {
        if self.read_ahead.is_full() {
            return;
        }
        self.is_behind = false;
        if accepted > self.from {
            self.from = accepted;
            let (events, up_to) = (Vec::new(), accepted);
            let _ = self.sender.send(ReadEvents { events, up_to });
        }
    }

    /// Notes the number of its events in Redis.
    pub(crate) fn expect(&mut self, accepted: u64) {
        self.accepted = self.accepted.max(accepted);
    }

    /// Notes that it has to catch up if it has not read the expected events by now. Returns whether it was missing a hint.
    pub(crate) fn note_missed(&mut self) -> bool {
        let is_missed = !self.is_behind && self.from < self.accepted;
        self.is_behind |= is_missed;
        is_missed
    }
}

impl PartitionFeed {
    /// Returns the next events; none after the subscription has ended. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<ReadEvents> {
        let read = self.receiver.recv().await?;
        self.read_ahead.take(&read.events);
        if self.read_ahead.may_resume() && self.read_ahead.is_paused.swap(false, Ordering::AcqRel) {
            self.resumed.notify_one();
        }
        Some(read)
    }
}

impl ReadAhead {
    /// Adds events, and returns whether the partition must pause.
    fn add(&self, events: &[LogEvent]) -> bool {
        self.events.fetch_add(events.len(), Ordering::AcqRel);
        self.bytes.fetch_add(bytes_in(events), Ordering::AcqRel);
        self.is_full()
    }

    fn take(&self, events: &[LogEvent]) {
        self.events.fetch_sub(events.len(), Ordering::AcqRel);
        self.bytes.fetch_sub(bytes_in(events), Ordering::AcqRel);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.events.load(Ordering::Acquire) >= PAUSE_AT.events || self.bytes.load(Ordering::Acquire) >= PAUSE_AT.bytes
    }

    fn may_resume(&self) -> bool {
        self.events.load(Ordering::Acquire) <= RESUME_AT.events && self.bytes.load(Ordering::Acquire) <= RESUME_AT.bytes
    }

    /// Whether more events may be read. If not, the feed notifies the reader once it may resume.
    fn wants_more(&self) -> bool {
        if !self.is_full() {
            return true;
        }
        self.is_paused.store(true, Ordering::Release);
        // The feed may have taken events before the flag was set, and would not notify the reader then.
        self.may_resume() && self.is_paused.swap(false, Ordering::AcqRel)
    }
}

fn bytes_in(events: &[LogEvent]) -> usize {
    events.iter().map(|event| event.bytes).sum()
}
