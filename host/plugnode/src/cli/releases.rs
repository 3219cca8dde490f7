//! `plugnode releases`: lists the releases of an app, newest first.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::Value;

use super::cluster::ClusterArgs;
use super::format::{ago, first_line, json_page, plain, size, table};
use super::release_format::{phase_name, release_in_json, state_name, untried_warning, waits_for_node};
use super::rollout;
use plugnode_message::now_ms;
use plugnode_release::{AppReleases, Origin, Release, ReleaseState};

const TITLES: [&str; 9] = [
    "RELEASE",
    "DIGEST",
    "STATE",
    "REQUESTED",
    "SIZE",
    "BY",
    "WHO",
    "FILE",
    "MESSAGE",
];

/// Arguments of `plugnode releases`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The releases kept are the last 10 of an app, or [app-node] kept-releases. BY is what requested a release: the config file of an
app-node, plugnode deploy, plugnode rollback, or a save under plugnode dev.")]
pub struct ReleasesArgs {
    /// Namespace of the app; optional if there is only one app
    #[arg(long, value_name = "NAMESPACE")]
    pub app: Option<String>,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
}

/// Prints the list.
pub(super) fn releases(args: &ReleasesArgs) -> Result<ExitCode> {
    args.cluster.run(async |cluster| {
        let (_, board) = rollout::board(cluster).await?;
        let app = rollout::select_app(cluster, &board, args.app.as_deref()).await?;
        let app_releases = &board.apps[&app];
        let nodes = cluster.nodes.app_nodes().await.context("cannot list the app-nodes")?;
        let is_run = rollout::runs(&nodes, &app);
        let newest_first = app_releases.releases.iter().rev();
        match args.json {
            true => {
                let releases: Vec<_> = newest_first.map(release_in_json).collect();
                writeln!(std::io::stdout(), "{}", json_page(&Value::from(releases)))?;
            }
            false => {
                let rows = newest_first.map(|release| row(app_releases, release, is_run));
                write!(std::io::stdout(), "{}", table(&TITLES, rows))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn row(app_releases: &AppReleases, release: &Release, is_run: bool) -> [String; TITLES.len()] {
    let rollout = app_releases
        .rollout
        .as_ref()
        .filter(|rollout| rollout.release == release.number);
    let state = match (&release.state, rollout) {
        (ReleaseState::RollingOut, Some(rollout)) => {
            format!("{} ({})", state_name(&release.state), phase_name(rollout.phase))
        }
        (ReleaseState::Failed(reason), _) => format!("failed: {}", first_line(reason)),
        (ReleaseState::Superseded(by), _) => format!("superseded by {by}"),
        (ReleaseState::Current, _) if waits_for_node(release, is_run) => "waits for an app-node".to_owned(),
        (ReleaseState::Current, _) => format!("in use{}", untried_warning(release)),
        (state, _) => state_name(state).to_owned(),
    };
    let author = release.author.as_ref();
    [
        release.number.to_string(),
        release.digest.short().to_owned(),
        state,
        ago(release.at_ms, now_ms()),
        size(release.bytes),
        match release.origin {
            Origin::Config => "config".to_owned(),
            Origin::Deploy => "deploy".to_owned(),
            Origin::Rollback(to) => format!("rollback to {to}"),
            Origin::Save => "save".to_owned(),
        },
        author.map_or_else(|| "-".to_owned(), |author| plain(&author.to_string())),
        plain(&release.file),
        release.message.as_deref().map(first_line).unwrap_or_default(),
    ]
}
