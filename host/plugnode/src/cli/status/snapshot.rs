//! State of a cluster at one moment, as text for people and as JSON for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::format::{ago, first_line, milliseconds, plain, table};
use super::super::release_format::{
    counts_in_json, phase_name, release_in_json, signature, stage_in_words, untried_warning, waits_for_node,
};
use super::super::rollout;
use plugnode_message::{Namespace, NodeId, now_ms};
use plugnode_release::{AppReleases, AppReport, Board, Counts, NodeReport, ReleaseState};

const TITLES: [&str; 9] = [
    "NODE",
    "RELEASE",
    "DIGEST",
    "INSTANCES",
    "EVENTS/S",
    "FAILURES",
    "P50",
    "P99",
    "IN HAND",
];
/// A node whose last report is older than this is listed as silent.
const SILENCE_MS: u64 = 5_000;

/// State of a cluster at one moment.
pub(super) struct ClusterSnapshot {
    pub(super) board: Board,
    pub(super) nodes: Vec<(NodeId, Option<NodeReport>)>,
    /// Number of events that are accepted and not committed yet.
    pub(super) backlog: u64,
    /// Number of timers that are set.
    pub(super) timers: u64,
}

impl ClusterSnapshot {
    pub(super) fn in_words(&self) -> String {
        let mut page = String::new();
        for (app, app_releases) in &self.board.apps {
            self.app(&mut page, app, app_releases);
            page.push('\n');
        }
        let now = now_ms();
        for (node, report) in &self.nodes {
            let silent = match report {
                None => "has not reported yet".to_owned(),
                Some(report) if report.at_ms + SILENCE_MS < now => format!("last reported {}", ago(report.at_ms, now)),
                Some(_) => continue,
            };
            let _ = writeln!(page, "{node} {silent}");
        }
        let timers = match self.timers {
            0 => String::new(),
            timers => format!(", {timers} timers are set"),
        };
        let _ = writeln!(page, "{} events wait{timers}", self.backlog);
        page
    }

    fn app(&self, page: &mut String, app: &Namespace, app_releases: &AppReleases) {
        let release = app_releases.in_use();
        let untried_warning = match waits_for_node(release, rollout::runs(&self.nodes, app)) {
            true => ", waits for an app-node".to_owned(),
            false => untried_warning(release),
        };
        let _ = writeln!(
            page,
            "app {app}: release {} ({}) of {}, requested {}{}{}",
            release.number,
            release.digest.short(),
            plain(&release.file),
            ago(release.at_ms, now_ms()),
            signature(release),
            untried_warning
        );
        if let Some((failed, reason)) = latest_failure(app_releases) {
            let _ = writeln!(page, "  release {failed} failed: {}", first_line(reason));
        }
        let nodes: Vec<_> = self.nodes_of(app).collect();
        if nodes.is_empty() {
            let _ = writeln!(page, "  no app-node runs it");
        } else {
            let rows = nodes.iter().map(|(node, report)| row(node, report));
            page.extend(table(&TITLES, rows).lines().map(|line| format!("  {line}\n")));
        }
        if let (Some(rollout), Some(release)) = (&app_releases.rollout, app_releases.rolling_out()) {
            let _ = write!(
                page,
                "  release {} ({}), requested {}{}, is being rolled out: {}",
                release.number,
                release.digest.short(),
                ago(release.at_ms, now_ms()),
                signature(release),
                phase_name(rollout.phase)
            );
            if let Some(canary) = &rollout.canary {
                let time = Duration::from_millis(canary.for_ms);
                let _ = write!(page, ", {} % of the partitions for {time:?}", canary.percent);
            }
            page.push('\n');
        }
        for (node, report) in nodes {
            if let Some(progress) = &report.progress {
                let _ = write!(page, "    {node} {}", stage_in_words(&progress.stage));
                let counts = &progress.counts;
                if counts.events > 0 {
                    let _ = write!(
                        page,
                        ": {} events, {} failed, p99 {}",
                        counts.events,
                        counts.failures,
                        milliseconds(counts.p99_us)
                    );
                }
                page.push('\n');
            }
            for refused in &report.states_refused {
                let _ = writeln!(page, "    {node} began without state: {}", first_line(refused));
            }
        }
    }

    pub(super) fn in_json(&self) -> Value {
        let apps = self.board.apps.iter().map(|(app, app_releases)| {
            let rollout = app_releases
                .rollout
                .as_ref()
                .map(|rollout| json!({ "release": rollout.release, "phase": rollout.phase, "canary": rollout.canary }));
            let nodes = self.nodes_of(app).map(|(node, report)| {
                let mut object = counts_in_json(&report.counts);
                object["node"] = json!(node.as_str());
                object["release"] = json!(report.release);
                object["digest"] = json!(report.digest.as_str());
                object["instances"] = json!(report.instances);
                object["in_hand"] = json!(report.in_hand);
                object["states_refused"] = json!(report.states_refused);
                object["progress"] = json!(report.progress.as_ref().map(|progress| {
                    let mut object = counts_in_json(&progress.counts);
                    object["release"] = json!(progress.release);
                    object["stage"] = json!(progress.stage);
                    object
                }));
                object
            });
            json!({
                "app": app.as_str(),
                "release": release_in_json(app_releases.in_use()),
                "rollout": rollout,
                "failed": latest_failure(app_releases).map(|(release, reason)| json!({ "release": release, "reason": reason })),
                "nodes": nodes.collect::<Vec<_>>(),
            })
        });
        let nodes = self.nodes.iter().map(
            |(node, report)| json!({ "node": node.as_str(), "told_at_ms": report.as_ref().map(|report| report.at_ms) }),
        );
        json!({
            "apps": apps.collect::<Vec<_>>(),
            "app_nodes": nodes.collect::<Vec<_>>(),
            "backlog": self.backlog,
            "timers": self.timers,
        })
    }

    /// The app-nodes that run an app, with their reports on it.
    fn nodes_of<'a>(&'a self, app: &'a Namespace) -> impl Iterator<Item = (&'a NodeId, &'a AppReport)> {
        let reports = self.nodes.iter();
        reports.filter_map(move |(node, report)| Some((node, report.as_ref()?.apps.get(app)?)))
    }
}

/// The latest release and its error, if it has failed.
fn latest_failure(app_releases: &AppReleases) -> Option<(u64, &str)> {
    let last = app_releases.releases.last()?;
    match &last.state {
        ReleaseState::Failed(reason) => Some((last.number, reason)),
        _ => None,
    }
}

fn row(node: &NodeId, report: &AppReport) -> [String; TITLES.len()] {
    let Counts {
        per_second,
        failures,
        p50_us,
        p99_us,
        ..
    } = report.counts;
    [
        node.to_string(),
        report.release.to_string(),
        report.digest.short().to_owned(),
        report.instances.to_string(),
        format!("{per_second:.1}"),
        failures.to_string(),
        milliseconds(p50_us),
        milliseconds(p99_us),
        report.in_hand.to_string(),
    ]
}
