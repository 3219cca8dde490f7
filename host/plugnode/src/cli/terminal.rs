//! Progress messages on standard error.

use std::io::{self, Write as _};
use std::pin::pin;
use std::time::{Duration, Instant};

use super::format::plain_lines;

/// Work that takes no longer than this is not reported.
const FIRST_REPORT: Duration = Duration::from_secs(2);
/// Interval of further reports.
const NEXT_REPORT: Duration = Duration::from_secs(10);

/// Writes a message to standard error, with unprintable characters escaped. It is lost if nobody reads standard error any more.
pub(super) fn say(message: &str) {
    let _ = writeln!(io::stderr(), "plugnode: {}", plain_lines(message));
}

/// Awaits `work`. If it takes long, passes what it does (`what`, evaluated at each report) to `say`, repeatedly.
pub(super) async fn during<T>(what: impl Fn() -> String, say: impl Fn(&str), work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let began = Instant::now();
    let mut pause = FIRST_REPORT;
    loop {
        match tokio::time::timeout(pause, &mut work).await {
            Ok(output) => return output,
            Err(_) if pause == FIRST_REPORT => say(&format!("{} …", what())),
            Err(_) => say(&format!("{} … ({} s)", what(), began.elapsed().as_secs())),
        }
        pause = NEXT_REPORT;
    }
}
