//! Process setup of the commands: environment, threads, open files, and the drain at the end.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::runtime::Builder;

use plugnode_process::log_limiter;
use plugnode_process::metrics;
use plugnode_process::shutdown::Shutdown;
use plugnode_transport::LeaseHealth;

/// Allowance for open files other than connections: components, pages, logs.
const OTHER_FILES: u64 = 256;

/// Environment variables. Those that are not UTF-8 are left out; no setting has such a value.
pub(super) fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Runs `work` on a thread for each processor. Does not wait for blocking tasks that are still running at the end.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    block_on_by(Builder::new_multi_thread().thread_name("plugnode"), work)
}

/// Runs `work` on this thread: for commands without parallel work.
pub(super) fn block_on_here<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    block_on_by(&mut Builder::new_current_thread(), work)
}

fn block_on_by<T>(runtime: &mut Builder, work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = runtime.enable_all().build().context("cannot start the async runtime")?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// Raises the limit of open files to the hard limit. Each connection needs one.
pub(super) fn raise_open_files(connections: usize) {
    let wanted = connections as u64 + OTHER_FILES;
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit < wanted => tracing::warn!(
            limit,
            wanted,
            "the limit of open files is too low for [http] max-connections; raise the hard limit (ulimit -Hn), or lower max-connections"
        ),
        Ok(limit) => tracing::debug!(limit, "limit of open files"),
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open files"),
    }
}

/// Minimum of the drain, if the transport is unavailable: time for it to return, and for clients to be disconnected.
const UNAVAILABLE: Duration = Duration::from_secs(2);
/// Interval at which the drain checks the transport.
const CHECK: Duration = Duration::from_millis(50);

/// Waits for the shutdown to begin, and then for work in progress, until `deadline` or until the transport has been unavailable for
/// a lease. The exit code is success if all work was finished.
pub(super) async fn drain(shutdown: &Shutdown, deadline: Duration, lease_health: &LeaseHealth) -> ExitCode {
    shutdown.begun().await;
    let drained = tokio::select! {
        drained = shutdown.drained(deadline) => drained,
        () = unavailable(lease_health) => {
            log_limiter::flush();
            metrics::log_counters();
            tracing::warn!(
                "the transport is unavailable; work in progress is given up; accepted events are handled by other nodes, or later"
            );
            return ExitCode::FAILURE;
        }
    };
    log_limiter::flush();
    metrics::log_counters();
    if drained {
        tracing::info!("ended");
        return ExitCode::SUCCESS;
    }
    tracing::warn!(
        ?deadline,
        "work in progress is cut off at the deadline; see [shutdown] deadline-ms"
    );
    ExitCode::FAILURE
}

/// Completes when no lease could be renewed for the time of a lease, and at least [`UNAVAILABLE`] of the drain has passed.
async fn unavailable(lease_health: &LeaseHealth) {
    let Some(lease) = lease_health.lease() else {
        return std::future::pending().await;
    };
    let began = Instant::now();
    loop {
        tokio::time::sleep(CHECK).await;
        let is_expired = lease_health.silence().is_some_and(|silence| silence >= lease);
        if is_expired && began.elapsed() >= UNAVAILABLE {
            return;
        }
    }
}
