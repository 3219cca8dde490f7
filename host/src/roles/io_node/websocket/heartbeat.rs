//! The heartbeat of a websocket: since version 4 of Engine.IO the server pings and the client answers, before it was the
//! other way round. <https://socket.io/docs/v4/engine-io-protocol/#heartbeat>
//!
//! Whoever says anything is alive, and so is a client that is not listened to, as what it says waits. It goes on hearing from
//! the server meanwhile, or it would give up itself.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use super::super::codec::Revision;

/// The heartbeat of a client.
pub(super) struct Heartbeat {
    /// Who pings.
    revision: Revision,
    interval: Duration,
    /// How long the client may say nothing.
    timeout: Duration,
    next: Pin<Box<Sleep>>,
    /// Since when the client is to say something.
    awaited_since: Option<Instant>,
    /// Whether it has.
    was_heard: bool,
}

/// What is due.
#[derive(Debug, PartialEq)]
pub(super) enum Beat {
    /// To tell the client that the server is alive.
    Sign,
    /// To give it up.
    Lost,
}

impl Heartbeat {
    /// Begins now.
    pub(super) fn new(revision: Revision, interval: Duration, timeout: Duration) -> Self {
        let (awaited_since, timeout) = match revision {
            Revision::V5 => (None, timeout),
            Revision::V4 => (Some(Instant::now()), interval + timeout),
        };
        Self {
            revision,
            interval,
            timeout,
            next: Box::pin(sleep(interval)),
            awaited_since,
            was_heard: false,
        }
    }

    /// The client said something.
    pub(super) fn heard(&mut self) {
        self.was_heard = true;
    }

    /// The client answered a ping.
    pub(super) fn answered(&mut self) {
        self.awaited_since = None;
        self.look_after(self.interval);
    }

    /// Waits for what is due.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, is_paused: bool) -> Poll<Beat> {
        loop {
            ready!(self.next.as_mut().poll(cx));
            let now = Instant::now();
            let is_alive = std::mem::take(&mut self.was_heard) || is_paused;
            match self.awaited_since {
                Some(since) if !is_alive && now >= since + self.timeout => return Poll::Ready(Beat::Lost),
                Some(since) if !is_alive => self.next.as_mut().reset(since + self.timeout),
                _ => {
                    self.awaited_since = Some(now);
                    self.look_after(self.interval.min(self.timeout));
                    // A client that pings is answered, unless it is not listened to.
                    if self.revision == Revision::V5 || is_paused {
                        return Poll::Ready(Beat::Sign);
                    }
                }
            }
        }
    }

    fn look_after(&mut self, time: Duration) {
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
        for (interval, timeout) in [(SHORT, SHORT), (SHORT, LONG), (LONG, SHORT)] {
            let mut heartbeat = Heartbeat::new(Revision::V5, interval, timeout);
            for _ in 0..3 {
                assert_eq!(beat(&mut heartbeat, false).await, Beat::Sign);
                heartbeat.heard();
                heartbeat.answered();
            }
            let began = Instant::now();
            assert_eq!(beat(&mut heartbeat, false).await, Beat::Sign);
            // It was heard of before the ping, and that counts no more.
            assert_eq!(beat(&mut heartbeat, false).await, Beat::Lost);
            assert!(began.elapsed() >= timeout);
        }
        let mut patient = Heartbeat::new(Revision::V5, SHORT, FOREVER);
        assert_eq!(beat(&mut patient, false).await, Beat::Sign);
        assert!(timeout(LONG, beat(&mut patient, false)).await.is_err());
    }

    #[tokio::test]
    async fn a_client_that_pings_is_given_up_when_it_does_not() {
        let mut heartbeat = Heartbeat::new(Revision::V4, SHORT, LONG);
        heartbeat.heard();
        let began = Instant::now();
        assert_eq!(beat(&mut heartbeat, false).await, Beat::Lost);
        assert!(began.elapsed() >= SHORT + LONG);
    }

    #[tokio::test]
    async fn a_client_that_is_not_listened_to_goes_on_hearing_from_the_server_and_is_not_given_up() {
        for revision in [Revision::V4, Revision::V5] {
            let mut heartbeat = Heartbeat::new(revision, SHORT, SHORT);
            for _ in 0..5 {
                assert_eq!(beat(&mut heartbeat, true).await, Beat::Sign);
            }
            assert_eq!(beat(&mut heartbeat, false).await, Beat::Lost);
        }
    }

    #[tokio::test]
    async fn a_client_that_says_something_else_is_not_given_up() {
        let mut heartbeat = Heartbeat::new(Revision::V5, SHORT, SHORT);
        for _ in 0..5 {
            assert_eq!(beat(&mut heartbeat, false).await, Beat::Sign);
            heartbeat.heard();
        }
        assert_eq!(beat(&mut heartbeat, false).await, Beat::Sign);
        assert_eq!(beat(&mut heartbeat, false).await, Beat::Lost);
    }
}
