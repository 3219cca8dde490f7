//! A verb of `plugnode` that ends by itself, and what it said to people and to machines.

use std::path::Path;
use std::process::{ExitStatus, Output, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::tools::binary;
use crate::{signals, within_minutes};

/// What a verb said, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Said {
    /// What it said to a machine.
    ///
    /// # Panics
    /// When that is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs a verb in a folder until it ends by itself.
pub async fn verb(args: &[&str], folder: &Path) -> Said {
    Running::begin(args, folder).end().await
}

/// A verb that runs.
pub struct Running(Child);

impl Running {
    /// Starts a verb in a folder.
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

    /// Presses ctrl-c.
    pub fn interrupt(&self) {
        signals::send(&self.0, Signal::SIGINT);
    }

    /// Waits until it ends.
    pub async fn end(self) -> Said {
        let Output { status, stdout, stderr } = within_minutes(2, "a verb of plugnode", self.0.wait_with_output())
            .await
            .expect("it is our child");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Said {
            status,
            out: text(stdout),
            err: text(stderr),
        }
    }
}
