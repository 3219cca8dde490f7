//! `plugnode releases`: the releases of an app that are remembered, newest first, and what became of each.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::rollout;
use super::words::{ago, first_line, plain, size, table, time};
use plugnode_message::now_ms;
use plugnode_release::{AppReleases, Origin, Release, ReleaseState};

const TITLES: [&str; 9] = [
    "RELEASE",
    "DIGEST",
    "STATE",
    "ASKED FOR",
    "SIZE",
    "BY",
    "WHO",
    "FILE",
    "MESSAGE",
];

/// Arguments of `plugnode releases`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The namespace of the app; may be left out when there is one app only
    #[arg(long, value_name = "NAMESPACE")]
    pub app: Option<String>,
    /// Where.
    #[command(flatten)]
    pub cluster: Cluster,
    /// As a JSON array
    #[arg(long)]
    pub json: bool,
}

/// Lists them.
pub fn releases(arguments: &Arguments) -> Result<ExitCode> {
    arguments.cluster.visit(async |cluster| {
        let (_, board) = cluster
            .releases
            .board()
            .await
            .context("cannot read the board of releases")?;
        let app = rollout::app_of(cluster, &board, arguments.app.as_deref()).await?;
        let app_releases = &board.apps[&app];
        let nodes = cluster
            .nodes
            .app_nodes()
            .await
            .context("cannot ask which app-nodes run")?;
        let is_run = rollout::runs(&nodes, &app);
        let newest_first = app_releases.releases.iter().rev();
        match arguments.json {
            true => {
                let releases: Vec<_> = newest_first.map(in_json).collect();
                writeln!(std::io::stdout(), "{:#}", Value::from(releases))?;
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
        (ReleaseState::RollingOut, Some(rollout)) => format!("{} ({})", word(&release.state), in_word(rollout.phase)),
        (ReleaseState::Failed(reason), _) => format!("failed: {}", first_line(reason)),
        (ReleaseState::Superseded(by), _) => format!("superseded by {by}"),
        (ReleaseState::Current, _) if waits_for_node(release, is_run) => "waits for an app-node".to_owned(),
        (ReleaseState::Current, _) => format!("in use{}", doubt(release)),
        (state, _) => word(state).to_owned(),
    };
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
        release
            .author
            .as_ref()
            .map_or_else(|| "-".to_owned(), |author| plain(&author.to_string())),
        plain(&release.file),
        release.message.as_deref().map(first_line).unwrap_or_default(),
    ]
}

/// Who asked for a release and why, behind when that was.
pub(super) fn signature(release: &Release) -> String {
    let by = release.author.as_ref();
    let by = by.map(|author| format!(" by {}", plain(&author.to_string())));
    let message = release.message.as_deref();
    let message = message.map(|message| format!(" ({})", first_line(message)));
    by.unwrap_or_default() + &message.unwrap_or_default()
}

/// What is to be said of a release in use that has answered no event yet.
pub(super) fn doubt(release: &Release) -> String {
    match &release.first_failure {
        _ if release.is_tried => String::new(),
        Some(trouble) => format!(", has answered no event and fails: {}", first_line(trouble)),
        None => ", not tried yet: no events".to_owned(),
    }
}

/// Whether no node has started the release yet.
pub(super) fn waits_for_node(release: &Release, is_run: bool) -> bool {
    !is_run && !release.is_tried && release.first_failure.is_none()
}

/// A phase in one word.
pub(super) fn in_word(phase: plugnode_release::Phase) -> &'static str {
    use plugnode_release::Phase;
    match phase {
        Phase::Preparing => "preparing",
        Phase::Trying => "trying",
        Phase::Canary => "canary",
    }
}

fn word(state: &ReleaseState) -> &'static str {
    match state {
        ReleaseState::RollingOut => "rolling out",
        ReleaseState::Current => "in use",
        ReleaseState::Retired => "was in use",
        ReleaseState::Failed(_) => "failed",
        ReleaseState::Superseded(_) => "superseded",
        ReleaseState::Cancelled => "cancelled",
    }
}

/// A release, for a machine.
pub(super) fn in_json(release: &Release) -> Value {
    let (reason, by) = match &release.state {
        ReleaseState::Failed(reason) => (Some(reason), None),
        ReleaseState::Superseded(by) => (None, Some(by)),
        _ => (None, None),
    };
    let (origin, of) = match release.origin {
        Origin::Config => ("config", None),
        Origin::Deploy => ("deploy", None),
        Origin::Rollback(to) => ("rollback", Some(to)),
        Origin::Save => ("save", None),
    };
    json!({
        "release": release.number,
        "digest": release.digest.as_str(),
        "state": word(&release.state).replace(' ', "-"),
        "reason": reason,
        "tried": release.is_tried,
        "trouble": release.first_failure,
        "superseded_by": by,
        "asked_for_at": time(release.at_ms),
        "asked_for_at_ms": release.at_ms,
        "bytes": release.bytes,
        "file": release.file,
        "origin": origin,
        "user": release.author.as_ref().map(|author| &author.user),
        "host": release.author.as_ref().map(|author| &author.host),
        "message": release.message,
        "rollback_to": of,
    })
}
