//! `plugnode status`: the release in use on each app-node with its counts, the progress of rollouts, and the backlog.

mod snapshot;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use self::snapshot::ClusterSnapshot;
use super::cluster::ClusterArgs;
use super::format::{json_line, json_page};
use super::rollout;
use plugnode_message::Namespace;
use plugnode_transport::Operations;

/// Interval of --watch.
const INTERVAL: Duration = Duration::from_secs(1);
/// Escape sequences that clear the screen and move the cursor to its top.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Arguments of `plugnode status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EVENTS/S, P50 and P99 are of the last seconds. P50 and P99 are percentiles of the time in the handler: half of the events took at most
P50, 99 of 100 at most P99. IN HAND is the number of events that the node has read and not committed yet.")]
pub struct StatusArgs {
    /// Show only the app of this namespace
    #[arg(long, value_name = "NAMESPACE")]
    pub app: Option<String>,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Print a JSON object; with --watch, one per line
    #[arg(long)]
    pub json: bool,
    /// Repeat each second, until ctrl-c
    #[arg(short, long)]
    pub watch: bool,
}

/// Prints the status.
pub(super) fn status(args: &StatusArgs) -> Result<ExitCode> {
    args.cluster.run(async |cluster| {
        if !args.watch {
            let snapshot = read(cluster, args.app.as_deref()).await?;
            match args.json {
                true => writeln!(std::io::stdout(), "{}", json_page(&snapshot.in_json()))?,
                false => write!(std::io::stdout(), "{}", snapshot.in_words())?,
            }
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            watched = watch(cluster, args) => watched,
            _ = tokio::signal::ctrl_c() => Ok(ExitCode::SUCCESS),
        }
    })
}

async fn watch(cluster: &Operations, args: &StatusArgs) -> Result<ExitCode> {
    let mut out = std::io::stdout();
    let clear = if out.is_terminal() { CLEAR } else { "" };
    loop {
        let snapshot = read(cluster, args.app.as_deref()).await?;
        match args.json {
            true => writeln!(out, "{}", json_line(&snapshot.in_json()))?,
            false => write!(out, "{clear}{}", snapshot.in_words())?,
        }
        out.flush()?;
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Reads the current state of the cluster.
async fn read(cluster: &Operations, app: Option<&str>) -> Result<ClusterSnapshot> {
    let (_, mut board) = rollout::board(cluster).await?;
    if let Some(app) = app {
        let app: Namespace = rollout::select_app(cluster, &board, Some(app)).await?;
        board.apps.retain(|namespace, _| *namespace == app);
    }
    if board.apps.is_empty() {
        bail!(rollout::NO_APP);
    }
    Ok(ClusterSnapshot {
        board,
        nodes: cluster.nodes.app_nodes().await.context("cannot list the app-nodes")?,
        backlog: cluster
            .nodes
            .backlog()
            .await
            .context("cannot read the number of waiting events")?,
        timers: cluster
            .nodes
            .timers()
            .await
            .context("cannot read the number of timers")?,
    })
}
