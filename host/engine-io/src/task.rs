//! The task that owns a session: from its first packet to its last it alone calls the application, reads and writes the
//! websocket, and keeps the heartbeat.
//!
//! What comes in by the body of a POST comes before all that comes by a websocket; what goes out waits in one queue, and the
//! websocket takes from it when no answer to a poll is on its way.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep_until, timeout};
use tracing::debug;

use crate::codec::Incoming;
use crate::heartbeat::{Beat, Heartbeat};
use crate::pace::Pace;
use crate::packet::Packet;
use crate::registry::Registered;
use crate::session::{Intake, Phase, Session, Taken};
use crate::settings::STALL;
use crate::websocket::{Broken, Event, Failure, WebSocket};
use crate::{CloseReason, Handler, Version};

/// How many packets are taken in before other tasks have their turn.
const AT_ONCE: u32 = 64;
/// How long a poll may come after the close that its client sent behind it.
const OVERTAKEN: Duration = Duration::from_millis(100);
/// How many times `close_timeout` a close may take in all when the engine is shut down.
const LAST_CLOSE: u32 = 3;
/// How often the task looks again because something changed while it ran.
const LOOKS: u32 = 8;

/// The task of one session.
pub(crate) struct Task<H: Handler> {
    session: Session,
    /// Its place among all sessions, until it has ended.
    registered: Registered,
    handler: Hand<H>,
    websocket: Option<Box<WebSocket>>,
    intake: Option<Intake>,
    heartbeat: Heartbeat,
    pace: Pace,
    /// Whether the client took something since the last look, so that it is alive.
    has_progressed: bool,
    /// The status code of the websocket's close.
    code: Option<u16>,
}

/// The application's part of a session, which hears of the end in any case.
struct Hand<H: Handler>(Option<H>);

/// Whether more is there to be taken in.
#[derive(PartialEq, Eq)]
enum Intaking {
    Waits,
    HasMore,
}

impl<H: Handler> Task<H> {
    /// Of a session that begins.
    pub(crate) fn new(registered: Registered, handler: H) -> Self {
        let session = registered.session().clone();
        let heartbeat = Heartbeat::new(session.version(), &session.0.settings, Instant::now());
        Self {
            session,
            registered,
            handler: Hand(Some(handler)),
            websocket: None,
            intake: None,
            heartbeat,
            pace: Pace::default(),
            has_progressed: false,
            code: None,
        }
    }

    /// Holds a session that begins as a websocket to its end.
    pub(crate) async fn run_websocket(mut self, mut websocket: Box<WebSocket>, open: Packet) {
        websocket.send(open, self.session.version());
        self.websocket = Some(websocket);
        self.run().await;
    }

    /// Holds the session to its end.
    pub(crate) async fn run(mut self) {
        let reason = {
            let mut timer = pin!(sleep_until(self.heartbeat.next().into()));
            poll_fn(|cx| self.poll(cx, timer.as_mut())).await
        };
        debug!(session = self.session.id(), "session ended: {reason}");
        Box::pin(self.finish(reason)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<CloseReason> {
        let mut left = AT_ONCE;
        for _ in 0..LOOKS {
            if let Some(reason) = self.look(cx) {
                return Poll::Ready(reason);
            }
            match self.turn(cx, &mut left, timer.as_mut()) {
                Err(reason) => return Poll::Ready(reason),
                Ok(Intaking::HasMore) => break,
                Ok(Intaking::Waits) if self.session.0.state().rest() => return Poll::Pending,
                Ok(Intaking::Waits) => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn turn(&mut self, cx: &mut Context<'_>, left: &mut u32, timer: Pin<&mut Sleep>) -> Result<Intaking, CloseReason> {
        self.write(cx)?;
        let intaking = self.take_in(cx, left)?;
        // The answer to a ping may have come to it.
        self.write(cx)?;
        self.beat(cx, timer)?;
        Ok(intaking)
    }

    /// Takes what others have left for this task. Gives the reason when the session is to end.
    fn look(&mut self, cx: &Context<'_>) -> Option<CloseReason> {
        let shared = &self.session.0;
        let mut state = shared.state();
        state.look(cx.waker());
        if let Some(websocket) = state.take_websocket() {
            self.websocket = Some(websocket);
        }
        if let Some(intake) = state.take_post() {
            self.intake = Some(intake);
        }
        if let Phase::Closing(reason) = state.phase {
            return Some(reason);
        }
        if let Some(websocket) = &mut self.websocket {
            state.forget_polling();
            let packets = state.take_outgoing();
            if !packets.is_empty() {
                for packet in packets {
                    websocket.send(packet, shared.version);
                }
                shared.set_in_transport(websocket.cost());
            }
        }
        None
    }

    /// Writes to the websocket, and notes whether its client takes what it is sent.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let Some(websocket) = &mut self.websocket else {
            return Ok(());
        };
        let before = websocket.cost();
        let written = websocket.poll_write(cx);
        let after = websocket.cost();
        let shared = &self.session.0;
        if before != after {
            if !shared.state().is_answering() {
                shared.set_in_transport(after);
            }
            self.has_progressed = true;
        }
        match written {
            Poll::Ready(Ok(())) if before == 0 => {}
            Poll::Ready(Ok(())) => shared.state().set_stuck_since(None),
            Poll::Ready(Err(error)) => {
                debug!(session = self.session.id(), %error, "cannot write to the websocket");
                return Err(CloseReason::TransportError);
            }
            Poll::Pending => {
                let mut state = shared.state();
                if before != after || state.stuck_since().is_none() {
                    state.set_stuck_since(Some(Instant::now()));
                }
            }
        }
        Ok(())
    }

    /// Takes in what has come, for as long as the application takes it and the client takes what it is sent.
    fn take_in(&mut self, cx: &mut Context<'_>, left: &mut u32) -> Result<Intaking, CloseReason> {
        loop {
            let is_posting = {
                let shared = &self.session.0;
                let mut state = shared.state();
                if let Phase::Closing(reason) = state.phase {
                    return Err(reason);
                }
                if shared.is_paused() || shared.unsent(&state) > shared.settings.send_buffer {
                    if let Some(intake) = &mut self.intake {
                        state.let_polls_go_on(intake);
                    }
                    return Ok(Intaking::Waits);
                }
                state.is_posting()
            };
            if *left == 0 {
                return Ok(Intaking::HasMore);
            }
            *left -= 1;
            if let Some(intake) = &mut self.intake {
                if let (Some(messages), Some(handler)) = (intake.text_messages.take(), &mut self.handler.0) {
                    handler.burst(messages);
                    continue;
                }
                match intake.payload.next() {
                    Some(Ok(packet)) => self.packet(packet)?,
                    Some(Err(_)) => return Err(CloseReason::ParseError),
                    None => self.end_intake(Taken::All),
                }
                continue;
            }
            let Some(websocket) = self.websocket.as_mut().filter(|_| !is_posting) else {
                return Ok(Intaking::Waits);
            };
            match websocket.poll_read(cx) {
                Poll::Pending => return Ok(Intaking::Waits),
                Poll::Ready(Ok(event)) => self.event(event)?,
                Poll::Ready(Err(failure)) => return Err(self.failed(&failure)),
            }
        }
    }

    fn event(&mut self, event: Event) -> Result<(), CloseReason> {
        let version = self.session.version();
        let packet = match event {
            Event::Text(text) => Incoming::from_text(text, version),
            Event::Binary(data) => Incoming::from_binary(data, version),
            // Part of a message: it makes progress.
            Event::SmallFragment => {
                self.heartbeat.heard();
                return self.count();
            }
            // A library sends these by itself, whether or not there is a client behind it.
            Event::Ping(_) | Event::Pong => return self.count(),
            Event::Close => return Err(CloseReason::Client),
        };
        match packet.map_err(|_| CloseReason::ParseError)? {
            // A websocket is closed by its own close. Node's server takes no notice of the packet, either.
            Incoming::Close => {
                self.heartbeat.heard();
                self.count()
            }
            packet => self.packet(packet),
        }
    }

    fn packet(&mut self, packet: Incoming) -> Result<(), CloseReason> {
        self.heartbeat.heard();
        match (packet, self.session.version()) {
            (Incoming::Message(message), _) => {
                if let Some(handler) = &mut self.handler.0 {
                    handler.message(message);
                }
                return Ok(());
            }
            (Incoming::Close, _) => return Err(CloseReason::Client),
            (Incoming::Ping(_), Version::V3) => self.send(Packet::PONG),
            (Incoming::Pong, Version::V4) => self.heartbeat.answered(&self.session.0.settings, Instant::now()),
            // The other side pings.
            (Incoming::Ping(_), Version::V4) | (Incoming::Pong, Version::V3) => return Err(CloseReason::ParseError),
            (Incoming::Upgrade | Incoming::Other, _) => {}
        }
        self.count()
    }

    /// Counts what is no message.
    fn count(&mut self) -> Result<(), CloseReason> {
        let most = self.session.0.settings.control_packets_per_second;
        if self.pace.keeps(most, Instant::now()) {
            return Ok(());
        }
        self.code = Some(1008);
        Err(CloseReason::Flood)
    }

    fn failed(&mut self, failure: &Failure) -> CloseReason {
        debug!(session = self.session.id(), "cannot read the websocket: {failure}");
        match failure {
            Failure::Ended => CloseReason::TransportClose,
            Failure::Io(_) => CloseReason::TransportError,
            Failure::Broken(broken) => {
                self.code = Some(broken.code());
                match broken {
                    Broken::TooLarge => CloseReason::TooLarge,
                    Broken::Exhausted(_) => CloseReason::Overloaded,
                    Broken::NotUtf8 | Broken::Protocol => CloseReason::ParseError,
                }
            }
        }
    }

    /// Does what is due by now, and sets the timer to what is due next.
    fn beat(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Result<(), CloseReason> {
        loop {
            let next = self.next_due();
            if next < timer.deadline().into_std() {
                timer.as_mut().reset(next.into());
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            let now = Instant::now();
            self.check_stuck(now)?;
            let is_excused = self.is_excused();
            match self.heartbeat.due(&self.session.0.settings, now, is_excused) {
                Some(Beat::Sign) => self.send(match self.session.version() {
                    Version::V4 => Packet::PING,
                    Version::V3 => Packet::PONG,
                }),
                Some(Beat::Lost) => return Err(CloseReason::PingTimeout),
                None => {}
            }
            let next = self.next_due().max(now);
            timer.as_mut().reset(next.into());
        }
    }

    /// Whether the client cannot be expected to answer: it is not read, or takes what was sent before.
    fn is_excused(&mut self) -> bool {
        let shared = &self.session.0;
        let unsent = shared.unsent(&shared.state());
        let is_slow = std::mem::take(&mut self.has_progressed) && unsent > 0;
        shared.is_paused() || unsent > shared.settings.send_buffer || is_slow || self.intake.is_some()
    }

    fn next_due(&self) -> Instant {
        let shared = &self.session.0;
        let state = shared.state();
        let heartbeat = self.heartbeat.next();
        match state.stuck_since() {
            Some(since) if self.is_bound_to_take(state.is_answering()) => {
                let limit = match shared.unsent(&state) > shared.settings.send_buffer {
                    true => STALL.min(shared.settings.send_timeout),
                    false => shared.settings.send_timeout,
                };
                heartbeat.min(since + limit)
            }
            _ => heartbeat,
        }
    }

    /// Ends a session whose client takes nothing of what it is sent.
    fn check_stuck(&self, now: Instant) -> Result<(), CloseReason> {
        let shared = &self.session.0;
        let state = shared.state();
        let Some(since) = state
            .stuck_since()
            .filter(|_| self.is_bound_to_take(state.is_answering()))
        else {
            return Ok(());
        };
        let is_over = shared.unsent(&state) > shared.settings.send_buffer;
        if now.duration_since(since) >= shared.settings.send_timeout || (is_over && state.is_stalled(now)) {
            return Err(CloseReason::SlowReader);
        }
        Ok(())
    }

    /// Whether the client has something on its way that it must take in time. One that does not poll is found by the
    /// heartbeat.
    fn is_bound_to_take(&self, is_answering: bool) -> bool {
        self.websocket.is_some() || is_answering
    }

    /// Sends a packet of the engine's own.
    fn send(&self, packet: Packet) {
        // It fails when the session ends, which the next look tells.
        let _ = self.session.send([packet]);
    }

    fn end_intake(&mut self, taken: Taken) {
        if let Some(mut intake) = self.intake.take() {
            self.session.end_post();
            intake.tell(taken);
        }
    }

    /// Tells everybody, and then the client.
    async fn finish(mut self, reason: CloseReason) {
        let patience = self.session.0.settings.close_timeout;
        self.end_intake(match reason {
            CloseReason::Client => Taken::All,
            _ => Taken::Refused,
        });
        self.session.0.state().ended(reason);
        let Some(mut websocket) = self.websocket else {
            // A client that polls hears of this end by its next poll. One that closes has sent that before its close or never.
            let (registered, patience) = match reason {
                CloseReason::Server => (Some(self.registered), patience),
                CloseReason::Client => (Some(self.registered), OVERTAKEN),
                _ => (None, patience),
            };
            self.handler.close(reason);
            poll_told(&self.session, patience).await;
            drop(registered);
            return;
        };
        drop(self.registered);
        self.handler.close(reason);
        if !reason.is_told() {
            return;
        }
        if reason.leaves_packets() {
            let packets = self.session.0.state().take_outgoing();
            for packet in packets {
                websocket.send(packet, self.session.version());
            }
        }
        let closing = websocket.close(self.code, patience);
        let closed = match reason {
            // One that takes a byte now and then must not hold up the end.
            CloseReason::Shutdown => timeout(patience * LAST_CLOSE, closing).await.map_err(Into::into),
            _ => Ok(closing.await),
        };
        if let Err(error) = closed.flatten() {
            debug!(session = self.session.id(), %error, "the websocket was not closed by both sides");
        }
    }
}

impl<H: Handler> Hand<H> {
    fn close(mut self, reason: CloseReason) {
        if let Some(handler) = self.0.take() {
            handler.close(reason);
        }
    }
}

impl<H: Handler> Drop for Hand<H> {
    fn drop(&mut self) {
        if let Some(handler) = self.0.take() {
            handler.close(CloseReason::TransportError);
        }
    }
}

/// Waits until polls have taken what is left and the close, each in a time.
async fn poll_told(session: &Session, patience: Duration) {
    loop {
        let changed = poll_fn(|cx| {
            let mut state = session.0.state();
            if state.is_told() {
                return Poll::Ready(true);
            }
            let has_changed = !state.rest();
            state.look(cx.waker());
            let _ = state.rest();
            if has_changed { Poll::Ready(false) } else { Poll::Pending }
        });
        match timeout(patience, changed).await {
            Ok(false) => {}
            Ok(true) | Err(_) => return,
        }
    }
}
