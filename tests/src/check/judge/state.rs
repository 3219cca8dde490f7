//! The state that handlers remember: shared counters, attributes of clients, and timers.

use super::super::history::{History, Numbers};
use super::effects::Effects;
use super::{Findings, Kind};

/// Judges counters, attributes and timers.
pub(super) fn judge(history: &History, effects: &[Effects], findings: &mut Findings<'_>) {
    for (counter, value) in history.counters.iter().enumerate() {
        let (least, most) = increments(history, effects, counter as u16);
        let lost = least.saturating_sub(*value);
        findings.add_to_counter(counter, "increments were lost", lost);
        findings.add_to_counter(counter, "more increments than messages", value.saturating_sub(most));
    }
    for (client, story) in (0..).zip(&history.stories) {
        if let Some(record) = &story.open_record {
            let never = Numbers {
                count: record.timers.set.len() as u32,
                first: record.timers.set.clone(),
            };
            told(findings, Kind::Lost, client, "a timer was never due", &never);
        }
        let Some(record) = &story.record else { continue };
        let timers = &record.timers;
        told(
            findings,
            Kind::Doubled,
            client,
            "a timer was due again",
            &timers.repeated,
        );
        told(
            findings,
            Kind::Disconnects,
            client,
            "a timer was due after the disconnect",
            &timers.late,
        );
        let what = "an event did not see the attributes that an earlier one had set (0 stands for the disconnect)";
        told(findings, Kind::Attributes, client, what, &record.stale);
    }
}

fn told(findings: &mut Findings<'_>, kind: Kind, client: u32, what: &'static str, numbers: &Numbers) {
    if let Some(violation) = findings.add_times(kind, client, what, numbers.count) {
        for number in &numbers.first {
            violation.number(*number);
        }
    }
}

/// How often a counter was incremented, at the least and at the most.
fn increments(history: &History, effects: &[Effects], counter: u16) -> (u64, u64) {
    let (mut least, mut most) = (0, 0);
    for (story, effects) in history.stories.iter().zip(effects) {
        for (number, (sent, done)) in (1..).zip(story.sent.iter().zip(&effects.done)) {
            if *done && sent.increments.contains(&counter) {
                most += 1;
                least += u64::from(number > effects.forgotten_to);
            }
        }
        // Messages that took effect again are another matter, and told already.
        most += story
            .record
            .as_ref()
            .map_or(0, |record| u64::from(record.repeated.count));
    }
    (least, most)
}
