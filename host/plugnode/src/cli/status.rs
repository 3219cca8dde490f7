//! `plugnode status`: what each app-node runs and how that does, how far a rollout is, and how much waits.

mod page;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use self::page::Cut;
use super::cluster::Cluster;
use super::rollout;
use plugnode_message::Namespace;
use plugnode_transport::Operations;

/// How often it is shown anew.
const AGAIN: Duration = Duration::from_secs(1);
/// Takes the screen's text away, and begins at its top.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Arguments of `plugnode status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Times are those of the last seconds, in the handler alone: half of the events took no longer than p50, 99 of 100 no longer
than p99. What is in hand was read by the node and is not committed yet.")]
pub struct Arguments {
    /// Only the app of this namespace
    #[arg(long, value_name = "NAMESPACE")]
    pub app: Option<String>,
    /// Where.
    #[command(flatten)]
    pub cluster: Cluster,
    /// As a JSON object; with --watch, one a line
    #[arg(long)]
    pub json: bool,
    /// Again each second, until ctrl-c
    #[arg(short, long)]
    pub watch: bool,
}

/// Shows it.
pub fn status(arguments: &Arguments) -> Result<ExitCode> {
    arguments.cluster.visit(async |cluster| {
        if !arguments.watch {
            let cut = look(cluster, arguments.app.as_deref()).await?;
            match arguments.json {
                true => writeln!(std::io::stdout(), "{:#}", cut.in_json())?,
                false => write!(std::io::stdout(), "{}", cut.for_people())?,
            }
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            watched = watch(cluster, arguments) => watched,
            _ = tokio::signal::ctrl_c() => Ok(ExitCode::SUCCESS),
        }
    })
}

async fn watch(cluster: &Operations, arguments: &Arguments) -> Result<ExitCode> {
    let mut out = std::io::stdout();
    let clear = if out.is_terminal() { CLEAR } else { "" };
    loop {
        let cut = look(cluster, arguments.app.as_deref()).await?;
        match arguments.json {
            true => writeln!(out, "{}", cut.in_json())?,
            false => write!(out, "{clear}{}", cut.for_people())?,
        }
        out.flush()?;
        tokio::time::sleep(AGAIN).await;
    }
}

/// How it all is now.
async fn look(cluster: &Operations, app: Option<&str>) -> Result<Cut> {
    let (_, mut board) = cluster
        .releases
        .board()
        .await
        .context("cannot read the board of releases")?;
    if let Some(app) = app {
        let app: Namespace = rollout::app_of(cluster, &board, Some(app)).await?;
        board.apps.retain(|namespace, _| *namespace == app);
    }
    if board.apps.is_empty() {
        bail!(rollout::NONE);
    }
    Ok(Cut {
        board,
        nodes: cluster
            .nodes
            .app_nodes()
            .await
            .context("cannot ask which app-nodes run")?,
        backlog: cluster
            .nodes
            .backlog()
            .await
            .context("cannot ask how many events wait")?,
        timers: cluster
            .nodes
            .timers()
            .await
            .context("cannot ask how many timers are set")?,
    })
}
