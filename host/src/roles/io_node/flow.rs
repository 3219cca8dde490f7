//! How far a session is ahead: what came in and waits to be accepted, and how fast it comes. What goes out is bounded by the engine.

use std::time::Instant;

use super::limits::{EventRate, Verdict};

/// Reading pauses when so many events wait to be accepted,
const PAUSE_AT: usize = 64;
/// and goes on when so few do.
const RESUME_AT: usize = 16;

/// The bounds of a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes of events that may wait to be accepted before reading pauses.
    pub(super) waiting: usize,
    /// Events a second that may come in.
    pub(super) events_per_second: Option<u32>,
}

/// What flows into a session.
pub(super) struct Flow {
    connection: engine_io::Session,
    bounds: Bounds,
    waiting: usize,
    waiting_bytes: usize,
    is_full: bool,
    pacing: Option<Box<Pacing>>,
}

/// How fast a session sends events, when there is a limit to that.
struct Pacing {
    rate: EventRate,
    /// Until when it is paused because it sent too many.
    held_until: Option<Instant>,
}

/// A session sends events so much faster than it may that it has to be closed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flood;

impl Flow {
    /// Of a session whose input is paused by this.
    pub(super) fn new(connection: engine_io::Session, bounds: Bounds) -> Self {
        let pacing = |events_per_second| Pacing {
            rate: EventRate::new(events_per_second),
            held_until: None,
        };
        Self {
            connection,
            bounds,
            waiting: 0,
            waiting_bytes: 0,
            is_full: false,
            pacing: bounds.events_per_second.map(|rate| Box::new(pacing(rate))),
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

    /// Finds a flood in a burst of so many events before any is taken in.
    pub(super) fn expect(&self, events: usize) -> Result<(), Flood> {
        match &self.pacing {
            Some(pacing) if pacing.rate.is_flooded_by(events, Instant::now()) => Err(Flood),
            _ => Ok(()),
        }
    }

    /// Counts an event on its way in, pauses reading when they come too fast, and says whether that begins a pause.
    pub(super) fn keep_pace(&mut self) -> Result<bool, Flood> {
        let Some(pacing) = &mut self.pacing else {
            return Ok(false);
        };
        let now = Instant::now();
        let wait = match pacing.rate.event(now) {
            Verdict::Go => return Ok(false),
            Verdict::Pause(wait) => wait,
            Verdict::Disconnect => return Err(Flood),
        };
        let begins = pacing.held_until.replace(now + wait).is_none();
        if begins {
            self.connection.pause();
        }
        Ok(begins)
    }

    /// Ends the pause of a session that sent too fast, if it is over. Until then, says when it will be.
    pub(super) fn let_go(&mut self) -> Option<Instant> {
        let pacing = self.pacing.as_mut()?;
        let until = pacing.held_until?;
        if Instant::now() < until {
            return Some(until);
        }
        pacing.held_until = None;
        self.connection.resume();
        None
    }
}
