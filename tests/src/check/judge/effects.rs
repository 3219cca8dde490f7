//! Which messages of a client took effect, by its record and by what anybody heard of them, and whether these should.

use super::super::history::{Heard, History, Story, What};
use super::{Findings, Kind};

/// What became of a client's messages; message N is at N - 1.
pub(super) struct Effects {
    /// Whether the cluster knows of the client, so that more can be judged.
    pub(super) known: bool,
    /// It took effect, as a record says or somebody heard.
    pub(super) done: Vec<bool>,
    /// Messages of which nobody knows anything.
    pub(super) unknown: usize,
    /// Up to this number the record does not tell which messages took effect.
    pub(super) forgotten_to: u64,
}

/// Which messages of each client somebody heard anything of.
pub(super) fn evidence(history: &History) -> Vec<Vec<bool>> {
    let stories = history.stories.iter();
    let mut evidence: Vec<Vec<bool>> = stories.map(|story| vec![false; story.sent.len()]).collect();
    let heard = history.stories.iter().flat_map(|story| &story.heard);
    for heard in heard.filter(|heard| heard.is_of_effect()) {
        let known = evidence.get_mut(heard.from as usize);
        if let Some(known) = known.and_then(|of| of.get_mut(heard.number as usize - 1)) {
            *known = true;
        }
    }
    evidence
}

/// Judges one client's messages by its record.
pub(super) fn judge(client: u32, story: &Story, heard: &[bool], findings: &mut Findings<'_>) -> Effects {
    let mut effects = Effects {
        known: false,
        done: heard.to_vec(),
        unknown: 0,
        forgotten_to: 0,
    };
    for number in &story.garbled {
        findings
            .add(Kind::Unexpected, client, "its bytes came back as others")
            .number(*number);
    }
    let Some(record) = &story.record else {
        if !story.heard.is_empty() {
            findings.add(
                Kind::HalfEffects,
                client,
                "it was answered, and nothing of it is in key-value",
            );
        } else if story.stayed() {
            findings.add(Kind::Disconnects, client, "its connection was never handled");
        }
        effects.unknown = story.sent.len();
        return effects;
    };
    if record.connections == 0 {
        findings.add(Kind::Disconnects, client, "its connection was never handled");
        return effects;
    }
    effects.known = true;
    effects.forgotten_to = record.forgotten_to;

    let sent = story.sent.len() as u64;
    let mut written = vec![false; story.sent.len()];
    written[..record.last.min(sent) as usize].fill(true);
    for (from, to) in &record.gaps {
        let (from, to) = (from.saturating_sub(1).min(sent), (*to).min(sent));
        written[from as usize..to.max(from) as usize].fill(false);
    }
    let unsent = record.last.saturating_sub(sent) as u32;
    findings.add_times(
        Kind::Unexpected,
        client,
        "messages were handled that it never sent",
        unsent,
    );

    for (kind, what, numbers) in [
        (Kind::Doubled, "a message took effect again", &record.repeated),
        (
            Kind::OutOfOrder,
            "a message took effect after a later one",
            &record.reordered,
        ),
    ] {
        if let Some(violation) = findings.add_times(kind, client, what, numbers.count) {
            for number in &numbers.first {
                violation.number(*number);
            }
        }
    }
    if record.forgotten_to == 0 && unsent == 0 {
        let count = written.iter().filter(|written| **written).count() as u64 + u64::from(record.repeated.count);
        let sum: u64 = (1..)
            .zip(&written)
            .filter(|(_, written)| **written)
            .map(|(number, _)| number)
            .sum();
        if (count, sum) != (record.count, record.sum) {
            findings.add(
                Kind::HalfEffects,
                client,
                "count, sum and numbers in key-value disagree",
            );
        }
    }
    for (number, (written, heard)) in (1..).zip(written.iter().zip(heard)) {
        if *heard && !written && number > record.forgotten_to {
            findings
                .add(
                    Kind::HalfEffects,
                    client,
                    "a message was answered, and is not in key-value",
                )
                .number(number);
        }
    }
    for (done, written) in effects.done.iter_mut().zip(&written) {
        *done |= written;
    }
    undone(client, story, record.forgotten_to, &mut effects, findings);
    effects
}

/// Judges the messages that took no effect.
fn undone(client: u32, story: &Story, forgotten_to: u64, effects: &mut Effects, findings: &mut Findings<'_>) {
    let mut errors = vec![0; story.sent.len()];
    for heard in story.heard.iter().filter(|heard| heard.is_error()) {
        let number = heard.number as usize;
        if let Some(errors) = errors.get_mut(number.wrapping_sub(1)) {
            *errors += 1;
        }
        if effects.done.get(number.wrapping_sub(1)) == Some(&true) {
            let what = match heard.what {
                What::Refused => "a message was refused, and took effect all the same",
                _ => "a message was acknowledged as failed, and took effect all the same",
            };
            findings.add(Kind::Unexpected, client, what).number(number as u64);
        }
    }
    failed(client, story, &errors, effects, findings);
    let left = story.record.as_ref().and_then(|record| record.reason.as_deref()) == Some("client-disconnect");
    // Everything before what was accepted was accepted, too: a connection is read in order.
    let accepted = match story.stayed() || left {
        true => story.sent.len(),
        false => effects.done.iter().rposition(|done| *done).map_or(0, |last| last + 1),
    };
    let gone = findings.history.watches.iter().flat_map(|watch| &watch.gone);
    let gone_at = gone.filter(|gone| gone.who == client).map(|gone| gone.at).min();
    let refused = |number: u64| {
        let mut refusals = story.heard.iter().filter(|heard| heard.what == What::Refused);
        refusals.any(|heard| u64::from(heard.number) == number)
    };
    for (number, sent) in (1..).zip(&story.sent) {
        let place = number as usize - 1;
        if effects.done[place] || sent.fails || errors[place] > 0 && refused(number) {
            continue;
        }
        // Only those that ask are refused. Its disconnect came behind whatever had to wait.
        let waited = gone_at.is_none_or(|gone| gone.saturating_sub(sent.at) >= findings.history.refuse_after);
        let may_be_refused = sent.asks && waited && !story.stayed();
        if place < accepted && number > forgotten_to && !may_be_refused {
            findings
                .add(Kind::Lost, client, "a message took no effect")
                .number(number);
        } else {
            effects.unknown += 1;
        }
    }
}

/// Judges the messages that the handler was asked to fail at every attempt.
fn failed(client: u32, story: &Story, errors: &[u32], effects: &Effects, findings: &mut Findings<'_>) {
    // Acknowledgements come in the order of the events.
    let answered = story
        .heard
        .iter()
        .filter(|heard| heard.from == client && heard.number < Heard::LAST);
    let answered_to = match story.stayed() {
        true => u64::MAX,
        false => answered.map(|heard| heard.number.into()).max().unwrap_or_default(),
    };
    for (number, sent) in (1..).zip(&story.sent) {
        let place = number as usize - 1;
        if errors[place] > 1 {
            findings
                .add(Kind::Doubled, client, "an error was acknowledged twice")
                .number(number);
        }
        if !sent.fails {
            continue;
        }
        if effects.done[place] {
            let what = "a message took effect that the handler failed";
            findings.add(Kind::Unexpected, client, what).number(number);
        } else if sent.asks && errors[place] == 0 && number <= answered_to {
            let what = "a failed message was never acknowledged";
            findings.add(Kind::Lost, client, what).number(number);
        }
    }
}
