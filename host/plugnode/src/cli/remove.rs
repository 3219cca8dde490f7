//! `plugnode remove`: takes an app that no node runs off the board, with its releases.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::cluster::Cluster;
use super::progress::say;
use super::rollout;

/// Arguments of `plugnode remove`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
For an app that was deployed by mistake, or that is not needed any more. It is refused while an app-node runs the app: stop these nodes
first, or take the app out of their configuration. Key-value data and dead letters of the app stay (plugnode dead drop --app).
A node that runs the app later begins with the component that its configuration names.

Example:
  plugnode remove /chatt")]
pub struct Arguments {
    /// The namespace of the app
    #[arg(value_name = "NAMESPACE")]
    pub app: String,
    /// Where.
    #[command(flatten)]
    pub cluster: Cluster,
    /// Say at the end what happened as a JSON object, on standard output
    #[arg(long)]
    pub json: bool,
}

/// Removes it.
pub fn remove(arguments: &Arguments) -> Result<ExitCode> {
    arguments.cluster.visit(async |cluster| {
        let (_, board) = cluster.releases.board().await.context("cannot read the board of releases")?;
        let app = rollout::app_of(cluster, &board, Some(&arguments.app)).await?;
        let nodes = cluster.nodes.app_nodes().await.context("cannot ask which app-nodes run")?;
        let there = nodes.iter().filter(|(_, report)| rollout::may_run(report.as_ref(), &app));
        let there: Vec<_> = there.map(|(node, _)| node.as_str()).collect();
        if !there.is_empty() {
            bail!(
                "cannot remove app {app}: it runs on {}; stop these app-nodes, or take the app out of their configuration, first",
                there.join(", ")
            );
        }
        let releases = rollout::remove(cluster, &app).await?;
        cluster.releases.prune_components().await.context("cannot delete its components")?;
        say(&format!("app {app} is removed, with {releases} of its releases"));
        if arguments.json {
            let done = json!({ "app": app.as_str(), "outcome": "removed", "releases": releases });
            writeln!(std::io::stdout(), "{done:#}")?;
        }
        Ok(ExitCode::SUCCESS)
    })
}
