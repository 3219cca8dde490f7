//! The heartbeat of a session: in protocol 4 the server pings and the client answers, in protocol 3 the other way round.
//! <https://socket.io/docs/v4/engine-io-protocol/#heartbeat>
//!
//! A client that sends anything is alive. A client whose input is not read, because of backpressure, is taken to be alive; it
//! still gets pings or pongs meanwhile, or else it would give up the session itself.

use std::time::{Duration, Instant};

use crate::settings::Settings;
use crate::version::Version;

/// The heartbeat of a session. It has no timer: its owner calls [`due`](Self::due) at [`next`](Self::next).
#[derive(Debug)]
pub(crate) struct Heartbeat {
    version: Version,
    next: Instant,
    /// Since when a packet from the client is expected.
    awaited_since: Option<Instant>,
    /// Whether the client has sent anything since the last check.
    has_received: bool,
}

/// An action that the heartbeat requires of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Show the client that the server is alive: by a ping, in protocol 3 by a pong.
    SignOfLife,
    /// End the session: the client is silent.
    Timeout,
}

impl Heartbeat {
    pub(crate) fn new(version: Version, settings: &Settings, now: Instant) -> Self {
        Self {
            version,
            next: now + settings.ping_interval,
            awaited_since: (version == Version::V3).then_some(now),
            has_received: false,
        }
    }

    /// The client has sent a packet.
    pub(crate) fn received(&mut self) {
        self.has_received = true;
    }

    /// The client has answered a ping.
    pub(crate) fn answered(&mut self, settings: &Settings, now: Instant) {
        self.awaited_since = None;
        self.next = now + settings.ping_interval;
    }

    /// When to call [`due`](Self::due) next.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// The action that is due now. `is_excused`: the client cannot be expected to answer.
    pub(crate) fn due(&mut self, settings: &Settings, now: Instant, is_excused: bool) -> Option<Due> {
        if now < self.next {
            return None;
        }
        let (interval, timeout) = (settings.ping_interval, self.timeout(settings));
        let is_alive = std::mem::take(&mut self.has_received) || is_excused;
        match self.awaited_since {
            Some(since) if !is_alive && now >= since + timeout => Some(Due::Timeout),
            Some(since) if !is_alive => {
                self.next = since + timeout;
                None
            }
            _ => {
                self.awaited_since = Some(now);
                self.next = now + interval.min(timeout);
                // In protocol 3 the pings are answered as they are read, so only a client that is not read needs this.
                (self.version == Version::V4 || is_excused).then_some(Due::SignOfLife)
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

    /// Advances the clock until something is due.
    fn advance(heartbeat: &mut Heartbeat, settings: &Settings, now: &mut Instant, is_excused: bool) -> Due {
        loop {
            *now = heartbeat.next().max(*now);
            if let Some(due) = heartbeat.due(settings, *now, is_excused) {
                return due;
            }
        }
    }

    #[test]
    fn silent_client_times_out_after_ping() {
        for (interval, timeout) in [(SHORT, SHORT), (SHORT, LONG), (LONG, SHORT)] {
            let settings = settings(interval, timeout);
            let mut now = Instant::now();
            let mut heartbeat = Heartbeat::new(Version::V4, &settings, now);
            for _ in 0..3 {
                let before = now;
                assert_eq!(advance(&mut heartbeat, &settings, &mut now, false), Due::SignOfLife);
                assert_eq!(now - before, interval);
                heartbeat.received();
                heartbeat.answered(&settings, now);
            }
            assert_eq!(advance(&mut heartbeat, &settings, &mut now, false), Due::SignOfLife);
            let pinged = now;
            // Packets before the ping do not count.
            assert_eq!(advance(&mut heartbeat, &settings, &mut now, false), Due::Timeout);
            assert_eq!(now - pinged, timeout);
        }
    }

    #[test]
    fn silent_client_of_protocol_3_times_out() {
        let settings = settings(SHORT, LONG);
        let start = Instant::now();
        let mut now = start;
        let mut heartbeat = Heartbeat::new(Version::V3, &settings, now);
        heartbeat.received();
        assert_eq!(advance(&mut heartbeat, &settings, &mut now, false), Due::Timeout);
        assert!(now - start >= SHORT + LONG);
    }

    #[test]
    fn excused_client_is_pinged_and_kept() {
        let settings = settings(SHORT, SHORT);
        for version in [Version::V3, Version::V4] {
            let mut now = Instant::now();
            let mut heartbeat = Heartbeat::new(version, &settings, now);
            for _ in 0..5 {
                assert_eq!(advance(&mut heartbeat, &settings, &mut now, true), Due::SignOfLife);
            }
            assert_eq!(advance(&mut heartbeat, &settings, &mut now, false), Due::Timeout);
        }
    }

    #[test]
    fn client_that_sends_other_packets_is_kept() {
        let settings = settings(SHORT, SHORT);
        let mut now = Instant::now();
        let mut heartbeat = Heartbeat::new(Version::V4, &settings, now);
        for _ in 0..5 {
            assert_eq!(advance(&mut heartbeat, &settings, &mut now, false), Due::SignOfLife);
            heartbeat.received();
        }
        assert_eq!(advance(&mut heartbeat, &settings, &mut now, false), Due::SignOfLife);
        assert_eq!(advance(&mut heartbeat, &settings, &mut now, false), Due::Timeout);
    }
}
