//! `plugnode remove`: deletes an app that no app-node runs, with its releases.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::cluster::ClusterArgs;
use super::rollout;
use super::terminal::say;

/// Arguments of `plugnode remove`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Remove an app that was deployed by mistake, or that is no longer needed. This is refused while an app-node runs the app: stop these
nodes first, or remove the app from their config files. Key-value data and dead letters of the app stay (plugnode dead drop --app).
An app-node that runs the app later begins with the component in its config file.

Example:
  plugnode remove /chatt")]
pub struct RemoveArgs {
    /// Namespace of the app
    #[arg(value_name = "NAMESPACE")]
    pub app: String,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Print the result as a JSON object on standard output
    #[arg(long)]
    pub json: bool,
}

/// Removes the app.
pub(super) fn remove(args: &RemoveArgs) -> Result<ExitCode> {
    args.cluster.run(async |cluster| {
        let (_, board) = rollout::board(cluster).await?;
        let app = rollout::select_app(cluster, &board, Some(&args.app)).await?;
        let nodes = cluster
            .nodes
            .app_nodes()
            .await
            .context("cannot list the app-nodes")?;
        let running = nodes
            .iter()
            .filter(|(_, report)| rollout::may_run(report.as_ref(), &app));
        let running: Vec<_> = running.map(|(node, _)| node.as_str()).collect();
        if !running.is_empty() {
            bail!(
                "cannot remove app {app}: it runs on {}; stop these app-nodes, or remove the app from their config files, first",
                running.join(", ")
            );
        }
        let releases = rollout::remove(cluster, &app).await?;
        cluster
            .releases
            .prune_components()
            .await
            .context("cannot delete the app's components")?;
        say(&format!("app {app} is removed, with its {releases} releases"));
        if args.json {
            let result = json!({ "app": app.as_str(), "outcome": "removed", "releases": releases });
            writeln!(std::io::stdout(), "{result:#}")?;
        }
        Ok(ExitCode::SUCCESS)
    })
}
