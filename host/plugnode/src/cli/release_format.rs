//! Releases, their states, stages and counts, as words for people and as JSON for programs.

use serde_json::{Value, json};

use super::format::{first_line, milliseconds, plain, time};
use plugnode_release::{Counts, NodeStage, Origin, Phase, Release, ReleaseState};

/// Author and message of a release, to follow the time of its request: ` by ada@host (message)`.
pub(super) fn signature(release: &Release) -> String {
    let author = release.author.as_ref();
    let author = author.map(|author| format!(" by {}", plain(&author.to_string())));
    let message = release.message.as_deref();
    let message = message.map(|message| format!(" ({})", first_line(message)));
    author.unwrap_or_default() + &message.unwrap_or_default()
}

/// Warning on a release in use that has not answered an event yet; empty for others.
pub(super) fn untried_warning(release: &Release) -> String {
    match &release.first_failure {
        _ if release.is_tried => String::new(),
        Some(trouble) => format!(", has answered no event and fails: {}", first_line(trouble)),
        None => ", not tried yet: no events".to_owned(),
    }
}

/// Whether no app-node has started the release yet. `is_run`: whether an app-node runs the app.
pub(super) fn waits_for_node(release: &Release, is_run: bool) -> bool {
    !is_run && !release.is_tried && release.first_failure.is_none()
}

/// Name of a phase.
pub(super) fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Preparing => "preparing",
        Phase::Trying => "trying",
        Phase::Canary => "canary",
    }
}

/// Name of a state.
pub(super) fn state_name(state: &ReleaseState) -> &'static str {
    match state {
        ReleaseState::RollingOut => "rolling out",
        ReleaseState::Current => "in use",
        ReleaseState::Retired => "was in use",
        ReleaseState::Failed(_) => "failed",
        ReleaseState::Superseded(_) => "superseded",
        ReleaseState::Cancelled => "cancelled",
    }
}

/// A node's stage, as a predicate that follows the node's name.
pub(super) fn stage_in_words(stage: &NodeStage) -> String {
    match stage {
        NodeStage::Fetching => "fetches it".to_owned(),
        NodeStage::Compiling => "compiles it".to_owned(),
        NodeStage::Starting => "starts instances of it".to_owned(),
        NodeStage::Ready => "is ready for it".to_owned(),
        NodeStage::Proven => "has answered first events with it".to_owned(),
        NodeStage::Failed(reason) => format!("cannot use it: {}", first_line(reason)),
        NodeStage::Behind(reason) => format!("cannot use it yet: {}", first_line(reason)),
    }
}

/// Counts in a sentence.
pub(super) fn counts_in_words(counts: &Counts) -> String {
    format!(
        "{} events, {} failed ({:.1} %), p50 {}, p99 {}",
        counts.events,
        counts.failures,
        counts.failure_rate(),
        milliseconds(counts.p50_us),
        milliseconds(counts.p99_us)
    )
}

/// Counts as JSON.
pub(super) fn counts_in_json(counts: &Counts) -> Value {
    json!({
        "events": counts.events,
        "failures": counts.failures,
        "events_per_second": counts.per_second,
        "p50_us": counts.p50_us,
        "p99_us": counts.p99_us,
    })
}

/// A release as JSON.
pub(super) fn release_in_json(release: &Release) -> Value {
    let (reason, superseded_by) = match &release.state {
        ReleaseState::Failed(reason) => (Some(reason), None),
        ReleaseState::Superseded(by) => (None, Some(by)),
        _ => (None, None),
    };
    let (origin, rollback_to) = match release.origin {
        Origin::Config => ("config", None),
        Origin::Deploy => ("deploy", None),
        Origin::Rollback(to) => ("rollback", Some(to)),
        Origin::Save => ("save", None),
    };
    json!({
        "release": release.number,
        "digest": release.digest.as_str(),
        "state": state_name(&release.state).replace(' ', "-"),
        "reason": reason,
        "tried": release.is_tried,
        "trouble": release.first_failure,
        "superseded_by": superseded_by,
        "asked_for_at": time(release.at_ms),
        "asked_for_at_ms": release.at_ms,
        "bytes": release.bytes,
        "file": release.file,
        "origin": origin,
        "user": release.author.as_ref().map(|author| &author.user),
        "host": release.author.as_ref().map(|author| &author.host),
        "message": release.message,
        "rollback_to": rollback_to,
    })
}
