//! Checks the state that handlers keep: shared counters, attributes of clients, and timers.

use super::super::history::{History, Numbers};
use super::effects::Effects;
use super::{Findings, ViolationKind};

/// Judges counters, attributes and timers.
pub(super) fn judge(history: &History, effects: &[Effects], findings: &mut Findings<'_>) {
    for (counter, value) in history.counters.iter().enumerate() {
        let (least, most) = increments(history, effects, counter as u16);
        let lost = least.saturating_sub(*value);
        findings.add_to_counter(counter, "increments were lost", lost);
        findings.add_to_counter(counter, "more increments than messages", value.saturating_sub(most));
    }
    for (client, trace) in (0..).zip(&history.traces) {
        if let Some(record) = &trace.open_record {
            let never = Numbers {
                count: record.timers.set.len() as u32,
                first: record.timers.set.clone(),
            };
            report(findings, ViolationKind::Lost, client, "a timer never fired", &never);
        }
        let Some(record) = &trace.record else { continue };
        let timers = &record.timers;
        report(
            findings,
            ViolationKind::Doubled,
            client,
            "a timer fired again",
            &timers.repeated,
        );
        report(
            findings,
            ViolationKind::Disconnects,
            client,
            "a timer fired after the disconnect",
            &timers.late,
        );
        let what = "an event did not see the attributes that an earlier one had set (0 stands for the disconnect)";
        report(findings, ViolationKind::Attributes, client, what, &record.stale);
    }
}

fn report(findings: &mut Findings<'_>, kind: ViolationKind, client: u32, what: &'static str, numbers: &Numbers) {
    if let Some(violation) = findings.add_times(kind, client, what, numbers.count) {
        for number in &numbers.first {
            violation.number(*number);
        }
    }
}

/// Fewest and most increments that the counter can have had.
fn increments(history: &History, effects: &[Effects], counter: u16) -> (u64, u64) {
    let (mut least, mut most) = (0, 0);
    for (trace, effects) in history.traces.iter().zip(effects) {
        for (number, (sent, done)) in (1..).zip(trace.sent.iter().zip(&effects.done)) {
            if *done && sent.increments.contains(&counter) {
                most += 1;
                least += u64::from(number > effects.forgotten_to);
            }
        }
        // Repeated effects are reported by `effects`.
        most += trace
            .record
            .as_ref()
            .map_or(0, |record| u64::from(record.repeated.count));
    }
    (least, most)
}
