//! Runs a command of the CLI, such as `plugnode status`, until it ends, and returns its output.

use std::path::Path;
use std::process::{ExitStatus, Output, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::tools::binary;
use crate::{signals, within_minutes};

/// Exit status and output of a command.
#[derive(Debug)]
pub struct CommandOutput {
    /// Exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl CommandOutput {
    /// Standard output as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs `plugnode` with these arguments in a folder until it ends.
pub async fn verb(args: &[&str], folder: &Path) -> CommandOutput {
    RunningCommand::begin(args, folder).end().await
}

/// A running command.
pub struct RunningCommand(Child);

impl RunningCommand {
    /// Starts `plugnode` with these arguments in a folder.
    pub fn begin(args: &[&str], folder: &Path) -> Self {
        let child = Command::new(binary())
            .args(args)
            .current_dir(folder)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        Self(child.expect("plugnode can be started"))
    }

    /// Sends SIGINT, as ctrl-c does.
    pub fn interrupt(&self) {
        signals::send(&self.0, Signal::SIGINT);
    }

    /// Waits for a line on standard error that contains `part`, and then closes standard error.
    ///
    /// # Panics
    /// When the command ends without it.
    pub async fn close_errors_after(&mut self, part: &str) {
        let mut lines = BufReader::new(self.0.stderr.take().expect("it is piped")).lines();
        let found = async {
            loop {
                match lines.next_line().await.expect("it is UTF-8") {
                    Some(line) if line.contains(part) => return,
                    Some(_) => {}
                    None => panic!("the command ended without {part:?}"),
                }
            }
        };
        within_minutes(2, part, found).await;
    }

    /// Waits until it ends.
    pub async fn end(self) -> CommandOutput {
        let Output { status, stdout, stderr } = within_minutes(2, "a plugnode command ends", self.0.wait_with_output())
            .await
            .expect("it is our child");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        CommandOutput {
            status,
            out: text(stdout),
            err: text(stderr),
        }
    }
}
