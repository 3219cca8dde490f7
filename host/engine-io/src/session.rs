//! A session: the handle for the application, and the state that its task and its requests share.
//!
//! One task owns a session: it alone calls the application and uses the websocket. Requests that poll or post, and the
//! application when it sends, change the state behind the lock and wake the task. So input keeps its order over an
//! upgrade, and output has one queue, which either polls or the websocket drain.

mod polling_state;
mod state;
mod task_waker;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub(crate) use self::polling_state::{PollState, PostOutcome, PostState, PostedPackets, UpgradeState};
pub(crate) use self::state::{Phase, State};
use crate::close_reason::CloseReason;
use crate::opening_request::OpeningRequest;
use crate::packet::Packet;
use crate::settings::Settings;
use crate::version::Version;

/// Bytes that may wait in front of a volatile packet. With more, the packet would be outdated on its arrival.
const VOLATILE_AHEAD: usize = 64 * 1024;

/// A session. Clones are the same one.
#[derive(Clone)]
pub struct Session(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) id: Arc<str>,
    pub(crate) version: Version,
    pub(crate) opening: OpeningRequest,
    pub(crate) settings: Arc<Settings>,
    pauses: AtomicU32,
    /// Bytes taken from the queue that the client has not taken yet.
    in_flight: AtomicUsize,
    state: Mutex<State>,
}

/// Why packets cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The session has ended.
    #[error("the session has ended")]
    Closed,
    /// The client does not read; the session ends now.
    #[error("the session is closed: more than send-buffer waits, and the client does not read it")]
    Overflow,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.0.id)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn new(id: Arc<str>, version: Version, opening: OpeningRequest, settings: Arc<Settings>) -> Self {
        let state = State::new(opening.is_websocket());
        Self(Arc::new(Shared {
            id,
            version,
            opening,
            settings,
            pauses: AtomicU32::new(0),
            in_flight: AtomicUsize::new(0),
            state: Mutex::new(state),
        }))
    }

    /// The session id.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The client's protocol version.
    pub fn version(&self) -> Version {
        self.0.version
    }

    /// The request that opened the session.
    pub fn opening(&self) -> &OpeningRequest {
        &self.0.opening
    }

    /// Whether the session uses a websocket now.
    pub fn is_websocket(&self) -> bool {
        self.0.state().is_websocket
    }

    /// Whether the session has neither ended nor is about to end.
    pub fn is_open(&self) -> bool {
        self.0.state().phase == Phase::Open
    }

    /// Sends packets, which stay together and in order. They arrive unless the session ends.
    ///
    /// # Errors
    /// When the session has ended, or ends now because its client does not read.
    pub fn send(&self, packets: impl IntoIterator<Item = Packet>) -> Result<(), SendError> {
        let mut state = self.0.state();
        if state.phase != Phase::Open {
            return Err(SendError::Closed);
        }
        self.0.push(&mut state, packets)
    }

    /// Sends packets if the client is ready to take them now: a poll is pending, or the websocket is not stalled and has
    /// little waiting. Returns whether they were sent.
    ///
    /// # Errors
    /// The same as for [`send`](Self::send).
    pub fn send_volatile(&self, packets: impl IntoIterator<Item = Packet>) -> Result<bool, SendError> {
        let mut state = self.0.state();
        if state.phase != Phase::Open {
            return Err(SendError::Closed);
        }
        let is_ready = match &state.polling {
            Some(polling) if !state.is_websocket => polling.has_poll(),
            _ => state.stalled_since.is_none(),
        };
        if !is_ready || self.0.unsent(&state) > VOLATILE_AHEAD {
            return Ok(false);
        }
        self.0.push(&mut state, packets).map(|()| true)
    }

    /// Ends the session. The client gets the packets sent before, and then the close;
    /// [`Handler::close`](crate::Handler::close) is called with [`CloseReason::Server`].
    pub fn close(&self) {
        self.end(CloseReason::Server);
    }

    /// Stops giving messages to the application, so that the client has to wait. Pauses are counted. At most the message that
    /// is just being given comes after this.
    pub fn pause(&self) {
        self.0.pauses.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes back one [`pause`](Self::pause).
    pub fn resume(&self) {
        let fewer = |pauses: u32| pauses.checked_sub(1);
        let before = self.0.pauses.fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer);
        debug_assert!(before.is_ok(), "a session was resumed more often than it was paused");
        if before == Ok(1) {
            self.0.state().task.wake();
        }
    }

    /// Bytes that wait to be sent, with an overhead for each packet.
    pub fn unsent(&self) -> usize {
        self.0.unsent(&self.0.state())
    }

    pub(crate) fn end(&self, reason: CloseReason) {
        self.0.state().end(reason);
    }
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.pauses.load(Ordering::Acquire) > 0
    }

    /// Bytes that wait to be sent.
    pub(crate) fn unsent(&self, state: &State) -> usize {
        state.queued + self.in_flight.load(Ordering::Acquire)
    }

    /// Whether more waits to be sent than [`Settings::send_buffer`].
    pub(crate) fn is_over_send_buffer(&self, state: &State) -> bool {
        self.unsent(state) > self.settings.send_buffer
    }

    pub(crate) fn set_in_flight(&self, bytes: usize) {
        self.in_flight.store(bytes, Ordering::Release);
    }

    /// Queues packets, and ends a session whose client does not read them.
    fn push(&self, state: &mut State, packets: impl IntoIterator<Item = Packet>) -> Result<(), SendError> {
        for packet in packets {
            state.queued += packet.cost();
            state.outgoing.push_back(packet);
        }
        if self.is_over_send_buffer(state)
            && (self.unsent(state) > self.settings.send_limit() || state.is_stalled(Instant::now()))
        {
            state.outgoing = VecDeque::new();
            state.queued = 0;
            state.end(CloseReason::SlowReader);
            return Err(SendError::Overflow);
        }
        if state.is_websocket {
            state.task.wake();
        } else if let Some(polling) = &mut state.polling {
            let is_held = polling.is_held;
            if polling.has_poll() {
                if !is_held {
                    polling.wake_poll();
                }
            } else if state.stalled_since.is_none() {
                state.stalled_since = Some(Instant::now());
            }
            if is_held {
                // The task may have to answer the POST first.
                state.task.wake();
            }
        }
        Ok(())
    }
}
