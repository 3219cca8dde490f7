//! SIGINT and SIGTERM: the first begins the shutdown, the second ends the process at once.
//!
//! SIGTERM usually comes from an orchestrator. Load balancers notice only after a while that a process is not ready, so it keeps
//! accepting clients for a lame-duck period first. SIGINT comes from a terminal and begins the shutdown without that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

use plugnode_process::shutdown::Shutdown;

/// Exit codes, as a shell reports these signals.
const INTERRUPTED: i32 = 130;
const TERMINATED: i32 = 143;

/// Period after SIGTERM in which a process still accepts clients and `/readyz` says that it ends.
#[derive(Debug, Clone, Default)]
pub(super) struct LameDuck {
    pub(super) time: Duration,
    /// Whether the process accepts clients; without that there is no such period.
    pub(super) is_serving: Arc<AtomicBool>,
}

/// Begins `shutdown` at the first signal, after the lame-duck period if it is SIGTERM. The second signal exits the process.
pub(super) fn begin_shutdown_by_signal(shutdown: &Shutdown, lame_duck: LameDuck) -> Result<()> {
    let mut interrupts = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminations = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let shutdown = shutdown.clone();
    // Not a task of `shutdown`: it has to outlive the drain, to cut it short.
    tokio::spawn(async move {
        let first = next(&mut interrupts, &mut terminations).await;
        if first == TERMINATED && lame_duck.is_serving.load(Ordering::Relaxed) && !lame_duck.time.is_zero() {
            let LameDuck { time, .. } = lame_duck;
            tracing::info!(
                ?time,
                "shutdown announced; clients are still accepted; another signal ends at once"
            );
            shutdown.announce();
            tokio::select! {
                () = tokio::time::sleep(time) => {}
                code = next(&mut interrupts, &mut terminations) => std::process::exit(code),
            }
        }
        tracing::info!("shutting down; finishing work in progress; another signal ends at once");
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
