//! The mutable state of a session, behind its lock: the queue of outgoing packets, the phase, and the polling state.

use std::collections::VecDeque;
use std::time::Instant;

use super::polling_state::{PollingState, PostOutcome, PostState, PostedPackets, UpgradeState};
use super::task_waker::TaskWaker;
use crate::close_reason::CloseReason;
use crate::packet::Packet;
use crate::settings::STALL_TIMEOUT;
use crate::websocket::WebSocket;

/// The mutable state of a session.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) outgoing: VecDeque<Packet>,
    /// [Costs](Packet::cost) of the outgoing packets.
    pub(crate) queued: usize,
    /// Since when the client has taken none of the waiting bytes. None while it keeps up.
    pub(crate) stalled_since: Option<Instant>,
    pub(crate) task: TaskWaker,
    pub(crate) is_websocket: bool,
    pub(crate) polling: Option<Box<PollingState>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// The session is to end; its task has not seen it yet.
    Closing(CloseReason),
    /// The application is told, and polls are being told.
    Ended(CloseReason),
}

impl Phase {
    /// Whether a poll learns of the end from the queue, whose last packet says so. After any other end, each poll is answered
    /// by a close packet.
    pub(crate) fn ends_by_queue(self) -> bool {
        matches!(self, Self::Ended(CloseReason::Server | CloseReason::Client))
    }
}

impl State {
    pub(crate) fn new(is_websocket: bool) -> Self {
        Self {
            phase: Phase::Open,
            outgoing: VecDeque::new(),
            queued: 0,
            stalled_since: None,
            task: TaskWaker::new(),
            is_websocket,
            polling: (!is_websocket).then(Box::default),
        }
    }

    /// Asks the task to end the session. The first reason counts.
    pub(crate) fn end(&mut self, reason: CloseReason) {
        if self.phase == Phase::Open {
            self.phase = Phase::Closing(reason);
            self.task.wake();
        }
    }

    /// Whether the client has taken nothing for [`STALL_TIMEOUT`].
    pub(crate) fn is_stalled(&self, now: Instant) -> bool {
        self.stalled_since
            .is_some_and(|since| now.duration_since(since) >= STALL_TIMEOUT)
    }

    /// Takes all packets for the websocket. None while the response to a poll is on its way, because that comes first.
    pub(crate) fn take_outgoing(&mut self) -> VecDeque<Packet> {
        if self.is_delivering() {
            return VecDeque::new();
        }
        self.queued = 0;
        std::mem::take(&mut self.outgoing)
    }

    /// Whether polls have been told all there is to tell about the end.
    pub(crate) fn is_end_delivered(&self) -> bool {
        let is_queued = !self.outgoing.is_empty() && self.phase.ends_by_queue();
        !self.is_delivering() && !self.has_poll() && !is_queued
    }

    /// Whether the response to a poll is on its way to the client.
    pub(crate) fn is_delivering(&self) -> bool {
        self.polling.as_ref().is_some_and(|polling| polling.is_delivering)
    }

    fn has_poll(&self) -> bool {
        self.polling.as_ref().is_some_and(|polling| polling.has_poll())
    }

    /// Whether a POST is being read or processed. It comes before anything from the websocket.
    pub(crate) fn has_post(&self) -> bool {
        self.polling.as_ref().is_some_and(|polling| polling.has_post())
    }

    /// Takes the websocket of a completed upgrade.
    pub(crate) fn take_websocket(&mut self) -> Option<Box<WebSocket>> {
        let polling = self.polling.as_mut()?;
        match std::mem::take(&mut polling.upgrade) {
            UpgradeState::Ready(websocket) => Some(websocket),
            other => {
                polling.upgrade = other;
                None
            }
        }
    }

    /// Takes the packets of a POST whose body is read.
    pub(crate) fn take_post(&mut self) -> Option<PostedPackets> {
        let polling = self.polling.as_mut()?;
        match std::mem::take(&mut polling.post) {
            PostState::Ready(packets) => {
                polling.post = PostState::Processing;
                Some(packets)
            }
            other => {
                polling.post = other;
                None
            }
        }
    }

    /// Answers a POST before all of it is processed, if polls are held back for it that have packets to deliver: the rest of
    /// the POST may be waiting for their delivery.
    pub(crate) fn answer_post_early(&mut self, post: &mut PostedPackets) {
        if let Some(polling) = self.polling.as_mut().filter(|polling| polling.is_held)
            && matches!(polling.post, PostState::Processing)
            && !self.outgoing.is_empty()
        {
            polling.post = PostState::Answered;
            post.answer(PostOutcome::Accepted);
        }
    }

    /// Ends a POST that is processed, or that has nothing to be processed.
    pub(crate) fn end_post(&mut self) {
        if let Some(polling) = &mut self.polling {
            polling.post = PostState::None;
            polling.wake_next_post();
            self.task.wake();
        }
    }

    /// Lets polls be answered again.
    pub(crate) fn release_polls(&mut self) {
        if let Some(polling) = self.polling.as_mut().filter(|polling| polling.is_held) {
            polling.is_held = false;
            if !self.outgoing.is_empty() {
                polling.wake_poll();
            }
        }
    }

    /// Frees the polling state of a session that has moved to a websocket, once its last poll and POST are answered.
    pub(crate) fn free_polling(&mut self) {
        if self.is_websocket && !self.is_delivering() && !self.has_post() && !self.has_poll() {
            self.polling = None;
        }
    }

    /// The session has ended: tells polls, POSTs, and the websocket of an upgrade.
    pub(crate) fn ended(&mut self, reason: CloseReason) {
        self.phase = Phase::Ended(reason);
        if !self.is_websocket && self.phase.ends_by_queue() {
            let last = match reason {
                CloseReason::Client => {
                    self.outgoing.clear();
                    self.queued = 0;
                    Packet::NOOP
                }
                _ => Packet::CLOSE,
            };
            self.queued += last.cost();
            self.outgoing.push_back(last);
        }
        let Some(polling) = &mut self.polling else { return };
        polling.wake_poll();
        polling.wake_next_post();
        polling.wake_upgrade();
        if let PostState::Ready(mut packets) = std::mem::take(&mut polling.post) {
            packets.answer(PostOutcome::Refused);
        }
    }
}
