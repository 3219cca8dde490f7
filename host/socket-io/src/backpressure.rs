//! Backpressure on what one connection sends: reading pauses while its events wait to be accepted, while it exceeds its rates, and while
//! memory is short. What is sent to it is bounded by the engine.

use std::time::{Duration, Instant};

use crate::send_rate::{Flood, RateDecision, SendRate};
use plugnode_process::MemoryPressure;

/// Number of events waiting to be accepted at which reading pauses.
const PAUSE_AT: usize = 64;
/// Number of waiting events at which reading resumes.
const RESUME_AT: usize = 16;
/// Pause after each packet while memory is short.
const PAUSE_SHORT_OF_MEMORY: Duration = Duration::from_millis(100);

/// Limits of the events and packets that a connection may send.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// Bytes of events that may wait to be accepted before reading pauses.
    pub waiting_bytes: usize,
    /// Packets of any kind per second.
    pub packets_per_second: u32,
    /// Events per second; none is without a limit.
    pub events_per_second: Option<u32>,
    /// The memory of this process.
    pub pressure: MemoryPressure,
}

/// The backpressure on one connection.
pub(crate) struct Backpressure {
    engine: engine_io::Session,
    limits: ConnectionLimits,
    waiting_events: usize,
    waiting_bytes: usize,
    is_full: bool,
    packets: SendRate,
    events: Option<Box<SendRate>>,
    /// The end of the pause for a rate or for memory.
    paused_until: Option<Instant>,
}

impl Backpressure {
    pub(crate) fn new(engine: engine_io::Session, limits: ConnectionLimits) -> Self {
        Self {
            engine,
            packets: SendRate::new(limits.packets_per_second),
            events: limits.events_per_second.map(|rate| Box::new(SendRate::new(rate))),
            limits,
            waiting_events: 0,
            waiting_bytes: 0,
            is_full: false,
            paused_until: None,
        }
    }

    /// Counts an event that waits to be accepted, and pauses reading if there are too many.
    pub(crate) fn event_queued(&mut self, bytes: usize) {
        self.waiting_events += 1;
        self.waiting_bytes += bytes;
        let is_over = self.waiting_events >= PAUSE_AT || self.waiting_bytes >= self.limits.waiting_bytes;
        if !self.is_full && is_over {
            self.is_full = true;
            self.engine.pause();
        }
    }

    /// Counts an event that no longer waits, and resumes reading if few are left.
    pub(crate) fn event_left(&mut self, bytes: usize) {
        self.waiting_events -= 1;
        self.waiting_bytes -= bytes;
        let is_low = self.waiting_events <= RESUME_AT && self.waiting_bytes <= self.limits.waiting_bytes / 2;
        if self.is_full && is_low {
            self.is_full = false;
            self.engine.resume();
        }
    }

    /// Whether any events wait to be accepted.
    pub(crate) fn has_waiting_events(&self) -> bool {
        self.waiting_events > 0
    }

    /// Checks a burst of `messages` messages before any of them is read.
    ///
    /// # Errors
    /// If they would exceed a rate for too long.
    pub(crate) fn check_burst(&self, messages: usize) -> Result<(), Flood> {
        let now = Instant::now();
        if self.packets.is_flooded_by(messages, now) {
            return Err(Flood::Packets);
        }
        match &self.events {
            Some(events) if events.is_flooded_by(messages, now) => Err(Flood::Events),
            _ => Ok(()),
        }
    }

    /// Counts a packet of any kind, and pauses reading if they come too fast or memory is short. Returns whether a pause begins, whose end
    /// the caller has to see to by [`end_pause`](Self::end_pause).
    ///
    /// # Errors
    /// If the rate was exceeded for too long.
    pub(crate) fn count_packet(&mut self) -> Result<bool, Flood> {
        let now = Instant::now();
        let wait = match self.packets.count(now) {
            RateDecision::Continue => None,
            RateDecision::Pause(wait) => Some(wait),
            RateDecision::Disconnect => return Err(Flood::Packets),
        };
        let for_memory = self.limits.pressure.is_high().then_some(PAUSE_SHORT_OF_MEMORY);
        Ok(wait.max(for_memory).is_some_and(|wait| self.pause_until(now + wait)))
    }

    /// Counts an event, and pauses reading if they come too fast. Returns whether a pause begins, as [`count_packet`](Self::count_packet).
    ///
    /// # Errors
    /// If the rate was exceeded for too long.
    pub(crate) fn count_event(&mut self) -> Result<bool, Flood> {
        let Some(events) = &mut self.events else {
            return Ok(false);
        };
        let now = Instant::now();
        match events.count(now) {
            RateDecision::Continue => Ok(false),
            RateDecision::Pause(wait) => Ok(self.pause_until(now + wait)),
            RateDecision::Disconnect => Err(Flood::Events),
        }
    }

    /// Pauses at least until this time. Returns whether there was no pause before.
    fn pause_until(&mut self, until: Instant) -> bool {
        let before = self.paused_until;
        self.paused_until = before.max(Some(until));
        if before.is_none() {
            self.engine.pause();
        }
        before.is_none()
    }

    /// Ends the pause if its time is over. Otherwise returns when it will be.
    pub(crate) fn end_pause(&mut self) -> Option<Instant> {
        let until = self.paused_until?;
        if Instant::now() < until {
            return Some(until);
        }
        self.paused_until = None;
        self.engine.resume();
        None
    }
}
