//! A session: what its task, its requests and the application share.
//!
//! One task owns a session ([`task`](crate::task)): it alone calls the application and touches the websocket. Requests that
//! poll or post leave their things here and wake it; so does the application when it sends. So what comes in keeps its order
//! over an upgrade, and what goes out has one queue, from which either a poll or the websocket takes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::budget::Share;
use crate::codec::{self, Encoded, Payload};
use crate::opening::Opening;
use crate::packet::Packet;
use crate::settings::STALL;
use crate::websocket::WebSocket;
use crate::{CloseReason, Settings, Version};

/// What may wait in front of a volatile packet: less than the time that a client takes to read it is worth.
const VOLATILE_AHEAD: usize = 64 * 1024;

/// How many websockets of one session may be closing because their upgrade failed. With so many there is no other.
const MOST_CLOSING: u8 = 4;

/// A session. Clones are the same one.
#[derive(Clone)]
pub struct Session(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) id: Arc<str>,
    pub(crate) version: Version,
    pub(crate) opening: Opening,
    pub(crate) settings: Arc<Settings>,
    pauses: AtomicU32,
    /// What was taken from the queue and is not with the client.
    in_transport: AtomicUsize,
    state: Mutex<State>,
}

/// What changes in a session.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    outgoing: VecDeque<Packet>,
    queued: usize,
    /// Since when the client takes nothing of what waits. None while it keeps up.
    stuck_since: Option<Instant>,
    task: Option<Waker>,
    /// Whether the task runs or will run, so that it need not be woken.
    is_awake: bool,
    /// Whether something has changed since the task last looked.
    is_changed: bool,
    is_websocket: bool,
    pub(crate) polling: Option<Box<Polling>>,
}

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// It is to end, and its task has not seen it yet.
    Closing(CloseReason),
    /// The application knows, and polls are told.
    Ended(CloseReason),
}

/// What a session has that polls, or did until its upgrade.
#[derive(Debug, Default)]
pub(crate) struct Polling {
    poll: Waiting,
    /// Whether the answer to a poll is on its way.
    is_answering: bool,
    post: Post,
    /// The POST that waits for the end of one that is answered already.
    next_post: Option<Waker>,
    /// Whether polls wait until a POST is answered, behind which the client expects what it has asked for by it.
    is_held: bool,
    pub(crate) upgrade: Upgrade,
    /// Websockets that are closed because their upgrade failed.
    closing: u8,
}

/// The poll that waits.
#[derive(Debug, Default)]
enum Waiting {
    #[default]
    Nobody,
    Poll(Option<Waker>),
}

/// The POST that is being taken in.
#[derive(Debug, Default)]
enum Post {
    #[default]
    Nothing,
    /// Its body comes in.
    Reading(#[allow(dead_code, reason = "dropped at the end of the session")] oneshot::Sender<Infallible>),
    /// It waits for the task.
    Ready(Intake),
    /// The task takes its packets.
    Taking,
    /// The same, and it is answered: what polls have to bring comes behind that.
    Answered,
}

/// The packets of a POST, and who waits until all are taken.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) payload: Payload,
    /// How many texts there are, until the application was told.
    pub(crate) text_messages: Option<usize>,
    /// None when it was told.
    done: Option<oneshot::Sender<Taken>>,
    _share: Share,
}

impl Intake {
    /// Has the POST answered.
    pub(crate) fn tell(&mut self, taken: Taken) {
        if let Some(done) = self.done.take() {
            // The client may be gone.
            let _ = done.send(taken);
        }
    }
}

/// What became of a POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    All,
    /// It is no payload, or the session does not take it.
    Refused,
}

/// The websocket to which a session is about to move.
#[derive(Debug, Default)]
pub(crate) enum Upgrade {
    #[default]
    None,
    /// It is being opened, or its client has not said a word.
    Opening(Option<Waker>),
    /// Its client was answered, and waits for the end of its poll.
    Probed(Option<Waker>),
    /// Its client is ready: all goes by it from now on.
    Ready(Box<WebSocket>),
}

/// The answer to a poll, on its way to the client. Dropped before its end, it ends the session: there would be a gap.
#[derive(Debug)]
pub(crate) struct Delivery(Option<Session>);

/// A POST on its way to its answer, during which polls wait. Dropped, the answer is written or never will be.
#[derive(Debug)]
pub(crate) struct Hold(Session);

/// A packet cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The session has ended.
    #[error("the session has ended")]
    Closed,
    /// The client does not take what it is sent, and the session ends now.
    #[error("the client does not take what it is sent, and more than send-buffer waits: the session is closed")]
    Overflow,
}

/// What a poll is told.
#[derive(Debug)]
pub(crate) enum Answer {
    Packets(Encoded, Delivery),
    /// Another poll waits, which ends the session.
    Overlap,
    /// The session goes by a websocket.
    Moved,
    /// The session has ended, and another poll was told.
    Gone,
}

impl Phase {
    /// Whether a poll is to be told of the end by what is in the queue.
    fn leaves_to_poll(self) -> bool {
        matches!(self, Self::Ended(CloseReason::Server | CloseReason::Client))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.0.id)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn new(id: Arc<str>, version: Version, opening: Opening, settings: Arc<Settings>) -> Self {
        let is_websocket = opening.is_websocket();
        Self(Arc::new(Shared {
            id,
            version,
            opening,
            settings,
            pauses: AtomicU32::new(0),
            in_transport: AtomicUsize::new(0),
            state: Mutex::new(State {
                phase: Phase::Open,
                outgoing: VecDeque::new(),
                queued: 0,
                stuck_since: None,
                task: None,
                is_awake: true,
                is_changed: false,
                is_websocket,
                polling: (!is_websocket).then(Box::default),
            }),
        }))
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The protocol that its client speaks.
    pub fn version(&self) -> Version {
        self.0.version
    }

    /// The request that opened it.
    pub fn opening(&self) -> &Opening {
        &self.0.opening
    }

    /// Whether it goes by a websocket now.
    pub fn is_websocket(&self) -> bool {
        self.0.state().is_websocket
    }

    /// Whether it has not ended, and is not about to.
    pub fn is_open(&self) -> bool {
        self.0.state().phase == Phase::Open
    }

    /// Sends packets, which stay together and in order. They arrive unless the session ends.
    ///
    /// # Errors
    /// When the session has ended, or ends now because its client does not take what it is sent.
    pub fn send(&self, packets: impl IntoIterator<Item = Packet>) -> Result<(), SendError> {
        let mut state = self.0.state();
        if state.phase != Phase::Open {
            return Err(SendError::Closed);
        }
        self.0.push(&mut state, packets)
    }

    /// Sends packets if the client is ready to take them now, and says whether it was.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_volatile(&self, packets: impl IntoIterator<Item = Packet>) -> Result<bool, SendError> {
        let mut state = self.0.state();
        if state.phase != Phase::Open {
            return Err(SendError::Closed);
        }
        let ahead = state.queued + self.0.in_transport.load(Ordering::Acquire);
        let is_ready = match &state.polling {
            Some(polling) if !state.is_websocket => matches!(polling.poll, Waiting::Poll(_)),
            _ => state.stuck_since.is_none(),
        };
        if !is_ready || ahead > VOLATILE_AHEAD {
            return Ok(false);
        }
        self.0.push(&mut state, packets).map(|()| true)
    }

    /// Ends the session. The client gets what was sent before, and then the close; the application is told by
    /// [`Handler::close`](crate::Handler::close), with [`CloseReason::Server`].
    pub fn close(&self) {
        self.end(CloseReason::Server);
    }

    /// Stops giving messages to the application, so that the client's own sending stalls. Pauses are counted. At most the
    /// message that is being given comes after this.
    pub fn pause(&self) {
        self.0.pauses.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes one pause back.
    pub fn resume(&self) {
        let fewer = |pauses: u32| pauses.checked_sub(1);
        let before = self.0.pauses.fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer);
        debug_assert!(before.is_ok(), "a session was resumed more often than it was paused");
        if before == Ok(1) {
            self.0.state().wake();
        }
    }

    /// Whether it is paused.
    pub fn is_paused(&self) -> bool {
        self.0.is_paused()
    }

    /// Bytes that wait to be sent, with what each packet costs besides.
    pub fn unsent(&self) -> usize {
        self.0.unsent(&self.0.state())
    }

    /// Ends the session for a reason.
    pub(crate) fn end(&self, reason: CloseReason) {
        self.0.state().end(reason);
    }

    /// Answers a poll, or says that it has to wait. `is_new` on the first call for a poll; `is_short` when it is answered by
    /// nothing as soon as its client is about to move to a websocket.
    pub(crate) fn poll_answer(&self, cx: &Context<'_>, base64: bool, is_new: bool, is_short: bool) -> Poll<Answer> {
        let mut state = self.0.state();
        let state = &mut *state;
        let Some(polling) = state.polling.as_deref_mut().filter(|_| !(is_new && state.is_websocket)) else {
            return Poll::Ready(Answer::Moved);
        };
        if is_new && matches!(polling.poll, Waiting::Poll(_)) {
            state.end(CloseReason::TransportError);
            return Poll::Ready(Answer::Overlap);
        }
        let end = match state.phase {
            // One has been told already.
            _ if state.phase.leaves_to_poll() && state.outgoing.is_empty() => {
                polling.poll = Waiting::Nobody;
                return Poll::Ready(Answer::Gone);
            }
            Phase::Ended(_) if !state.phase.leaves_to_poll() => Some(Packet::CLOSE),
            _ => None,
        };
        if let Some(end) = end {
            return Poll::Ready(self.answer_one(state, end, base64));
        }
        let is_unneeded = state.is_websocket || (is_short && matches!(polling.upgrade, Upgrade::Probed(_)));
        let has_none = state.outgoing.is_empty() || polling.is_held;
        if polling.is_answering || (has_none && !is_unneeded) {
            polling.poll = Waiting::Poll(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        if state.is_websocket && !is_short {
            // It came when its client was told to move, so it is not one that the move has overtaken.
            polling.poll = Waiting::Nobody;
            return Poll::Ready(Answer::Moved);
        }
        if state.is_websocket || has_none {
            return Poll::Ready(self.answer_one(state, Packet::NOOP, base64));
        }
        if is_new && state.phase == Phase::Ended(CloseReason::Server) && state.outgoing.len() == 1 {
            // As Node's server answers a poll by which it can close at last.
            state.outgoing.push_front(Packet::NOOP);
            state.queued += Packet::NOOP.cost();
        }
        let settings = &self.0.settings;
        let (encoded, cost) = codec::encode(&mut state.outgoing, self.0.version, base64, settings.max_payload);
        state.queued -= cost;
        Poll::Ready(self.answer(state, encoded))
    }

    fn answer_one(&self, state: &mut State, packet: Packet, base64: bool) -> Answer {
        let (encoded, _) = codec::encode(&mut [packet].into(), self.0.version, base64, usize::MAX);
        self.answer(state, encoded)
    }

    fn answer(&self, state: &mut State, encoded: Encoded) -> Answer {
        self.0.set_in_transport(encoded.body.len());
        state.stuck_since = Some(Instant::now());
        if let Some(polling) = &mut state.polling {
            polling.poll = Waiting::Nobody;
            polling.is_answering = true;
        }
        state.wake();
        Answer::Packets(encoded, Delivery(Some(self.clone())))
    }

    /// Whether a poll should not wait for long: its client is about to move to a websocket.
    pub(crate) fn is_probed(&self) -> bool {
        let state = self.0.state();
        let upgrade = state.polling.as_ref().map(|polling| &polling.upgrade);
        matches!(upgrade, Some(Upgrade::Probed(_)))
    }

    /// The poll that waits is not there any more.
    pub(crate) fn poll_was_cut_off(&self) {
        let mut state = self.0.state();
        if let Some(polling) = &mut state.polling {
            polling.poll = Waiting::Nobody;
        }
        if !state.is_websocket {
            state.end(CloseReason::TransportError);
        }
    }

    /// Begins a POST, as soon as the one before it is taken in. `is_new` on the first call for it. The receiver hears when the session
    /// ends before its body is read. None when it cannot begin: another is not answered, which ends the session, or it goes by a
    /// websocket.
    pub(crate) fn poll_begin_post(
        &self,
        cx: &Context<'_>,
        is_new: bool,
    ) -> Poll<Option<oneshot::Receiver<Infallible>>> {
        let mut state = self.0.state();
        let state = &mut *state;
        let Some(polling) = state.polling.as_deref_mut().filter(|_| !state.is_websocket) else {
            return Poll::Ready(None);
        };
        let is_over = match is_new {
            true => state.phase == Phase::Ended(CloseReason::Client),
            false => state.phase != Phase::Open,
        };
        if is_over {
            return Poll::Ready(None);
        }
        match polling.post {
            Post::Answered if !is_new || polling.next_post.is_none() => {
                polling.next_post = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Post::Nothing => {}
            _ => {
                state.end(CloseReason::TransportError);
                return Poll::Ready(None);
            }
        }
        let (until_end, ended) = oneshot::channel();
        polling.post = Post::Reading(until_end);
        Poll::Ready(Some(ended))
    }

    /// Gives a POST to the task. The receiver hears when it is to be answered. Polls wait until the hold is dropped.
    pub(crate) fn give_post(&self, payload: Payload, share: Share) -> (oneshot::Receiver<Taken>, Hold) {
        let (done, taken) = oneshot::channel();
        let text_messages = payload.text_messages();
        let mut state = self.0.state();
        if matches!(state.phase, Phase::Ended(_)) {
            // Its client has not heard of the end. Nobody takes the packets.
            let _ = done.send(Taken::All);
        } else if let Some(polling) = &mut state.polling {
            polling.is_held = true;
            polling.post = Post::Ready(Intake {
                payload,
                text_messages,
                done: Some(done),
                _share: share,
            });
            state.wake();
        }
        (taken, Hold(self.clone()))
    }

    /// Ends a POST that gives nothing to the task, or of which the task has taken all.
    pub(crate) fn end_post(&self) {
        let mut state = self.0.state();
        if let Some(polling) = &mut state.polling {
            polling.post = Post::Nothing;
            polling.wake_post();
            state.wake();
        }
    }

    /// Reserves the session for an upgrade. False when it cannot be upgraded, or is being so.
    pub(crate) fn begin_upgrade(&self) -> bool {
        let mut state = self.0.state();
        if state.phase != Phase::Open || state.is_websocket {
            return false;
        }
        match &mut state.polling {
            Some(polling) if matches!(polling.upgrade, Upgrade::None) && polling.closing < MOST_CLOSING => {
                polling.upgrade = Upgrade::Opening(None);
                true
            }
            _ => false,
        }
    }

    /// Waits for the end of the session while it is being upgraded.
    pub(crate) fn poll_upgrade_over(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.0.state();
        if state.phase != Phase::Open {
            return Poll::Ready(());
        }
        match state.polling.as_mut().map(|polling| &mut polling.upgrade) {
            Some(Upgrade::Opening(waker) | Upgrade::Probed(waker)) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// The client of a websocket was answered: the poll that waits is to end.
    pub(crate) fn was_probed(&self) {
        let mut state = self.0.state();
        if let Some(polling) = &mut state.polling {
            polling.upgrade = Upgrade::Probed(None);
            polling.wake_poll();
        }
    }

    /// The upgrade failed: the session goes on as it is.
    pub(crate) fn end_upgrade(&self) {
        if let Some(polling) = &mut self.0.state().polling {
            polling.upgrade = Upgrade::None;
        }
    }

    /// Counts a websocket that is closed because its upgrade failed.
    pub(crate) fn begin_closing(&self) {
        if let Some(polling) = &mut self.0.state().polling {
            polling.closing += 1;
        }
    }

    /// It is closed.
    pub(crate) fn end_closing(&self) {
        if let Some(polling) = &mut self.0.state().polling {
            polling.closing = polling.closing.saturating_sub(1);
        }
    }

    /// Moves the session to a websocket, unless it has ended; then the websocket is returned.
    pub(crate) fn upgrade(&self, websocket: Box<WebSocket>) -> Result<(), Box<WebSocket>> {
        let mut state = self.0.state();
        if state.phase != Phase::Open {
            return Err(websocket);
        }
        let Some(polling) = &mut state.polling else {
            return Err(websocket);
        };
        polling.upgrade = Upgrade::Ready(websocket);
        polling.wake_poll();
        polling.wake_post();
        state.is_websocket = true;
        state.wake();
        Ok(())
    }
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.pauses.load(Ordering::Acquire) > 0
    }

    /// What waits to be sent.
    pub(crate) fn unsent(&self, state: &State) -> usize {
        state.queued + self.in_transport.load(Ordering::Acquire)
    }

    /// Notes what the websocket has not written.
    pub(crate) fn set_in_transport(&self, cost: usize) {
        self.in_transport.store(cost, Ordering::Release);
    }

    /// Adds packets to the queue, and ends a session whose client does not take them.
    pub(crate) fn push(&self, state: &mut State, packets: impl IntoIterator<Item = Packet>) -> Result<(), SendError> {
        for packet in packets {
            state.queued += packet.cost();
            state.outgoing.push_back(packet);
        }
        let unsent = self.unsent(state);
        if unsent > self.settings.send_buffer
            && (unsent > self.settings.send_limit() || state.is_stalled(Instant::now()))
        {
            state.outgoing = VecDeque::new();
            state.queued = 0;
            state.end(CloseReason::SlowReader);
            return Err(SendError::Overflow);
        }
        if state.is_websocket {
            state.wake();
        } else if let Some(polling) = &mut state.polling {
            let is_held = polling.is_held;
            if matches!(polling.poll, Waiting::Poll(_)) {
                if !is_held {
                    polling.wake_poll();
                }
            } else if state.stuck_since.is_none() {
                state.stuck_since = Some(Instant::now());
            }
            if is_held {
                // The task may have to answer the POST first.
                state.wake();
            }
        }
        Ok(())
    }
}

impl State {
    /// Has the task look again.
    pub(crate) fn wake(&mut self) {
        self.is_changed = true;
        if !self.is_awake {
            self.is_awake = true;
            if let Some(task) = &self.task {
                task.wake_by_ref();
            }
        }
    }

    /// The task looks now, and changes are told to it from here on.
    pub(crate) fn look(&mut self, waker: &Waker) {
        self.is_changed = false;
        self.is_awake = true;
        match &mut self.task {
            Some(task) => task.clone_from(waker),
            None => self.task = Some(waker.clone()),
        }
    }

    /// The task has nothing to do until it is woken. False when something has changed meanwhile.
    pub(crate) fn rest(&mut self) -> bool {
        self.is_awake = self.is_changed;
        !self.is_changed
    }

    pub(crate) fn end(&mut self, reason: CloseReason) {
        if self.phase == Phase::Open {
            self.phase = Phase::Closing(reason);
            self.wake();
        }
    }

    /// Whether the client has taken nothing for so long that no more may wait for it.
    pub(crate) fn is_stalled(&self, now: Instant) -> bool {
        self.stuck_since.is_some_and(|since| now.duration_since(since) >= STALL)
    }

    pub(crate) fn stuck_since(&self) -> Option<Instant> {
        self.stuck_since
    }

    /// Notes whether the client takes what it is sent.
    pub(crate) fn set_stuck_since(&mut self, since: Option<Instant>) {
        self.stuck_since = since;
    }

    /// Takes all that is to go by the websocket. Nothing while the answer to a poll is on its way: it comes first.
    pub(crate) fn take_outgoing(&mut self) -> VecDeque<Packet> {
        if self.is_answering() {
            return VecDeque::new();
        }
        self.queued = 0;
        std::mem::take(&mut self.outgoing)
    }

    /// Whether all that polls are to be told of the end is told.
    pub(crate) fn is_told(&self) -> bool {
        let is_left = !self.outgoing.is_empty() && self.phase.leaves_to_poll();
        !self.is_answering() && !self.has_poll() && !is_left
    }

    /// Whether the answer to a poll is on its way.
    pub(crate) fn is_answering(&self) -> bool {
        self.polling.as_ref().is_some_and(|polling| polling.is_answering)
    }

    /// Whether a poll waits.
    pub(crate) fn has_poll(&self) -> bool {
        self.polling
            .as_ref()
            .is_some_and(|polling| matches!(polling.poll, Waiting::Poll(_)))
    }

    /// Whether the body of a POST is coming in, which is before all that comes by the websocket.
    pub(crate) fn is_posting(&self) -> bool {
        self.polling
            .as_ref()
            .is_some_and(|polling| !matches!(polling.post, Post::Nothing))
    }

    /// Takes the websocket to which the session has moved.
    pub(crate) fn take_websocket(&mut self) -> Option<Box<WebSocket>> {
        let polling = self.polling.as_mut()?;
        match std::mem::take(&mut polling.upgrade) {
            Upgrade::Ready(websocket) => Some(websocket),
            other => {
                polling.upgrade = other;
                None
            }
        }
    }

    /// Has the POST that is being taken in answered, when polls have something to bring: they come behind its answer, and may be what the
    /// rest of it waits for.
    pub(crate) fn let_polls_go_on(&mut self, intake: &mut Intake) {
        if let Some(polling) = self.polling.as_mut().filter(|polling| polling.is_held)
            && matches!(polling.post, Post::Taking)
            && !self.outgoing.is_empty()
        {
            polling.post = Post::Answered;
            intake.tell(Taken::All);
        }
    }

    /// Lets polls be answered, since the POST before them is.
    fn release_polls(&mut self) {
        if let Some(polling) = self.polling.as_mut().filter(|polling| polling.is_held) {
            polling.is_held = false;
            if !self.outgoing.is_empty() {
                polling.wake_poll();
            }
        }
    }

    /// Takes the POST that waits.
    pub(crate) fn take_post(&mut self) -> Option<Intake> {
        let polling = self.polling.as_mut()?;
        match std::mem::take(&mut polling.post) {
            Post::Ready(intake) => {
                polling.post = Post::Taking;
                Some(intake)
            }
            other => {
                polling.post = other;
                None
            }
        }
    }

    /// Forgets what it had for polling, once it has moved and nothing of that is left.
    pub(crate) fn forget_polling(&mut self) {
        if self.is_websocket && !self.is_answering() && !self.is_posting() && !self.has_poll() {
            self.polling = None;
        }
    }

    /// The application knows that the session has ended: so polls, and a websocket that would have taken over, are told.
    pub(crate) fn ended(&mut self, reason: CloseReason) {
        self.phase = Phase::Ended(reason);
        if !self.is_websocket && self.phase.leaves_to_poll() {
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
        polling.wake_post();
        if let Upgrade::Opening(waker) | Upgrade::Probed(waker) = &mut polling.upgrade
            && let Some(waker) = waker.take()
        {
            waker.wake();
        }
        if let Post::Ready(mut intake) = std::mem::take(&mut polling.post) {
            intake.tell(Taken::Refused);
        }
    }
}

impl Polling {
    fn wake_poll(&mut self) {
        if let Waiting::Poll(waker) = &mut self.poll
            && let Some(waker) = waker.take()
        {
            waker.wake();
        }
    }

    fn wake_post(&mut self) {
        if let Some(waker) = self.next_post.take() {
            waker.wake();
        }
    }
}

impl Delivery {
    /// So many bytes are left to be taken.
    pub(crate) fn left(&self, bytes: usize) {
        if let Some(session) = &self.0 {
            session.0.in_transport.store(bytes, Ordering::Release);
            let mut state = session.0.state();
            state.stuck_since = Some(Instant::now());
            state.wake();
        }
    }

    /// The client, or the kernel, has all of it.
    pub(crate) fn done(mut self) {
        if let Some(session) = self.0.take() {
            end_delivery(&session);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.0.state().release_polls();
    }
}

fn end_delivery(session: &Session) {
    session.0.in_transport.store(0, Ordering::Release);
    let mut state = session.0.state();
    state.stuck_since = (!state.outgoing.is_empty()).then(Instant::now);
    if let Some(polling) = &mut state.polling {
        polling.is_answering = false;
        polling.wake_poll();
    }
    state.wake();
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(session) = self.0.take() {
            end_delivery(&session);
            session.end(CloseReason::TransportError);
        }
    }
}
