//! What is done to processes that this fixture started, and to no others.

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio::process::Child;

/// Sends a signal.
///
/// # Panics
/// When the process has ended and been waited for: its id may be another's by now.
pub(crate) fn send(child: &Child, signal: Signal) {
    let pid = child.id().expect("it was not waited for yet");
    signal::kill(Pid::from_raw(pid as i32), signal).expect("it is our child");
}
