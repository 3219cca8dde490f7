//! Signals to processes that this fixture started.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio::process::Child;

/// Sends a signal.
///
/// # Panics
/// When the process has been waited for: its id may belong to another process.
pub(crate) fn send(child: &Child, signal: Signal) {
    let pid = child.id().expect("it was not waited for yet");
    signal::kill(Pid::from_raw(pid as i32), signal).expect("it is our child");
}

/// Sends SIGSTOP and waits until every thread is stopped.
pub(crate) fn pause(child: &Child) {
    send(child, Signal::SIGSTOP);
    let threads = format!("/proc/{}/task", child.id().expect("it was just sent a signal"));
    while !all_stopped(&threads) {
        // Short enough to block the async runtime.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether every thread is stopped or has ended.
fn all_stopped(threads: &str) -> bool {
    let threads = fs::read_dir(threads).expect("it runs on Linux");
    threads.flatten().all(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        status.is_empty() || status.contains("State:\tT") || status.contains("State:\tZ")
    })
}
