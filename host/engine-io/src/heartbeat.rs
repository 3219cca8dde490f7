//! The heartbeat of a session: in protocol 4 the server pings and the client answers, in protocol 3 the other way round.
//! <https://socket.io/docs/v4/engine-io-protocol/#heartbeat>
//!
//! A client that sends anything is alive. So is one that is not read, as what it sends waits; it goes on hearing from the
//! server meanwhile, or it would give up itself.

use std::time::{Duration, Instant};

use crate::{Settings, Version};

/// The heartbeat of a session. It has no timer: its owner asks it at [`next`](Self::next).
#[derive(Debug)]
pub(crate) struct Heartbeat {
    version: Version,
    next: Instant,
    /// Since when the client is to send something.
    awaited_since: Option<Instant>,
    /// Whether it has sent something since the last look.
    was_heard: bool,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beat {
    /// To tell the client that the server is alive: by a ping, or by a pong in protocol 3.
    Sign,
    /// To give it up.
    Lost,
}

impl Heartbeat {
    pub(crate) fn new(version: Version, settings: &Settings, now: Instant) -> Self {
        Self {
            version,
            next: now + settings.ping_interval,
            awaited_since: (version == Version::V3).then_some(now),
            was_heard: false,
        }
    }

    /// The client sent something.
    pub(crate) fn heard(&mut self) {
        self.was_heard = true;
    }

    /// The client answered a ping.
    pub(crate) fn answered(&mut self, settings: &Settings, now: Instant) {
        self.awaited_since = None;
        self.next = now + settings.ping_interval;
    }

    /// When to ask for what is due.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// Says what is due now. `is_excused`: the client cannot be expected to answer.
    pub(crate) fn due(&mut self, settings: &Settings, now: Instant, is_excused: bool) -> Option<Beat> {
        if now < self.next {
            return None;
        }
        let (interval, timeout) = (settings.ping_interval, self.timeout(settings));
        let is_alive = std::mem::take(&mut self.was_heard) || is_excused;
        match self.awaited_since {
            Some(since) if !is_alive && now >= since + timeout => Some(Beat::Lost),
            Some(since) if !is_alive => {
                self.next = since + timeout;
                None
            }
            _ => {
                self.awaited_since = Some(now);
                self.next = now + interval.min(timeout);
                // A client that pings is answered, unless it is not read.
                (self.version == Version::V4 || is_excused).then_some(Beat::Sign)
            }
        }
    }

    fn timeout(&self, settings: &Settings) -> Duration {
        match self.version {
            Version::V4 => settings.ping_timeout,
            Version::V3 => settings.ping_interval + settings.ping_timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(30);
    const LONG: Duration = Duration::from_millis(200);

    fn settings(ping_interval: Duration, ping_timeout: Duration) -> Settings {
        Settings {
            ping_interval,
            ping_timeout,
            ..Settings::default()
        }
    }

    /// Goes from one look to the next until something is due, and says when that is.
    fn beat(heartbeat: &mut Heartbeat, settings: &Settings, now: &mut Instant, is_excused: bool) -> Beat {
        loop {
            *now = heartbeat.next().max(*now);
            if let Some(beat) = heartbeat.due(settings, *now, is_excused) {
                return beat;
            }
        }
    }

    #[test]
    fn silent_client_is_lost_after_ping() {
        for (interval, timeout) in [(SHORT, SHORT), (SHORT, LONG), (LONG, SHORT)] {
            let settings = settings(interval, timeout);
            let mut now = Instant::now();
            let mut heartbeat = Heartbeat::new(Version::V4, &settings, now);
            for _ in 0..3 {
                let before = now;
                assert_eq!(beat(&mut heartbeat, &settings, &mut now, false), Beat::Sign);
                assert_eq!(now - before, interval);
                heartbeat.heard();
                heartbeat.answered(&settings, now);
            }
            assert_eq!(beat(&mut heartbeat, &settings, &mut now, false), Beat::Sign);
            let pinged = now;
            // It was heard before the ping, and that counts no more.
            assert_eq!(beat(&mut heartbeat, &settings, &mut now, false), Beat::Lost);
            assert_eq!(now - pinged, timeout);
        }
    }

    #[test]
    fn silent_client_of_protocol_3_is_lost() {
        let settings = settings(SHORT, LONG);
        let start = Instant::now();
        let mut now = start;
        let mut heartbeat = Heartbeat::new(Version::V3, &settings, now);
        heartbeat.heard();
        assert_eq!(beat(&mut heartbeat, &settings, &mut now, false), Beat::Lost);
        assert!(now - start >= SHORT + LONG);
    }

    #[test]
    fn excused_client_hears_from_server_and_stays() {
        let settings = settings(SHORT, SHORT);
        for version in [Version::V3, Version::V4] {
            let mut now = Instant::now();
            let mut heartbeat = Heartbeat::new(version, &settings, now);
            for _ in 0..5 {
                assert_eq!(beat(&mut heartbeat, &settings, &mut now, true), Beat::Sign);
            }
            assert_eq!(beat(&mut heartbeat, &settings, &mut now, false), Beat::Lost);
        }
    }

    #[test]
    fn client_that_sends_something_else_stays() {
        let settings = settings(SHORT, SHORT);
        let mut now = Instant::now();
        let mut heartbeat = Heartbeat::new(Version::V4, &settings, now);
        for _ in 0..5 {
            assert_eq!(beat(&mut heartbeat, &settings, &mut now, false), Beat::Sign);
            heartbeat.heard();
        }
        assert_eq!(beat(&mut heartbeat, &settings, &mut now, false), Beat::Sign);
        assert_eq!(beat(&mut heartbeat, &settings, &mut now, false), Beat::Lost);
    }
}
