//! A budget of bytes for events that come from no client, such as those of the program that embeds the io-node: no connection's
//! backpressure bounds them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use plugnode_message::Event;
use plugnode_socket_io::EventSource;

/// Bytes of such events that may wait to be accepted.
const MAX_WAITING: usize = 4 << 20;

/// The budget. Clones share it.
#[derive(Clone, Default)]
pub(super) struct ProgramBacklog(Arc<AtomicUsize>);

/// The share of one event: released when this is dropped, once the event is accepted or given up.
struct Share {
    backlog: ProgramBacklog,
    bytes: usize,
}

impl ProgramBacklog {
    /// Reserves a share of `bytes` for an event. None if too much is waiting.
    pub(super) fn reserve(&self, bytes: usize) -> Option<Arc<dyn EventSource>> {
        let more = |waiting| (waiting < MAX_WAITING).then_some(waiting + bytes);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        let backlog = self.clone();
        Some(Arc::new(Share { backlog, bytes }))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.backlog.0.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl EventSource for Share {
    fn event_left(&self, _: usize) {}

    fn was_turned_away(&self) -> bool {
        false
    }

    fn turn_away(&self) {}

    fn refuse(&self, _: &Event) {}
}
