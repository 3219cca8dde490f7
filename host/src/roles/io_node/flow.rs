//! How far a session is ahead or behind: what came in and waits, what went out and is not written, and how fast it comes.

use std::sync::Arc;
use std::time::Instant;

use super::limits::{EventRate, Verdict};
use super::line::Line;
use crate::http::Connection;

/// Reading pauses when so many events wait to be accepted,
const PAUSE_AT: usize = 64;
/// and goes on when so few do.
const RESUME_AT: usize = 16;
/// One request of a session that polls may bring many: when so many events wait, the session is closed.
const CLOSE_AT: usize = 8_192;

/// The bounds of a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes of events that may wait to be accepted before reading pauses.
    pub(super) waiting: usize,
    /// Bytes that may wait to be written.
    pub(super) unsent: u64,
    /// Events a second that may come in.
    pub(super) events_per_second: Option<u32>,
}

/// What flows in a session, both ways.
pub(super) struct Flow {
    pub(super) line: Line,
    bounds: Bounds,
    waiting: usize,
    waiting_bytes: usize,
    is_full: bool,
    /// Bytes given to be sent, on the scale of what the connection has written.
    sent: u64,
    pacing: Option<Box<Pacing>>,
}

/// How fast a session sends events, when there is a limit to that.
struct Pacing {
    rate: EventRate,
    /// Until when it is paused because it sent too many.
    held_until: Option<Instant>,
}

/// A session that has to be closed, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Excess {
    /// It sends events faster than they are accepted, and does not wait.
    Flood,
    /// It does not read what it is sent.
    SlowReader,
}

impl Flow {
    pub(super) fn new(line: Line, bounds: Bounds) -> Self {
        let pacing = |events_per_second| Pacing {
            rate: EventRate::new(events_per_second),
            held_until: None,
        };
        Self {
            sent: line.connection().map_or(0, |connection| connection.written()),
            line,
            bounds,
            waiting: 0,
            waiting_bytes: 0,
            is_full: false,
            pacing: bounds.events_per_second.map(|rate| Box::new(pacing(rate))),
        }
    }

    /// Goes by another line from now on.
    pub(super) fn go_by(&mut self, line: Line) {
        self.sent = line.connection().map_or(0, |connection| connection.written());
        self.line = line;
        for _ in 0..self.pauses() {
            self.websocket().inspect(|connection| connection.pause());
        }
    }

    /// Counts an event that came in, and pauses reading when there are too many.
    pub(super) fn came_in(&mut self, bytes: usize) -> Result<(), Excess> {
        self.waiting += 1;
        self.waiting_bytes += bytes;
        if !self.is_full && (self.waiting >= PAUSE_AT || self.waiting_bytes >= self.bounds.waiting) {
            self.is_full = true;
            self.websocket().inspect(|connection| connection.pause());
        }
        if self.waiting >= CLOSE_AT {
            Err(Excess::Flood)
        } else {
            Ok(())
        }
    }

    /// Counts an event that does not wait any more, and says whether that ends a pause.
    pub(super) fn went_on(&mut self, bytes: usize) -> bool {
        self.waiting -= 1;
        self.waiting_bytes -= bytes;
        let resumes = self.is_full && self.waiting <= RESUME_AT && self.waiting_bytes <= self.bounds.waiting / 2;
        if resumes {
            self.is_full = false;
            self.websocket().inspect(|connection| connection.resume());
        }
        resumes
    }

    /// Counts bytes that are to be written.
    pub(super) fn went_out(&mut self, bytes: usize) -> Result<(), Excess> {
        let Some(written) = self.line.connection().map(|connection| connection.written()) else {
            return Ok(());
        };
        // Frames and headers are written on top of what is counted here, so a connection that keeps up runs ahead.
        self.sent = self.sent.max(written) + bytes as u64;
        if self.sent - written > self.bounds.unsent {
            Err(Excess::SlowReader)
        } else {
            Ok(())
        }
    }

    /// Whether everything given to be sent is written.
    pub(super) fn is_flushed(&self) -> bool {
        let connection = self.line.connection();
        connection.is_none_or(|connection| connection.written() >= self.sent)
    }

    /// Counts an event on its way in, pauses reading when they come too fast, and says whether that begins a pause.
    pub(super) fn keep_pace(&mut self) -> Result<bool, Excess> {
        let Some(pacing) = &mut self.pacing else {
            return Ok(false);
        };
        let now = Instant::now();
        let wait = match pacing.rate.event(now) {
            Verdict::Go => return Ok(false),
            Verdict::Pause(wait) => wait,
            Verdict::Disconnect => return Err(Excess::Flood),
        };
        let begins = pacing.held_until.replace(now + wait).is_none();
        if begins {
            self.websocket().inspect(|connection| connection.pause());
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
        self.websocket().inspect(|connection| connection.resume());
        None
    }

    /// Whether too much waits to be accepted, or too much came at once.
    pub(super) fn is_paused(&self) -> bool {
        self.pauses() > 0
    }

    /// Lets go of the connection, for whatever reason it is paused.
    pub(super) fn resume_all(&self) {
        for _ in 0..self.pauses() {
            self.websocket().inspect(|connection| connection.resume());
        }
    }

    fn websocket(&self) -> Option<&Arc<Connection>> {
        match &self.line {
            Line::WebSocket { connection, .. } => Some(connection),
            Line::Polling { .. } => None,
        }
    }

    /// For how many reasons it is paused.
    fn pauses(&self) -> u32 {
        let is_held = self.pacing.as_ref().is_some_and(|pacing| pacing.held_until.is_some());
        u32::from(self.is_full) + u32::from(is_held)
    }
}
