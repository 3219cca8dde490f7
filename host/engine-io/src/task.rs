//! The task that owns a session from its first packet to its last. It alone calls the application, reads and writes the
//! websocket, and keeps the heartbeat.
//!
//! Order of input: the packets of a POST come before anything from the websocket. Order of output: one queue, from which the
//! websocket takes only while no response to a poll is on its way.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::{Sleep, sleep_until};
use tracing::debug;

use crate::application::Handler;
use crate::close_reason::CloseReason;
use crate::closing::Closing;
use crate::codec::ClientPacket;
use crate::handler_guard::HandlerGuard;
use crate::heartbeat::{Due, Heartbeat};
use crate::packet::Packet;
use crate::rate_limit::RateLimit;
use crate::registry::Registration;
use crate::session::{Phase, PostOutcome, PostedPackets, Session};
use crate::settings::STALL_TIMEOUT;
use crate::version::Version;
use crate::websocket::{DecodeError, WebSocket, WebSocketError, WebSocketEvent};

/// Packets processed before other tasks get their turn.
const PACKETS_PER_TURN: u32 = 64;
/// Passes in one turn, each because something changed during the one before.
const PASSES_PER_TURN: u32 = 8;

/// The task of one session.
pub(crate) struct Task<H: Handler> {
    session: Session,
    registration: Registration,
    handler: HandlerGuard<H>,
    websocket: Option<Box<WebSocket>>,
    /// The POST that is being processed.
    post: Option<PostedPackets>,
    heartbeat: Heartbeat,
    control_packets: RateLimit,
    /// Whether the client has taken bytes since the heartbeat was last checked: so it is alive.
    has_progressed: bool,
    /// The status code for the websocket's close frame.
    code: Option<u16>,
}

/// How reading ended.
#[derive(PartialEq, Eq)]
enum ReadProgress {
    /// Nothing more can be read now.
    Idle,
    /// The turn is used up.
    HasMore,
}

impl<H: Handler> Task<H> {
    pub(crate) fn new(registration: Registration, handler: H) -> Self {
        let session = registration.session().clone();
        let heartbeat = Heartbeat::new(session.version(), &session.0.settings, Instant::now());
        Self {
            session,
            registration,
            handler: HandlerGuard::new(handler),
            websocket: None,
            post: None,
            heartbeat,
            control_packets: RateLimit::default(),
            has_progressed: false,
            code: None,
        }
    }

    /// Runs a session that begins as a websocket, to its end.
    pub(crate) async fn run_websocket(mut self, mut websocket: Box<WebSocket>, open: Packet) {
        websocket.send(open, self.session.version());
        self.websocket = Some(websocket);
        self.run().await;
    }

    /// Runs the session to its end.
    pub(crate) async fn run(mut self) {
        let reason = {
            let mut timer = pin!(sleep_until(self.heartbeat.next().into()));
            poll_fn(|cx| self.poll(cx, timer.as_mut())).await
        };
        debug!(session = self.session.id(), %reason, "session ended");
        self.end_post(match reason {
            CloseReason::Client => PostOutcome::Accepted,
            _ => PostOutcome::Refused,
        });
        let closing = Closing {
            session: self.session,
            registration: self.registration,
            handler: self.handler,
            websocket: self.websocket,
            code: self.code,
        };
        // Boxed, so that the task of an open session does not reserve memory for it.
        Box::pin(closing.run(reason)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<CloseReason> {
        let mut packets_left = PACKETS_PER_TURN;
        for _ in 0..PASSES_PER_TURN {
            if let Some(reason) = self.take_changes(cx) {
                return Poll::Ready(reason);
            }
            match self.pass(cx, &mut packets_left, timer.as_mut()) {
                Err(reason) => return Poll::Ready(reason),
                Ok(ReadProgress::HasMore) => break,
                Ok(ReadProgress::Idle) if self.session.0.state().task.try_sleep() => return Poll::Pending,
                Ok(ReadProgress::Idle) => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        packets_left: &mut u32,
        timer: Pin<&mut Sleep>,
    ) -> Result<ReadProgress, CloseReason> {
        self.write(cx)?;
        let progress = self.read(cx, packets_left)?;
        // Reading may have queued the answer to a ping.
        self.write(cx)?;
        self.check_timer(cx, timer)?;
        Ok(progress)
    }

    /// Takes what requests and the application have left in the shared state. Returns the reason if the session is to end.
    fn take_changes(&mut self, cx: &Context<'_>) -> Option<CloseReason> {
        let shared = &self.session.0;
        let mut state = shared.state();
        state.task.begin_pass(cx.waker());
        if let Some(websocket) = state.take_websocket() {
            self.websocket = Some(websocket);
        }
        if let Some(post) = state.take_post() {
            self.post = Some(post);
        }
        if let Phase::Closing(reason) = state.phase {
            return Some(reason);
        }
        if let Some(websocket) = &mut self.websocket {
            state.free_polling();
            let packets = state.take_outgoing();
            if !packets.is_empty() {
                for packet in packets {
                    websocket.send(packet, shared.version);
                }
                shared.set_in_flight(websocket.cost());
            }
        }
        None
    }

    /// Writes to the websocket, and records whether the client reads.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let Some(websocket) = &mut self.websocket else {
            return Ok(());
        };
        let before = websocket.cost();
        let written = websocket.poll_write(cx);
        let after = websocket.cost();
        let shared = &self.session.0;
        if before != after {
            if !shared.state().is_delivering() {
                shared.set_in_flight(after);
            }
            self.has_progressed = true;
        }
        match written {
            Poll::Ready(Ok(())) if before == 0 => {}
            Poll::Ready(Ok(())) => shared.state().stalled_since = None,
            Poll::Ready(Err(error)) => {
                debug!(session = self.session.id(), %error, "cannot write to the websocket");
                return Err(CloseReason::TransportError);
            }
            Poll::Pending => {
                let mut state = shared.state();
                if before != after || state.stalled_since.is_none() {
                    state.stalled_since = Some(Instant::now());
                }
            }
        }
        Ok(())
    }

    /// Processes input, for as long as the application accepts it and the client reads.
    fn read(&mut self, cx: &mut Context<'_>, packets_left: &mut u32) -> Result<ReadProgress, CloseReason> {
        loop {
            let has_post = {
                let shared = &self.session.0;
                let mut state = shared.state();
                if let Phase::Closing(reason) = state.phase {
                    return Err(reason);
                }
                if shared.is_paused() || shared.is_over_send_buffer(&state) {
                    if let Some(post) = &mut self.post {
                        state.answer_post_early(post);
                    }
                    return Ok(ReadProgress::Idle);
                }
                state.has_post()
            };
            if *packets_left == 0 {
                return Ok(ReadProgress::HasMore);
            }
            *packets_left -= 1;
            if let Some(post) = &mut self.post {
                if let (Some(count), Some(handler)) = (post.text_messages.take(), self.handler.get_mut()) {
                    handler.expect_messages(count);
                    continue;
                }
                match post.payload.next() {
                    Some(Ok(packet)) => self.handle_packet(packet)?,
                    Some(Err(_)) => return Err(CloseReason::ParseError),
                    None => self.end_post(PostOutcome::Accepted),
                }
                continue;
            }
            let Some(websocket) = self.websocket.as_mut().filter(|_| !has_post) else {
                return Ok(ReadProgress::Idle);
            };
            match websocket.poll_read(cx) {
                Poll::Pending => return Ok(ReadProgress::Idle),
                Poll::Ready(Ok(event)) => self.handle_event(event)?,
                Poll::Ready(Err(error)) => return Err(self.read_failed(&error)),
            }
        }
    }

    fn handle_event(&mut self, event: WebSocketEvent) -> Result<(), CloseReason> {
        let version = self.session.version();
        let packet = match event {
            WebSocketEvent::Text(text) => ClientPacket::from_text(text, version),
            WebSocketEvent::Binary(data) => ClientPacket::from_binary(data, version),
            // Part of a message, so the client makes progress.
            WebSocketEvent::SmallFragment => {
                self.heartbeat.received();
                return self.count_control_packet();
            }
            // Websocket libraries send these by themselves, so they do not show that the client is alive.
            WebSocketEvent::Ping(_) | WebSocketEvent::Pong => return self.count_control_packet(),
            WebSocketEvent::Close => return Err(CloseReason::Client),
        };
        match packet.map_err(|_| CloseReason::ParseError)? {
            // A websocket is closed by a close frame. Node's server ignores the packet, too.
            ClientPacket::Close => {
                self.heartbeat.received();
                self.count_control_packet()
            }
            packet => self.handle_packet(packet),
        }
    }

    fn handle_packet(&mut self, packet: ClientPacket) -> Result<(), CloseReason> {
        self.heartbeat.received();
        match (packet, self.session.version()) {
            (ClientPacket::Message(message), _) => {
                if let Some(handler) = self.handler.get_mut() {
                    handler.message(message);
                }
                return Ok(());
            }
            (ClientPacket::Close, _) => return Err(CloseReason::Client),
            (ClientPacket::Ping, Version::V3) => self.send(Packet::PONG),
            (ClientPacket::Pong, Version::V4) => self.heartbeat.answered(&self.session.0.settings, Instant::now()),
            // In this version the other side pings.
            (ClientPacket::Ping, Version::V4) | (ClientPacket::Pong, Version::V3) => {
                return Err(CloseReason::ParseError);
            }
            (ClientPacket::Upgrade | ClientPacket::Other, _) => {}
        }
        self.count_control_packet()
    }

    /// Counts a packet or frame that is not a message.
    fn count_control_packet(&mut self) -> Result<(), CloseReason> {
        let limit = self.session.0.settings.control_packets_per_second;
        if self.control_packets.allows(limit, Instant::now()) {
            return Ok(());
        }
        self.code = Some(1008);
        Err(CloseReason::Flood)
    }

    fn read_failed(&mut self, error: &WebSocketError) -> CloseReason {
        debug!(session = self.session.id(), %error, "cannot read the websocket");
        match error {
            WebSocketError::Ended => CloseReason::TransportClose,
            WebSocketError::Io(_) => CloseReason::TransportError,
            WebSocketError::Decode(error) => {
                self.code = Some(error.close_code());
                match error {
                    DecodeError::TooLarge => CloseReason::TooLarge,
                    DecodeError::Exhausted(_) => CloseReason::Overloaded,
                    DecodeError::NotUtf8 | DecodeError::Protocol => CloseReason::ParseError,
                }
            }
        }
    }

    /// Performs the checks that are due (stall, heartbeat), and sets the timer to the next.
    fn check_timer(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Result<(), CloseReason> {
        loop {
            let next = self.next_due();
            if next < timer.deadline().into_std() {
                timer.as_mut().reset(next.into());
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            let now = Instant::now();
            self.check_stall(now)?;
            let is_excused = self.is_excused();
            match self.heartbeat.due(&self.session.0.settings, now, is_excused) {
                Some(Due::SignOfLife) => self.send(match self.session.version() {
                    Version::V4 => Packet::PING,
                    Version::V3 => Packet::PONG,
                }),
                Some(Due::Timeout) => return Err(CloseReason::PingTimeout),
                None => {}
            }
            let next = self.next_due().max(now);
            timer.as_mut().reset(next.into());
        }
    }

    /// Whether the client cannot be expected to answer a ping now: its input is not read, or it is still taking what was sent
    /// before the ping.
    fn is_excused(&mut self) -> bool {
        let shared = &self.session.0;
        let unsent = shared.unsent(&shared.state());
        let is_slow = std::mem::take(&mut self.has_progressed) && unsent > 0;
        shared.is_paused() || unsent > shared.settings.send_buffer || is_slow || self.post.is_some()
    }

    fn next_due(&self) -> Instant {
        let shared = &self.session.0;
        let state = shared.state();
        let heartbeat = self.heartbeat.next();
        match state.stalled_since {
            Some(since) if self.must_take(state.is_delivering()) => {
                let limit = match shared.is_over_send_buffer(&state) {
                    true => STALL_TIMEOUT.min(shared.settings.send_timeout),
                    false => shared.settings.send_timeout,
                };
                heartbeat.min(since + limit)
            }
            _ => heartbeat,
        }
    }

    /// Ends a session whose client has stalled for too long.
    fn check_stall(&self, now: Instant) -> Result<(), CloseReason> {
        let shared = &self.session.0;
        let state = shared.state();
        let Some(since) = state.stalled_since.filter(|_| self.must_take(state.is_delivering())) else {
            return Ok(());
        };
        let is_over = shared.is_over_send_buffer(&state);
        if now.duration_since(since) >= shared.settings.send_timeout || (is_over && state.is_stalled(now)) {
            return Err(CloseReason::SlowReader);
        }
        Ok(())
    }

    /// Whether bytes are on their way to the client, which it must take in time. A client that does not poll is found by the
    /// heartbeat instead.
    fn must_take(&self, is_delivering: bool) -> bool {
        self.websocket.is_some() || is_delivering
    }

    /// Sends a packet of the engine itself.
    fn send(&self, packet: Packet) {
        // It fails only when the session ends, which the next pass finds.
        let _ = self.session.send([packet]);
    }

    fn end_post(&mut self, outcome: PostOutcome) {
        if let Some(mut post) = self.post.take() {
            self.session.0.state().end_post();
            post.answer(outcome);
        }
    }
}
