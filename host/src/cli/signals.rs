//! SIGINT and SIGTERM: the first begins the end, the next is the end.

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::shutdown::Shutdown;

/// What a shell calls a process that ctrl-c ended, and one that was terminated.
const INTERRUPTED: i32 = 130;
const TERMINATED: i32 = 143;

/// Begins the shutdown at the first signal; a second one ends the process at once.
pub(super) fn begin_shutdown_by_signal(shutdown: &Shutdown) -> Result<()> {
    let mut interrupts = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminations = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let shutdown = shutdown.clone();
    // No task of the shutdown: it must outlive the drain, to cut it short.
    tokio::spawn(async move {
        next(&mut interrupts, &mut terminations).await;
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
