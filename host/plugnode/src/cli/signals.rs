//! SIGINT and SIGTERM: the first begins the end, the next is the end.
//!
//! SIGTERM comes from whoever replaces processes behind load balancers, which learn only after a while that one is not to be used
//! any more. So the end is announced first. SIGINT comes from somebody at a terminal, who does not wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

use plugnode_process::shutdown::Shutdown;

/// What a shell calls a process that ctrl-c ended, and one that was terminated.
const INTERRUPTED: i32 = 130;
const TERMINATED: i32 = 143;

/// How long a process goes on taking clients after its end was announced, once it takes any.
#[derive(Debug, Clone, Default)]
pub(super) struct LameDuck {
    pub(super) time: Duration,
    /// Set when it takes clients.
    pub(super) is_serving: Arc<AtomicBool>,
}

/// Begins the shutdown at the first signal, after the time of a lame duck if that is SIGTERM; a second one ends the process at
/// once.
pub(super) fn begin_shutdown_by_signal(shutdown: &Shutdown, lame_duck: LameDuck) -> Result<()> {
    let mut interrupts = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminations = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let shutdown = shutdown.clone();
    // No task of the shutdown: it must outlive the drain, to cut it short.
    tokio::spawn(async move {
        let first = next(&mut interrupts, &mut terminations).await;
        if first == TERMINATED && lame_duck.is_serving.load(Ordering::Relaxed) && !lame_duck.time.is_zero() {
            let LameDuck { time, .. } = lame_duck;
            tracing::info!(
                ?time,
                "the end is announced; clients are still taken; another signal ends at once"
            );
            shutdown.announce();
            tokio::select! {
                () = tokio::time::sleep(time) => {}
                code = next(&mut interrupts, &mut terminations) => std::process::exit(code),
            }
        }
        tracing::info!("finishing work in hand; another signal ends at once");
        shutdown.begin();
        let code = next(&mut interrupts, &mut terminations).await;
        std::process::exit(code);
    });
    Ok(())
}

async fn next(interrupts: &mut Signal, terminations: &mut Signal) -> i32 {
    tokio::select! {
        _ = interrupts.recv() => INTERRUPTED,
        _ = terminations.recv() => TERMINATED,
    }
}
