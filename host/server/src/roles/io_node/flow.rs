//! How far a session is ahead: what came in and waits to be accepted, and how fast it comes. What goes out is bounded by the engine.

use std::time::{Duration, Instant};

use super::limits::{EventRate, Flood, Verdict};
use plugnode_process::MemoryPressure;

/// Reading pauses when so many events wait to be accepted,
const PAUSE_AT: usize = 64;
/// and goes on when so few do.
const RESUME_AT: usize = 16;
/// While memory is short, a session is read no further for so long after each packet.
const SHORT_OF_MEMORY: Duration = Duration::from_millis(100);

/// The bounds of a session.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    /// Bytes of events that may wait to be accepted before reading pauses.
    pub(super) waiting: usize,
    /// Packets of any kind a second that may come in.
    pub(super) packets_per_second: u32,
    /// Events a second that may come in.
    pub(super) events_per_second: Option<u32>,
    /// Whether memory is short.
    pub(super) pressure: MemoryPressure,
}

/// What flows into a session.
pub(super) struct Flow {
    connection: engine_io::Session,
    bounds: Bounds,
    waiting: usize,
    waiting_bytes: usize,
    is_full: bool,
    packets: EventRate,
    events: Option<Box<EventRate>>,
    /// Until when it is paused because it sent too many.
    held_until: Option<Instant>,
}

impl Flow {
    /// Of a session whose input is paused by this.
    pub(super) fn new(connection: engine_io::Session, bounds: Bounds) -> Self {
        Self {
            connection,
            packets: EventRate::new(bounds.packets_per_second),
            events: bounds.events_per_second.map(|rate| Box::new(EventRate::new(rate))),
            bounds,
            waiting: 0,
            waiting_bytes: 0,
            is_full: false,
            held_until: None,
        }
    }

    /// Counts an event that came in, and pauses reading when there are too many.
    pub(super) fn came_in(&mut self, bytes: usize) {
        self.waiting += 1;
        self.waiting_bytes += bytes;
        if !self.is_full && (self.waiting >= PAUSE_AT || self.waiting_bytes >= self.bounds.waiting) {
            self.is_full = true;
            self.connection.pause();
        }
    }

    /// Counts an event that does not wait any more, and resumes reading when there are few left.
    pub(super) fn went_on(&mut self, bytes: usize) {
        self.waiting -= 1;
        self.waiting_bytes -= bytes;
        if self.is_full && self.waiting <= RESUME_AT && self.waiting_bytes <= self.bounds.waiting / 2 {
            self.is_full = false;
            self.connection.resume();
        }
    }

    /// Whether nothing waits to be accepted.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting == 0
    }

    /// Finds a flood in a burst of so many messages before any is taken in.
    pub(super) fn expect(&self, messages: usize) -> Result<(), Flood> {
        let now = Instant::now();
        if self.packets.is_flooded_by(messages, now) {
            return Err(Flood::Packets);
        }
        match &self.events {
            Some(events) if events.is_flooded_by(messages, now) => Err(Flood::Events),
            _ => Ok(()),
        }
    }

    /// Counts a packet of any kind, pauses reading when they come too fast or memory is short, and says whether that begins
    /// a pause.
    pub(super) fn packet(&mut self) -> Result<bool, Flood> {
        let now = Instant::now();
        let wait = match self.packets.event(now) {
            Verdict::Go => None,
            Verdict::Pause(wait) => Some(wait),
            Verdict::Disconnect => return Err(Flood::Packets),
        };
        let short = self.bounds.pressure.is_high().then_some(SHORT_OF_MEMORY);
        Ok(wait.max(short).is_some_and(|wait| self.hold(now + wait)))
    }

    /// Counts an event on its way in, pauses reading when they come too fast, and says whether that begins a pause.
    pub(super) fn event(&mut self) -> Result<bool, Flood> {
        let Some(events) = &mut self.events else {
            return Ok(false);
        };
        let now = Instant::now();
        match events.event(now) {
            Verdict::Go => Ok(false),
            Verdict::Pause(wait) => Ok(self.hold(now + wait)),
            Verdict::Disconnect => Err(Flood::Events),
        }
    }

    /// Pauses until then at least, and says whether there was no pause before.
    fn hold(&mut self, until: Instant) -> bool {
        let before = self.held_until;
        self.held_until = before.max(Some(until));
        if before.is_none() {
            self.connection.pause();
        }
        before.is_none()
    }

    /// Ends the pause of a session that sent too fast, if it is over. Until then, says when it will be.
    pub(super) fn let_go(&mut self) -> Option<Instant> {
        let until = self.held_until?;
        if Instant::now() < until {
            return Some(until);
        }
        self.held_until = None;
        self.connection.resume();
        None
    }
}
