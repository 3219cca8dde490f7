//! How long to wait before something is tried again: each time twice as long, up to a limit.

use std::time::Duration;

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
    fn it_doubles_up_to_its_limit_and_begins_anew() {
        let ms = Duration::from_millis;
        let mut pause = Pause::new(ms(100), ms(350));
        assert_eq!([(); 4].map(|()| pause.take()), [ms(100), ms(200), ms(350), ms(350)]);
        pause.reset();
        assert_eq!(pause.take(), ms(100));
    }
}
