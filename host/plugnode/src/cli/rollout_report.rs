//! The result of a rollout, as a sentence for people and as JSON for programs.

use serde_json::{Value, json};

use super::format::{first_line, seconds};
use super::release_format::counts_in_json;
use super::rollout::{NodeProgress, RolloutOutcome, RolloutResult};
use plugnode_message::Namespace;
use plugnode_release::NodeStage;

/// The result in one sentence. `command` is the one that requested the release.
pub(super) fn result_in_words(result: &RolloutResult, command: &str) -> String {
    let RolloutResult { release, in_use, .. } = result;
    let (number, digest) = (release.number, release.digest.short());
    let stays = match result.was_in_use {
        _ if *in_use == number => {
            "the app has no release before it to go back to: deploy a component that works, or plugnode remove the app"
                .to_owned()
        }
        true => format!("release {in_use} is in use again"),
        false => format!("release {in_use} stays in use"),
    };
    match &result.outcome {
        RolloutOutcome::InUse | RolloutOutcome::NotTried => in_use_in_words(result, command),
        RolloutOutcome::Replaced(by) => {
            format!("release {number} ({digest}) was in use, and release {by} has replaced it")
        }
        RolloutOutcome::Failed(reason) => format!("release {number} failed: {}; {stays}", first_line(reason)),
        RolloutOutcome::Superseded(by) => format!(
            "release {number} was superseded by release {by} before it was in use; plugnode status shows that one"
        ),
        RolloutOutcome::Cancelled => format!("release {number} was cancelled by a rollback; {stays}"),
    }
}

fn in_use_in_words(result: &RolloutResult, command: &str) -> String {
    let (number, digest) = (result.release.number, result.release.digest.short());
    let late = result.nodes.iter().filter(|(_, node)| node.in_use_after.is_none());
    // A node that is ready counts: its next event goes to the release.
    let has_it = |node: &&NodeProgress| matches!(node.stage, None | Some(NodeStage::Ready | NodeStage::Proven));
    let all = result.nodes.len();
    let nodes = match result.nodes.values().filter(has_it).count() {
        count if count < all => format!("{count} of {all} nodes"),
        1 => "1 node".to_owned(),
        count => format!("{count} nodes"),
    };
    let after = seconds(result.took);
    let mut sentence = format!("release {number} ({digest}) is in use on {nodes}, {after} after {command}");
    for (node, progress) in late {
        sentence += &format!("; {node} {}", lateness(progress));
    }
    if result.outcome == RolloutOutcome::NotTried {
        sentence += "; it is not tried yet: no events. If it fails its first, ";
        sentence += match result.can_go_back {
            true => "it is taken back, and plugnode status says so",
            false => "plugnode status says so; there is no release before it to go back to",
        };
    }
    sentence
}

/// Why a node does not use the release yet, as a predicate that follows its name.
fn lateness(node: &NodeProgress) -> String {
    match &node.stage {
        Some(NodeStage::Behind(reason)) => format!("is behind and goes on trying: {}", first_line(reason)),
        Some(NodeStage::Ready | NodeStage::Proven) => "has had no event for it yet".to_owned(),
        _ => "does not use it yet, and goes on".to_owned(),
    }
}

/// The result as JSON.
pub(super) fn result_in_json(app: &Namespace, result: &RolloutResult) -> Value {
    let RolloutResult { release, .. } = result;
    let (outcome, reason, by) = match &result.outcome {
        RolloutOutcome::InUse => ("in-use", None, None),
        RolloutOutcome::NotTried => ("not-tried", None, None),
        RolloutOutcome::Replaced(by) => ("replaced", None, Some(by)),
        RolloutOutcome::Failed(reason) => ("failed", Some(reason), None),
        RolloutOutcome::Superseded(by) => ("superseded", None, Some(by)),
        RolloutOutcome::Cancelled => ("cancelled", None, None),
    };
    let nodes = result.nodes.iter().map(|(node, progress)| {
        json!({
            "node": node.as_str(),
            "ms": progress.in_use_after.map(|after| after.as_millis() as u64),
            "stage": progress.stage,
            "states_refused": progress.states_refused,
        })
    });
    let canary = result.canary.as_ref().map(|(canary, old, new)| {
        json!({ "percent": canary.percent, "for_ms": canary.for_ms, "in_use": counts_in_json(old), "new": counts_in_json(new) })
    });
    json!({
        "app": app.as_str(),
        "release": release.number,
        "digest": release.digest.as_str(),
        "outcome": outcome,
        "reason": reason,
        "by": by,
        "in_use": result.in_use,
        "ms": result.took.as_millis() as u64,
        "nodes": nodes.collect::<Vec<_>>(),
        "canary": canary,
    })
}
