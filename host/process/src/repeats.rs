//! Log lines that clients can bring about as often as they like: the first few of a kind are written, and then a sum.
//!
//! A kind is an app and a reason of ours, never words of a client: else each line would be the first of its kind.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use plugnode_message::Namespace;

/// How many lines of a kind are written
const FEW: u32 = 5;
/// in so long.
const WINDOW: Duration = Duration::from_secs(10);
/// Kinds that are told apart. All others are one.
const KINDS: usize = 1_024;

static ALL: Mutex<Option<Repeats>> = Mutex::new(None);

/// Whether a line of this kind is to be written. When it is not, it is counted, and the sum is written later.
pub fn allows(app: &Namespace, reason: &'static str) -> bool {
    let mut all = all();
    let repeats = all.get_or_insert_default();
    let (is_allowed, sum) = repeats.allows(app, reason, Instant::now());
    if let Some(sum) = sum {
        sum.write();
    }
    is_allowed
}

/// Writes the sums of windows that are over, from time to time. Never completes.
pub async fn keep_log() {
    loop {
        tokio::time::sleep(WINDOW / 4).await;
        write(|now, window| now.duration_since(window.since) >= WINDOW);
    }
}

/// Writes all sums: the process ends.
pub fn flush() {
    write(|_, _| true);
}

fn write(is_over: impl Fn(Instant, &Window) -> bool) {
    let now = Instant::now();
    let sums = all().as_mut().map(|repeats| repeats.end(|window| is_over(now, window)));
    sums.into_iter().flatten().for_each(|sum| sum.write());
}

fn all() -> MutexGuard<'static, Option<Repeats>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

type Kind = (Namespace, &'static str);

#[derive(Debug, Default)]
struct Repeats {
    kinds: HashMap<Kind, Window>,
}

/// What was written of a kind since a moment, and what was not.
#[derive(Debug)]
struct Window {
    since: Instant,
    written: u32,
    more: u64,
}

/// What was not written of a kind.
#[derive(Debug, PartialEq, Eq)]
struct Sum {
    app: Namespace,
    reason: &'static str,
    more: u64,
}

impl Repeats {
    /// Whether a line is to be written, and the sum to write before it.
    fn allows(&mut self, app: &Namespace, reason: &'static str, now: Instant) -> (bool, Option<Sum>) {
        let mut kind = (app.clone(), reason);
        if self.kinds.len() >= KINDS && !self.kinds.contains_key(&kind) {
            kind = (Namespace::from("(others)"), reason);
        }
        let window = self.kinds.entry(kind.clone()).or_insert(Window {
            since: now,
            written: 0,
            more: 0,
        });
        let mut sum = None;
        if now.duration_since(window.since) >= WINDOW {
            sum = window.end(&kind);
            *window = Window {
                since: now,
                written: 0,
                more: 0,
            };
        }
        let is_allowed = window.written < FEW;
        match is_allowed {
            true => window.written += 1,
            false => window.more += 1,
        }
        (is_allowed, sum)
    }

    /// Forgets windows, and gives their sums.
    fn end(&mut self, is_over: impl Fn(&Window) -> bool) -> Vec<Sum> {
        let over = self.kinds.extract_if(|_, window| is_over(window));
        over.filter_map(|(kind, window)| window.end(&kind)).collect()
    }
}

impl Window {
    fn end(&self, (app, reason): &Kind) -> Option<Sum> {
        (self.more > 0).then(|| Sum {
            app: app.clone(),
            reason,
            more: self.more,
        })
    }
}

impl Sum {
    fn write(&self) {
        let Self { app, reason, more } = self;
        warn!(%app, reason, more, "{more} more like it in {WINDOW:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_few_are_written_and_others_summed() {
        let mut repeats = Repeats::default();
        let start = Instant::now();
        let app = Namespace::from("/chat");
        let written = (0..16_030)
            .filter(|_| repeats.allows(&app, "rejected", start).0)
            .count();
        assert_eq!(written, FEW as usize);
        // Another reason, and another app, are heard.
        assert_eq!(repeats.allows(&app, "trapped", start), (true, None));
        assert_eq!(repeats.allows(&Namespace::from("/"), "rejected", start), (true, None));
        let sum = Sum {
            app: app.clone(),
            reason: "rejected",
            more: 16_025,
        };
        let later = start + WINDOW;
        assert_eq!(repeats.allows(&app, "rejected", later), (true, Some(sum)));
        assert_eq!(repeats.allows(&app, "rejected", later), (true, None));
    }

    #[test]
    fn sums_are_given_once_when_their_time_is_over() {
        let mut repeats = Repeats::default();
        let start = Instant::now();
        let app = Namespace::from("/");
        for _ in 0..7 {
            repeats.allows(&app, "rejected", start);
        }
        repeats.allows(&app, "trapped", start);
        assert_eq!(repeats.end(|_| false), []);
        let sums = repeats.end(|_| true);
        assert_eq!(sums.iter().map(|sum| sum.more).collect::<Vec<_>>(), [2]);
        assert!(repeats.kinds.is_empty());
    }

    #[test]
    fn many_kinds_do_not_make_it_grow() {
        let mut repeats = Repeats::default();
        let start = Instant::now();
        for i in 0..5_000 {
            repeats.allows(&format!("/shop/{i}").into(), "rejected", start);
        }
        assert!(repeats.kinds.len() <= KINDS + 1);
    }
}
