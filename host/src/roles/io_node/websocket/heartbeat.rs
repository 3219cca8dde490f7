//! The heartbeat of a websocket: since version 4 of Engine.IO the server pings and the client answers, before it was the
//! other way round. <https://socket.io/docs/v4/engine-io-protocol/#heartbeat>
//!
//! Whoever says anything is alive, and so is a client that is not listened to: what it says waits.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use super::super::codec::Revision;

/// The heartbeat of a client.
pub(super) struct Heartbeat {
    interval: Duration,
    timeout: Duration,
    next: Pin<Box<Sleep>>,
    /// Whether the client is to say something until then.
    is_awaited: bool,
    /// Whether it has said something.
    was_heard: bool,
}

/// What is due.
#[derive(Debug, PartialEq)]
pub(super) enum Beat {
    /// To ping the client.
    Ping,
    /// To give it up.
    Lost,
}

impl Heartbeat {
    /// Begins now.
    pub(super) fn new(revision: Revision, interval: Duration, timeout: Duration) -> Self {
        let (is_awaited, timeout) = match revision {
            Revision::V5 => (false, timeout),
            Revision::V4 => (true, interval + timeout),
        };
        Self {
            interval,
            timeout,
            next: Box::pin(sleep(if is_awaited { timeout } else { interval })),
            is_awaited,
            was_heard: false,
        }
    }

    /// The client said something.
    pub(super) fn heard(&mut self) {
        self.was_heard = true;
    }

    /// The client answered a ping.
    pub(super) fn answered(&mut self) {
        self.is_awaited = false;
        self.expect_after(self.interval);
    }

    /// The client pinged.
    pub(super) fn pinged(&mut self) {
        self.expect_after(self.timeout);
    }

    /// Waits for what is due.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, is_paused: bool) -> Poll<Beat> {
        loop {
            ready!(self.next.as_mut().poll(cx));
            let was_heard = std::mem::take(&mut self.was_heard);
            if !self.is_awaited {
                self.is_awaited = true;
                self.expect_after(self.timeout);
                return Poll::Ready(Beat::Ping);
            }
            if !is_paused && !was_heard {
                return Poll::Ready(Beat::Lost);
            }
            self.expect_after(self.timeout);
        }
    }

    fn expect_after(&mut self, time: Duration) {
        self.next.as_mut().reset(Instant::now() + time);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::timeout;

    use super::*;

    const SHORT: Duration = Duration::from_millis(30);
    const LONG: Duration = Duration::from_millis(200);
    const FOREVER: Duration = Duration::from_secs(600);

    async fn beat(heartbeat: &mut Heartbeat, is_paused: bool) -> Beat {
        poll_fn(|cx| heartbeat.poll(cx, is_paused)).await
    }

    #[tokio::test]
    async fn a_client_is_pinged_and_given_up_when_it_does_not_answer() {
        let mut heartbeat = Heartbeat::new(Revision::V5, SHORT, SHORT);
        for _ in 0..3 {
            assert_eq!(beat(&mut heartbeat, false).await, Beat::Ping);
            heartbeat.answered();
        }
        assert_eq!(beat(&mut heartbeat, false).await, Beat::Ping);
        assert_eq!(beat(&mut heartbeat, false).await, Beat::Lost);
        let mut patient = Heartbeat::new(Revision::V5, SHORT, FOREVER);
        assert_eq!(beat(&mut patient, false).await, Beat::Ping);
        assert!(timeout(LONG, beat(&mut patient, false)).await.is_err());
    }

    #[tokio::test]
    async fn a_client_that_pings_is_given_up_when_it_does_not() {
        let began = Instant::now();
        let mut heartbeat = Heartbeat::new(Revision::V4, SHORT, LONG);
        heartbeat.pinged();
        assert_eq!(beat(&mut heartbeat, false).await, Beat::Lost);
        assert!(began.elapsed() >= SHORT + LONG);
    }

    #[tokio::test]
    async fn a_client_that_is_not_listened_to_or_says_something_else_is_not_given_up() {
        let mut heartbeat = Heartbeat::new(Revision::V5, SHORT, SHORT);
        assert_eq!(beat(&mut heartbeat, true).await, Beat::Ping);
        assert!(timeout(LONG, beat(&mut heartbeat, true)).await.is_err());
        heartbeat.heard();
        let before = heartbeat.next.deadline();
        assert_eq!(beat(&mut heartbeat, false).await, Beat::Lost);
        assert!(
            heartbeat.next.deadline() > before,
            "it had no more time for having spoken"
        );
    }
}
