//! Serves polls: GET requests that wait for packets to be sent.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Response, StatusCode};
use tokio::time::timeout;
use tracing::debug;

use crate::close_reason::CloseReason;
use crate::codec::{self, EncodedPayload};
use crate::packet::Packet;
use crate::poll_delivery::PollDelivery;
use crate::refusal::Refusal;
use crate::request::RequestParameters;
use crate::response::{self, Body};
use crate::session::{Phase, PollState, Session, State, UpgradeState};

/// How long a poll that comes after an upgrade's probe waits for packets. The client upgrades when none is pending.
const PROBED_WAIT: Duration = Duration::from_millis(100);

/// The response that opens a polling session.
pub(crate) fn opened(open: Packet, parameters: &RequestParameters) -> Response<Body> {
    let (encoded, _) = codec::encode(&mut [open].into(), parameters.version, parameters.base64, usize::MAX);
    response::text(encoded.body)
}

/// Answers a poll as soon as there are packets, or the session ends or upgrades.
pub(crate) async fn serve(session: Session, base64: bool) -> Response<Body> {
    let is_new = AtomicBool::new(true);
    let mut pending = PendingPoll(Some(&session));
    let outcome = |yields_to_upgrade| {
        let (session, is_new) = (&session, &is_new);
        poll_fn(move |cx| session.poll_packets(cx, base64, is_new.swap(false, Ordering::Relaxed), yields_to_upgrade))
    };
    let outcome = match session.is_probed() {
        false => outcome(true).await,
        true => match timeout(PROBED_WAIT, outcome(false)).await {
            Ok(outcome) => outcome,
            Err(_) => outcome(true).await,
        },
    };
    pending.0 = None;
    match outcome {
        PollOutcome::Packets(encoded, delivery) => response::poll(encoded.body, encoded.is_binary, delivery),
        PollOutcome::Overlap => {
            debug!(session = session.id(), "overlapping polls");
            response::status(StatusCode::BAD_REQUEST)
        }
        PollOutcome::Upgraded => Refusal::BadRequest.response(),
        PollOutcome::Ended => Refusal::SessionUnknown.response(),
    }
}

#[derive(Debug)]
enum PollOutcome {
    Packets(EncodedPayload, PollDelivery),
    /// Another poll is pending. This ends the session.
    Overlap,
    /// The session uses a websocket.
    Upgraded,
    /// The session has ended, and an earlier poll was told.
    Ended,
}

/// A pending poll. Dropped with its session, its connection was cut off, which ends the session.
struct PendingPoll<'a>(Option<&'a Session>);

impl Drop for PendingPoll<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.0 {
            session.cut_off_poll();
        }
    }
}

impl Session {
    /// Answers a poll, or leaves it pending. `is_new` on the first call for a poll; `yields_to_upgrade`: the poll is answered
    /// by a no-op as soon as an upgrade is probed, rather than being waited for.
    fn poll_packets(&self, cx: &Context<'_>, base64: bool, is_new: bool, yields_to_upgrade: bool) -> Poll<PollOutcome> {
        let mut state = self.0.state();
        let state = &mut *state;
        let Some(polling) = state.polling.as_deref_mut().filter(|_| !(is_new && state.is_websocket)) else {
            return Poll::Ready(PollOutcome::Upgraded);
        };
        if is_new && polling.has_poll() {
            state.end(CloseReason::TransportError);
            return Poll::Ready(PollOutcome::Overlap);
        }
        match state.phase {
            _ if state.phase.ends_by_queue() && state.outgoing.is_empty() => {
                polling.poll = PollState::None;
                return Poll::Ready(PollOutcome::Ended);
            }
            Phase::Ended(_) if !state.phase.ends_by_queue() => {
                return Poll::Ready(self.deliver_one(state, Packet::CLOSE, base64));
            }
            _ => {}
        }
        let is_superseded =
            state.is_websocket || (yields_to_upgrade && matches!(polling.upgrade, UpgradeState::Probed(_)));
        let has_nothing = state.outgoing.is_empty() || polling.is_held;
        if polling.is_delivering || (has_nothing && !is_superseded) {
            polling.poll = PollState::Pending(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        if state.is_websocket && !yields_to_upgrade {
            // The poll came after the probe, so the client does not count on its response.
            polling.poll = PollState::None;
            return Poll::Ready(PollOutcome::Upgraded);
        }
        if state.is_websocket || has_nothing {
            return Poll::Ready(self.deliver_one(state, Packet::NOOP, base64));
        }
        let mut close = None;
        if state.phase == Phase::Ended(CloseReason::Server) {
            if state.outgoing.len() > 1 {
                // The close packet, which is the last, gets a poll of its own, as with Node's server: Socket.IO's client acts upon
                // the end of a connection before it acts upon what came in the same response, such as a disconnect.
                close = state.outgoing.pop_back();
            } else if is_new {
                // As Node's server does: a no-op ends the poll, and the close packet follows.
                state.outgoing.push_front(Packet::NOOP);
                state.queued += Packet::NOOP.cost();
            }
        }
        let settings = &self.0.settings;
        let (encoded, cost) = codec::encode(&mut state.outgoing, self.0.version, base64, settings.max_payload);
        state.queued -= cost;
        state.outgoing.extend(close);
        Poll::Ready(self.deliver(state, encoded))
    }

    fn deliver_one(&self, state: &mut State, packet: Packet, base64: bool) -> PollOutcome {
        let (encoded, _) = codec::encode(&mut [packet].into(), self.0.version, base64, usize::MAX);
        self.deliver(state, encoded)
    }

    fn deliver(&self, state: &mut State, encoded: EncodedPayload) -> PollOutcome {
        self.0.set_in_flight(encoded.body.len());
        state.stalled_since = Some(Instant::now());
        if let Some(polling) = &mut state.polling {
            polling.poll = PollState::None;
            polling.is_delivering = true;
        }
        state.task.wake();
        PollOutcome::Packets(encoded, PollDelivery::new(self.clone()))
    }

    /// Whether an upgrade is probed, so that a poll should not wait for long.
    fn is_probed(&self) -> bool {
        let state = self.0.state();
        let upgrade = state.polling.as_ref().map(|polling| &polling.upgrade);
        matches!(upgrade, Some(UpgradeState::Probed(_)))
    }

    /// The connection of the pending poll has ended.
    fn cut_off_poll(&self) {
        let mut state = self.0.state();
        if let Some(polling) = &mut state.polling {
            polling.poll = PollState::None;
        }
        if !state.is_websocket {
            state.end(CloseReason::TransportError);
        }
    }
}
