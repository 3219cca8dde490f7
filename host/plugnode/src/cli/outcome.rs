//! What a person or a script is told of a release that was asked for: how it gets on, and how it ended.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::cluster::{Cluster, PATIENCE, Reached};
use super::progress::say;
use super::rollout::{self, Followed, NodeProgress, Outcome, Patience};
use super::words::{first_line, milliseconds, plain, seconds};
use plugnode_message::Namespace;
use plugnode_release::{Counts, Stage};

/// What a shell calls a command that ctrl-c ended.
const INTERRUPTED: u8 = 130;

/// How long Redis may be away or full while a release is followed, which goes on when Redis does.
const FOLLOWING: Duration = Duration::from_secs(30);

/// What came of asking.
pub(super) enum Asking {
    /// There is nothing to follow.
    Ended(ExitCode),
    /// A release of this app is on its way.
    Release(Namespace, u64),
}

/// A verb that asks for a release.
pub(super) struct Ask {
    /// What it is called.
    pub(super) verb: &'static str,
    /// Whether standard output is for a machine.
    pub(super) json: bool,
    /// How long what comes of it is followed.
    pub(super) patience: Patience,
}

impl Ask {
    /// Prepares, reaches the cluster and asks. What is refused on the way is told to a machine as well.
    pub(super) fn run<T>(
        &self,
        prepare: impl FnOnce() -> Result<T>,
        cluster: &Cluster,
        ask: impl AsyncFnOnce(&Reached, T) -> Result<Asking>,
    ) -> Result<ExitCode> {
        let began = Instant::now();
        let done = prepare().and_then(|prepared| {
            cluster.reach(
                async |cluster| match cluster.within(PATIENCE, ask(cluster, prepared)).await? {
                    Asking::Ended(code) => Ok(code),
                    Asking::Release(app, number) => follow(cluster, &app, number, began, self).await,
                },
            )
        });
        if let Err(error) = &done {
            self.print(&json!({ "outcome": "refused", "reason": format!("{error:#}") }))?;
        }
        done
    }

    /// Prints for a machine, if it is for one.
    pub(super) fn print(&self, value: &Value) -> Result<()> {
        if self.json {
            writeln!(std::io::stdout(), "{value:#}")?;
        }
        Ok(())
    }
}

/// Follows a release to its end and tells of it. The exit code says whether it is, or was, in use, and was tried if that was to
/// be waited for.
async fn follow(cluster: &Reached, app: &Namespace, number: u64, began: Instant, asking: &Ask) -> Result<ExitCode> {
    let operations = &cluster.operations;
    let following = async {
        let nodes = operations
            .nodes
            .app_nodes()
            .await
            .context("cannot ask which app-nodes run")?;
        if !rollout::runs(&nodes, app) {
            say(&format!(
                "no app-node runs app {app}: waiting for one, which will take release {number} up; ctrl-c ends the waiting alone"
            ));
        }
        rollout::follow(operations, app, number, began, asking.patience, say).await
    };
    let followed = tokio::select! {
        followed = cluster.within(FOLLOWING, following) => match followed {
            Ok(followed) => followed,
            Err(error) => {
                let reason = format!("{error:#}");
                say(&reason);
                asking.print(&json!({
                    "app": app.as_str(), "release": number, "outcome": "not-followed", "reason": reason,
                }))?;
                return Ok(ExitCode::FAILURE);
            }
        },
        _ = tokio::signal::ctrl_c() => {
            say("the rollout goes on; plugnode status shows it, and plugnode rollback ends it");
            asking.print(&json!({ "app": app.as_str(), "release": number, "outcome": "not-followed" }))?;
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    for (node, member) in &followed.nodes {
        for refused in &member.states_refused {
            say(&format!("{node} began without state: {refused}"));
        }
    }
    if let Some((_, old, new)) = &followed.canary {
        say(&format!("release in use: {}", counts(old)));
        say(&format!("release {number}: {}", counts(new)));
    }
    if let Outcome::Failed(reason) = &followed.outcome {
        // What the handler said, and where it broke.
        reason.lines().skip(1).for_each(|line| eprintln!("  {}", plain(line)));
    }
    say(&sentence(&followed, asking.verb));
    asking.print(&in_json(app, &followed))?;
    Ok(match followed.outcome {
        Outcome::InUse | Outcome::Replaced(_) => ExitCode::SUCCESS,
        Outcome::NotTried if asking.patience.for_events.is_none() => ExitCode::SUCCESS,
        Outcome::NotTried | Outcome::Failed(_) | Outcome::Superseded(_) | Outcome::Cancelled => ExitCode::FAILURE,
    })
}

/// What has become of it, for a person.
fn sentence(followed: &Followed, verb: &str) -> String {
    let Followed { release, in_use, .. } = followed;
    let (number, digest) = (release.number, release.digest.short());
    let stays = match followed.was_in_use {
        _ if *in_use == number => {
            "the app has no release before it to go back to: deploy a component that works, or plugnode remove the app"
                .to_owned()
        }
        true => format!("release {in_use} is in use again"),
        false => format!("release {in_use} stays in use"),
    };
    match &followed.outcome {
        Outcome::InUse | Outcome::NotTried => {
            let late = followed
                .nodes
                .iter()
                .filter(|(_, member)| member.in_use_after.is_none());
            let late: Vec<_> = late.collect();
            // Where it has had no events, the next one goes to it all the same.
            let has_it = |member: &NodeProgress| matches!(member.stage, None | Some(Stage::Ready | Stage::Proven));
            let all = followed.nodes.len();
            let nodes = match followed.nodes.values().filter(|member| has_it(member)).count() {
                there if there < all => format!("{there} of {all} nodes"),
                1 => "1 node".to_owned(),
                there => format!("{there} nodes"),
            };
            let after = seconds(followed.took);
            let mut sentence = format!("release {number} ({digest}) is in use on {nodes}, {after} after {verb}");
            for (node, member) in late {
                sentence += &format!("; {node} {}", lateness(member));
            }
            if followed.outcome == Outcome::NotTried {
                sentence += "; it is not tried yet: no events. Should it fail the first, ";
                sentence += match followed.can_go_back {
                    true => "it is taken back, and plugnode status says so",
                    false => "plugnode status says so; there is no release before it to go back to",
                };
            }
            sentence
        }
        Outcome::Replaced(by) => {
            format!("release {number} ({digest}) was in use, and release {by} has taken its place")
        }
        Outcome::Failed(reason) => format!("release {number} failed: {}; {stays}", first_line(reason)),
        Outcome::Superseded(by) => format!(
            "release {number} was superseded by release {by} before it was in use; plugnode status shows how that does"
        ),
        Outcome::Cancelled => format!("release {number} was cancelled by a rollback; {stays}"),
    }
}

fn lateness(member: &NodeProgress) -> String {
    match &member.stage {
        Some(Stage::Behind(reason)) => format!("is behind and goes on trying: {reason}"),
        Some(Stage::Ready | Stage::Proven) => "has had no event for it yet".to_owned(),
        _ => "is not there yet, and goes on".to_owned(),
    }
}

fn counts(counts: &Counts) -> String {
    format!(
        "{} events, {} failed ({:.1} %), p50 {}, p99 {}",
        counts.events,
        counts.failures,
        counts.failure_rate(),
        milliseconds(counts.p50_us),
        milliseconds(counts.p99_us)
    )
}

/// What has become of it, for a machine.
fn in_json(app: &Namespace, followed: &Followed) -> Value {
    let Followed { release, .. } = followed;
    let (outcome, reason, by) = match &followed.outcome {
        Outcome::InUse => ("in-use", None, None),
        Outcome::NotTried => ("not-tried", None, None),
        Outcome::Replaced(by) => ("replaced", None, Some(by)),
        Outcome::Failed(reason) => ("failed", Some(reason), None),
        Outcome::Superseded(by) => ("superseded", None, Some(by)),
        Outcome::Cancelled => ("cancelled", None, None),
    };
    let nodes = followed.nodes.iter().map(|(node, member)| {
        json!({
            "node": node.as_str(),
            "ms": member.in_use_after.map(|after| after.as_millis() as u64),
            "stage": member.stage,
            "states_refused": member.states_refused,
        })
    });
    let canary = followed.canary.as_ref().map(|(canary, old, new)| {
        json!({ "percent": canary.percent, "for_ms": canary.for_ms, "in_use": counts_in_json(old), "new": counts_in_json(new) })
    });
    json!({
        "app": app.as_str(),
        "release": release.number,
        "digest": release.digest.as_str(),
        "outcome": outcome,
        "reason": reason,
        "by": by,
        "in_use": followed.in_use,
        "ms": followed.took.as_millis() as u64,
        "nodes": nodes.collect::<Vec<_>>(),
        "canary": canary,
    })
}

/// How a release does, for a machine.
pub(super) fn counts_in_json(counts: &Counts) -> Value {
    json!({
        "events": counts.events,
        "failures": counts.failures,
        "events_per_second": counts.per_second,
        "p50_us": counts.p50_us,
        "p99_us": counts.p99_us,
    })
}
