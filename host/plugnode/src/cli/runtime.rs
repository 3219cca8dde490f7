//! What surrounds every long-running verb: the environment, the threads, open files, and the drain.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::runtime::Builder;

use plugnode_process::log_limiter;
use plugnode_process::metrics;
use plugnode_process::shutdown::Shutdown;
use plugnode_transport::Standing;

/// Files that are open besides connections: components, pages, logs.
const OTHER_FILES: u64 = 256;

/// The environment, without what is not text: no setting is.
pub(super) fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Runs to the end, on a thread for each processor. What still blocks a thread then is left behind.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    block_on_by(Builder::new_multi_thread().thread_name("plugnode"), work)
}

/// The same on this thread: for a command that asks and waits, and has nothing to do at the same time.
pub(super) fn block_on_here<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    block_on_by(&mut Builder::new_current_thread(), work)
}

fn block_on_by<T>(runtime: &mut Builder, work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = runtime
        .enable_all()
        .build()
        .context("cannot start threads, or wait for input and output")?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// Raises the limit of open files as far as may be: each connection is one.
pub(super) fn raise_open_files(connections: usize) {
    let wanted = connections as u64 + OTHER_FILES;
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit < wanted => tracing::warn!(
            limit,
            wanted,
            "fewer files may be open than [http] max-connections wants; raise the hard limit (ulimit -Hn) or lower it"
        ),
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open files"),
    }
}

/// How long a transport that is away is waited for at the end, and then so long for clients to be told: what waits for it cannot
/// be finished.
const ABSENCE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(50);

/// Waits for the end to begin, and then for work in hand, until the deadline, or until it is clear that the transport will not
/// take it. Success is that all of it was finished.
pub(super) async fn drain(shutdown: &Shutdown, deadline: Duration, standing: &Standing) -> ExitCode {
    shutdown.begun().await;
    let drained = tokio::select! {
        drained = shutdown.drained(deadline) => drained,
        () = absent(standing) => {
            log_limiter::flush();
            metrics::log_counters();
            tracing::warn!(
                "the transport is away, and what it would have to take is given up; accepted events are handled by others, or later"
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
        "work was still in hand at the deadline and is cut off; see [shutdown] deadline-ms"
    );
    ExitCode::FAILURE
}

/// Completes when places in the cluster could not be renewed for a lease, and not for a while of the drain either.
async fn absent(standing: &Standing) {
    let Some(lease) = standing.lease() else {
        return std::future::pending().await;
    };
    let began = Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        let is_away = standing.silence().is_some_and(|silence| silence >= lease);
        if is_away && began.elapsed() >= ABSENCE {
            return;
        }
    }
}
