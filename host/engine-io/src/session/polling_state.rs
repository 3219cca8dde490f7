//! The state of a polling session: its pending poll, its POST, and its upgrade to a websocket.

use std::convert::Infallible;
use std::task::Waker;

use tokio::sync::oneshot;

use crate::budget::Share;
use crate::codec::Payload;
use crate::websocket::WebSocket;

/// The state of a session that polls. After an upgrade it is kept until the last poll and POST are answered.
#[derive(Debug, Default)]
pub(crate) struct PollingState {
    pub(crate) poll: PollState,
    /// Whether the response to a poll is on its way to the client.
    pub(crate) is_delivering: bool,
    pub(crate) post: PostState,
    /// The next POST, which waits while one that is answered already is still being processed.
    pub(crate) next_post: Option<Waker>,
    /// Whether polls are held back until the response to a POST is written: a client expects it before any reply to what it
    /// posted.
    pub(crate) is_held: bool,
    pub(crate) upgrade: UpgradeState,
    /// Websockets that are being closed after a failed upgrade.
    pub(crate) closing_websockets: u8,
}

#[derive(Debug, Default)]
pub(crate) enum PollState {
    #[default]
    None,
    /// A poll waits for packets. No waker once it was woken.
    Pending(Option<Waker>),
}

#[derive(Debug, Default)]
pub(crate) enum PostState {
    #[default]
    None,
    /// The body is being read. The sender is dropped at the end of the session, which stops the reading.
    ReadingBody(#[allow(dead_code, reason = "dropped at the end of the session")] oneshot::Sender<Infallible>),
    /// The body is read, and the task has not taken it yet.
    Ready(PostedPackets),
    /// The task gives the packets to the application.
    Processing,
    /// The task gives the packets to the application. The POST is answered already, because the remaining packets wait for polls.
    Answered,
}

/// The packets of a POST.
#[derive(Debug)]
pub(crate) struct PostedPackets {
    pub(crate) payload: Payload,
    /// The number of text messages, until the handler was told. None where it is not known.
    pub(crate) text_messages: Option<usize>,
    /// Answers the POST. None once it is answered.
    response: Option<oneshot::Sender<PostOutcome>>,
    _share: Share,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PostOutcome {
    Accepted,
    /// The body is not a valid payload, or the session ended before all packets were processed.
    Refused,
}

#[derive(Debug, Default)]
pub(crate) enum UpgradeState {
    #[default]
    None,
    /// A websocket is being opened, or has not sent its probe.
    Opening(Option<Waker>),
    /// The probe was answered, and the client waits for the end of its poll.
    Probed(Option<Waker>),
    /// The client has moved: from now on everything goes by this websocket, which the task has not taken yet.
    Ready(Box<WebSocket>),
}

impl PostedPackets {
    pub(crate) fn new(payload: Payload, response: oneshot::Sender<PostOutcome>, share: Share) -> Self {
        Self {
            text_messages: payload.text_messages(),
            payload,
            response: Some(response),
            _share: share,
        }
    }

    /// Answers the POST, unless it is answered already.
    pub(crate) fn answer(&mut self, outcome: PostOutcome) {
        if let Some(response) = self.response.take() {
            // The request may have been cut off.
            let _ = response.send(outcome);
        }
    }
}

impl PollingState {
    pub(crate) fn has_poll(&self) -> bool {
        matches!(self.poll, PollState::Pending(_))
    }

    pub(crate) fn has_post(&self) -> bool {
        !matches!(self.post, PostState::None)
    }

    /// Wakes the pending poll.
    pub(crate) fn wake_poll(&mut self) {
        if let PollState::Pending(waker) = &mut self.poll
            && let Some(waker) = waker.take()
        {
            waker.wake();
        }
    }

    /// Wakes the POST that waits for the one before it.
    pub(crate) fn wake_next_post(&mut self) {
        if let Some(waker) = self.next_post.take() {
            waker.wake();
        }
    }

    /// Wakes the websocket of an upgrade that is not complete.
    pub(crate) fn wake_upgrade(&mut self) {
        if let UpgradeState::Opening(waker) | UpgradeState::Probed(waker) = &mut self.upgrade
            && let Some(waker) = waker.take()
        {
            waker.wake();
        }
    }
}
