//! Determines by the records and by the deliveries which messages of a client took effect, and checks that these should.

use super::super::history::{ClientTrace, Delivery, DeliveryKind, History};
use super::{Findings, ViolationKind};

/// Outcome of a client's messages; message N is at index N - 1.
pub(super) struct Effects {
    /// Whether the cluster has a record of the client; without one, nothing more is judged.
    pub(super) known: bool,
    /// Whether each message took effect, by a record or by a delivery.
    pub(super) done: Vec<bool>,
    /// Messages without a known outcome.
    pub(super) unknown: usize,
    /// Up to this number the record no longer lists the messages that took effect.
    pub(super) forgotten_to: u64,
}

/// For each client, the messages of which any client received something.
pub(super) fn evidence(history: &History) -> Vec<Vec<bool>> {
    let traces = history.traces.iter();
    let mut evidence: Vec<Vec<bool>> = traces.map(|trace| vec![false; trace.sent.len()]).collect();
    let deliveries = history.traces.iter().flat_map(|trace| &trace.deliveries);
    for delivery in deliveries.filter(|delivery| delivery.is_of_effect()) {
        let known = evidence.get_mut(delivery.from as usize);
        if let Some(known) = known.and_then(|known| known.get_mut(delivery.number as usize - 1)) {
            *known = true;
        }
    }
    evidence
}

/// Judges one client's messages by its record.
pub(super) fn judge(client: u32, trace: &ClientTrace, evidence: &[bool], findings: &mut Findings<'_>) -> Effects {
    let mut effects = Effects {
        known: false,
        done: evidence.to_vec(),
        unknown: 0,
        forgotten_to: 0,
    };
    for number in &trace.corrupted {
        findings
            .add(ViolationKind::Unexpected, client, "its attachment came back changed")
            .number(*number);
    }
    let Some(record) = &trace.record else {
        if !trace.deliveries.is_empty() {
            findings.add(
                ViolationKind::PartialEffects,
                client,
                "it was answered, and the key-value store has nothing of it",
            );
        } else if trace.stayed() {
            findings.add(ViolationKind::Disconnects, client, "its connection was never handled");
        }
        effects.unknown = trace.sent.len();
        return effects;
    };
    if record.connections == 0 {
        findings.add(ViolationKind::Disconnects, client, "its connection was never handled");
        return effects;
    }
    effects.known = true;
    effects.forgotten_to = record.forgotten_to;

    let sent = trace.sent.len() as u64;
    let mut written = vec![false; trace.sent.len()];
    written[..record.last.min(sent) as usize].fill(true);
    for (from, to) in &record.gaps {
        let (from, to) = (from.saturating_sub(1).min(sent), (*to).min(sent));
        written[from as usize..to.max(from) as usize].fill(false);
    }
    let unsent = record.last.saturating_sub(sent) as u32;
    findings.add_times(
        ViolationKind::Unexpected,
        client,
        "messages were handled that the client never sent",
        unsent,
    );

    for (kind, what, numbers) in [
        (ViolationKind::Doubled, "a message took effect again", &record.repeated),
        (
            ViolationKind::OutOfOrder,
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
                ViolationKind::PartialEffects,
                client,
                "count, sum and numbers in the key-value store disagree",
            );
        }
    }
    for (number, (written, known)) in (1..).zip(written.iter().zip(evidence)) {
        if *known && !written && number > record.forgotten_to {
            findings
                .add(
                    ViolationKind::PartialEffects,
                    client,
                    "a message was answered, and is not in the key-value store",
                )
                .number(number);
        }
    }
    for (done, written) in effects.done.iter_mut().zip(&written) {
        *done |= written;
    }
    undone(client, trace, record.forgotten_to, &mut effects, findings);
    effects
}

/// Judges the messages that took no effect.
fn undone(client: u32, trace: &ClientTrace, forgotten_to: u64, effects: &mut Effects, findings: &mut Findings<'_>) {
    let mut errors = vec![0; trace.sent.len()];
    for delivery in trace.deliveries.iter().filter(|delivery| delivery.is_error()) {
        let number = delivery.number as usize;
        if let Some(errors) = errors.get_mut(number.wrapping_sub(1)) {
            *errors += 1;
        }
        if effects.done.get(number.wrapping_sub(1)) == Some(&true) {
            let what = match delivery.kind {
                DeliveryKind::Refused => "a message was refused and took effect",
                _ => "a message was acknowledged as failed and took effect",
            };
            findings
                .add(ViolationKind::Unexpected, client, what)
                .number(number as u64);
        }
    }
    failed(client, trace, &errors, effects, findings);
    let left = trace.record.as_ref().and_then(|record| record.reason.as_deref()) == Some("client-disconnect");
    // A connection is read in order: everything before an accepted message was accepted too.
    let accepted = match trace.stayed() || left {
        true => trace.sent.len(),
        false => effects.done.iter().rposition(|done| *done).map_or(0, |last| last + 1),
    };
    let notices = findings.history.watches.iter().flat_map(|watch| &watch.notices);
    let gone_at = notices
        .filter(|notice| notice.client == client)
        .map(|notice| notice.at)
        .min();
    let refused = |number: u64| {
        let mut refusals = trace
            .deliveries
            .iter()
            .filter(|delivery| delivery.kind == DeliveryKind::Refused);
        refusals.any(|delivery| u64::from(delivery.number) == number)
    };
    for (number, sent) in (1..).zip(&trace.sent) {
        let place = number as usize - 1;
        if effects.done[place] || sent.fails || errors[place] > 0 && refused(number) {
            continue;
        }
        // Only messages that ask for an acknowledgement are refused. The disconnect came after the messages that waited.
        let waited = gone_at.is_none_or(|gone| gone.saturating_sub(sent.at) >= findings.history.refuse_after);
        let may_be_refused = sent.asks && waited && !trace.stayed();
        if place < accepted && number > forgotten_to && !may_be_refused {
            findings
                .add(ViolationKind::Lost, client, "a message took no effect")
                .number(number);
        } else {
            effects.unknown += 1;
        }
    }
}

/// Judges the messages that the handler was asked to fail at every attempt.
fn failed(client: u32, trace: &ClientTrace, errors: &[u32], effects: &Effects, findings: &mut Findings<'_>) {
    // Acknowledgements come in the order of the events.
    let answered = trace
        .deliveries
        .iter()
        .filter(|delivery| delivery.from == client && delivery.number < Delivery::LAST);
    let answered_to = match trace.stayed() {
        true => u64::MAX,
        false => answered
            .map(|delivery| delivery.number.into())
            .max()
            .unwrap_or_default(),
    };
    for (number, sent) in (1..).zip(&trace.sent) {
        let place = number as usize - 1;
        if errors[place] > 1 {
            findings
                .add(ViolationKind::Doubled, client, "an error was acknowledged twice")
                .number(number);
        }
        if !sent.fails {
            continue;
        }
        if effects.done[place] {
            let what = "a message took effect although the handler failed";
            findings.add(ViolationKind::Unexpected, client, what).number(number);
        } else if sent.asks && errors[place] == 0 && number <= answered_to {
            let what = "a failed message was never acknowledged";
            findings.add(ViolationKind::Lost, client, what).number(number);
        }
    }
}
