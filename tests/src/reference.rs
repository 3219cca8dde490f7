//! The official Socket.IO server on Node.js, with the behaviour of the handler `conformance`: it shows that the drivers are correct.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use crate::tools::node_command;
use crate::within;

/// A running `tests/js/reference.mjs`. It is killed when dropped.
pub struct Reference {
    urls: String,
    _child: Child,
}

impl Reference {
    /// Starts it in a configuration, such as `["main"]` or `["cluster", "msgpack"]`.
    pub async fn start(configuration: &[&str]) -> Self {
        let mut command = node_command("reference.mjs");
        let mut child = command
            .args(configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node is installed");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let line = within("Node's own server listens", lines.next_line()).await;
        let urls = line.expect("it can be read").expect("it says where it listens");
        Self { urls, _child: child }
    }

    /// The URLs of its nodes, comma-separated.
    pub fn urls(&self) -> &str {
        &self.urls
    }
}
