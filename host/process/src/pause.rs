//! How long to wait before something is tried again: each time twice as long, up to a limit.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Between half of a pause and all of it, so that those who wait for the same thing do not all try again at once.
pub fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) % 1_000;
    pause * (1_000 + random as u32) / 2_000
}

/// A pause that grows each time it is taken.
#[derive(Debug, Clone)]
pub struct Pause {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Pause {
    /// A pause of `first`, that doubles up to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        let next = first;
        Self { first, longest, next }
    }

    /// How long to wait now; next time it is longer.
    pub fn take(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(self.longest);
        now
    }

    /// Begins with the first again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_shortens_a_pause_by_half_at_most() {
        let pause = Duration::from_millis(100);
        let pauses: Vec<Duration> = (0..100).map(|_| jittered(pause)).collect();
        assert!(
            pauses
                .iter()
                .all(|jittered| *jittered >= pause / 2 && *jittered <= pause)
        );
        assert!(pauses.iter().any(|jittered| *jittered != pauses[0]));
    }

    #[test]
    fn it_doubles_up_to_its_limit_and_begins_anew() {
        let ms = Duration::from_millis;
        let mut pause = Pause::new(ms(100), ms(350));
        assert_eq!([(); 4].map(|()| pause.take()), [ms(100), ms(200), ms(350), ms(350)]);
        pause.reset();
        assert_eq!(pause.take(), ms(100));
    }
}
