//! Output of a child process: standard error line by line, for progress messages, and standard output as a whole.

use std::process::ExitStatus;
use std::sync::Mutex;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Child;

/// The standard error of a child process so far.
#[derive(Default)]
pub(super) struct ErrorOutput(Mutex<String>);

impl ErrorOutput {
    /// The last line that is not blank.
    pub(super) fn last_line(&self) -> String {
        let text = self.lock();
        let last = text.lines().rfind(|line| !line.trim().is_empty());
        last.unwrap_or_default().trim().to_owned()
    }

    /// All of it.
    pub(super) fn into_text(self) -> String {
        self.0.into_inner().expect(UNPOISONED)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, String> {
        self.0.lock().expect(UNPOISONED)
    }
}

const UNPOISONED: &str = "no holder of this lock panics";

/// Waits until the child exits. Appends its standard error to `errors` as it is written, and returns its standard output. Both must
/// be piped.
pub(super) async fn output_of(mut child: Child, errors: &ErrorOutput) -> Result<(ExitStatus, Vec<u8>)> {
    let mut stdout = child.stdout.take().context("standard output is not piped")?;
    let stderr = child.stderr.take().context("standard error is not piped")?;
    let mut output = Vec::new();
    let read_errors = async {
        let mut lines = BufReader::new(stderr);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).await? > 0 {
            errors.lock().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
        Ok::<_, std::io::Error>(())
    };
    tokio::try_join!(stdout.read_to_end(&mut output), read_errors)?;
    Ok((child.wait().await?, output))
}
