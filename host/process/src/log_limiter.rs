//! Log rate limiter, for lines that clients can cause at will: per kind, the first 5 lines in 10 seconds are written, and
//! then one line that says how many were suppressed.
//!
//! A kind is an app and a fixed reason. Text from clients never becomes part of a kind: each line would be the first of its
//! kind.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::warn;

use plugnode_message::Namespace;

/// Lines of a kind that are written in each window.
const LINES: u32 = 5;
/// Length of a window. It starts with the first line of a kind.
const WINDOW: Duration = Duration::from_secs(10);
/// Bound on the kinds that are tracked; beyond it, new kinds share one window for each reason.
const MAX_KINDS: usize = 1_024;

static LIMITER: Mutex<Option<LogLimiter>> = Mutex::new(None);

/// Whether to write a line of this kind now. A suppressed line is counted; the count is logged when its window ends.
pub fn allows(app: &Namespace, reason: &'static str) -> bool {
    let (is_allowed, summary) = LIMITER
        .lock()
        .get_or_insert_default()
        .allows(app, reason, Instant::now());
    if let Some(summary) = summary {
        summary.log();
    }
    is_allowed
}

/// Logs the summaries of windows that have ended, every 2.5 seconds. Never completes.
pub async fn log_summaries() {
    loop {
        tokio::time::sleep(WINDOW / 4).await;
        log_where(|now, window| now.duration_since(window.start) >= WINDOW);
    }
}

/// Logs all summaries, at the end of the process.
pub fn flush() {
    log_where(|_, _| true);
}

fn log_where(has_ended: impl Fn(Instant, &Window) -> bool) {
    let now = Instant::now();
    let summaries = LIMITER
        .lock()
        .as_mut()
        .map(|limiter| limiter.end_windows(|window| has_ended(now, window)));
    summaries.into_iter().flatten().for_each(|summary| summary.log());
}

type Kind = (Namespace, &'static str);

#[derive(Debug, Default)]
struct LogLimiter {
    windows: HashMap<Kind, Window>,
}

/// The current window of a kind.
#[derive(Debug)]
struct Window {
    start: Instant,
    written: u32,
    suppressed: u64,
}

/// Number of suppressed lines of a kind, to be logged.
#[derive(Debug, PartialEq, Eq)]
struct Summary {
    app: Namespace,
    reason: &'static str,
    suppressed: u64,
}

impl LogLimiter {
    /// Whether to write a line, and the summary of the previous window to write before it.
    fn allows(&mut self, app: &Namespace, reason: &'static str, now: Instant) -> (bool, Option<Summary>) {
        let mut kind = (app.clone(), reason);
        if self.windows.len() >= MAX_KINDS && !self.windows.contains_key(&kind) {
            kind = (Namespace::from("(others)"), reason);
        }
        let window = self.windows.entry(kind.clone()).or_insert(Window::starting(now));
        let mut summary = None;
        if now.duration_since(window.start) >= WINDOW {
            summary = window.summary(&kind);
            *window = Window::starting(now);
        }
        let is_allowed = window.written < LINES;
        match is_allowed {
            true => window.written += 1,
            false => window.suppressed += 1,
        }
        (is_allowed, summary)
    }

    /// Removes windows, and returns their summaries.
    fn end_windows(&mut self, has_ended: impl Fn(&Window) -> bool) -> Vec<Summary> {
        let ended = self.windows.extract_if(|_, window| has_ended(window));
        ended.filter_map(|(kind, window)| window.summary(&kind)).collect()
    }
}

impl Window {
    fn starting(start: Instant) -> Self {
        Self {
            start,
            written: 0,
            suppressed: 0,
        }
    }

    /// None if no line was suppressed.
    fn summary(&self, (app, reason): &Kind) -> Option<Summary> {
        (self.suppressed > 0).then(|| Summary {
            app: app.clone(),
            reason,
            suppressed: self.suppressed,
        })
    }
}

impl Summary {
    fn log(&self) {
        let Self {
            app,
            reason,
            suppressed,
        } = self;
        warn!(%app, reason, suppressed, window = ?WINDOW, "similar log lines suppressed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_first_lines_and_counts_the_rest() {
        let mut limiter = LogLimiter::default();
        let start = Instant::now();
        let app = Namespace::from("/chat");
        let written = (0..16_030)
            .filter(|_| limiter.allows(&app, "rejected", start).0)
            .count();
        assert_eq!(written, LINES as usize);
        // Another reason and another app have windows of their own.
        assert_eq!(limiter.allows(&app, "trapped", start), (true, None));
        assert_eq!(limiter.allows(&Namespace::from("/"), "rejected", start), (true, None));
        let summary = Summary {
            app: app.clone(),
            reason: "rejected",
            suppressed: 16_025,
        };
        let later = start + WINDOW;
        assert_eq!(limiter.allows(&app, "rejected", later), (true, Some(summary)));
        assert_eq!(limiter.allows(&app, "rejected", later), (true, None));
    }

    #[test]
    fn summarizes_each_window_once() {
        let mut limiter = LogLimiter::default();
        let start = Instant::now();
        let app = Namespace::from("/");
        for _ in 0..7 {
            limiter.allows(&app, "rejected", start);
        }
        limiter.allows(&app, "trapped", start);
        assert_eq!(limiter.end_windows(|_| false), []);
        let summaries = limiter.end_windows(|_| true);
        let suppressed: Vec<_> = summaries.iter().map(|summary| summary.suppressed).collect();
        assert_eq!(suppressed, [2]);
        assert!(limiter.windows.is_empty());
    }

    #[test]
    fn number_of_kinds_is_bounded() {
        let mut limiter = LogLimiter::default();
        let start = Instant::now();
        for i in 0..5_000 {
            limiter.allows(&format!("/shop/{i}").into(), "rejected", start);
        }
        assert!(limiter.windows.len() <= MAX_KINDS + 1);
    }
}
