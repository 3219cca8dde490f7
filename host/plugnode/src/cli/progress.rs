//! Words for a person who waits.

use std::pin::pin;
use std::time::{Duration, Instant};

/// What takes no longer needs no words.
const PATIENCE: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_secs(10);

/// A line to the person at the terminal.
pub(super) fn say(line: &str) {
    eprintln!("plugnode: {line}");
}

/// Does some work, and says what it is, as of then, when it takes long.
pub(super) async fn during<T>(what: impl Fn() -> String, say: impl Fn(&str), work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let began = Instant::now();
    let mut pause = PATIENCE;
    loop {
        match tokio::time::timeout(pause, &mut work).await {
            Ok(done) => return done,
            Err(_) if pause == PATIENCE => say(&format!("{} …", what())),
            Err(_) => say(&format!("{} … ({} s)", what(), began.elapsed().as_secs())),
        }
        pause = AGAIN;
    }
}
