//! What publishers sent arrives at each watcher once and in order.

use std::collections::BTreeSet;

use super::super::history::{History, Watch};
use super::{Findings, ViolationKind};

pub(super) fn judge(history: &History, findings: &mut Findings<'_>) {
    for (publisher, publishes) in history.publishes.iter().enumerate() {
        let mut add = |kind, what, numbers: &[u64]| findings.add_to_publisher(kind, publisher, what, numbers);
        if publishes.refused.is_some() {
            add(
                ViolationKind::Unexpected,
                "the server API refused a publish",
                &[publishes.sent.len() as u64],
            );
        }
        for watch in &history.watches {
            let heard = heard(watch, publisher);
            let (mut seen, mut last) = (BTreeSet::new(), 0);
            for number in &heard {
                if !seen.insert(*number) {
                    add(ViolationKind::Doubled, "a publish arrived twice", &[*number]);
                } else if *number < last {
                    add(
                        ViolationKind::OutOfOrder,
                        "a publish arrived after a later one",
                        &[*number],
                    );
                }
                last = last.max(*number);
            }
            // What was sent before the watcher had joined its channel may have been heard or not.
            let first = publishes.sent.partition_point(|at| *at <= watch.welcomed_at) as u64 + 1;
            let end = match watch.stayed {
                true => publishes.accepted as u64,
                // What was on its way when the connection ended is lost with it.
                false => last,
            };
            let lost: Vec<u64> = (first..=end).filter(|number| !seen.contains(number)).collect();
            add(ViolationKind::Lost, "a publish did not arrive", &lost);
            let unsent: Vec<u64> = seen
                .into_iter()
                .filter(|number| *number > publishes.sent.len() as u64)
                .collect();
            add(
                ViolationKind::Unexpected,
                "a publish arrived that was never sent",
                &unsent,
            );
        }
    }
}

/// The numbers of this publisher that a watcher heard.
fn heard(watch: &Watch, publisher: usize) -> Vec<u64> {
    let of_it = watch.publishes.iter().filter(|(from, _)| *from as usize == publisher);
    of_it.map(|(_, number)| *number).collect()
}
