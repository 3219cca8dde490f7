//! What is to be reached, each a ratio of two figures of one run.

use std::cmp::Ordering;

use super::Report;
use crate::scenarios::Scenario;

/// A ratio, the aim for it, and what is to be reached at least. Where the aim is the smaller of the two, less is better.
pub(super) struct Figure {
    pub(super) what: &'static str,
    pub(super) aim: f64,
    pub(super) at_least: f64,
    scenario: Scenario,
    measured: &'static str,
    /// The server above the line, and the one below.
    of: &'static str,
    to: &'static str,
}

/// How far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Aim,
    Enough,
    Short,
    Unknown,
}

/// All of them.
pub(super) const FIGURES: [Figure; 12] = [
    Figure {
        what: "echo over Redis, server CPU per message (io + app + Redis), Node peer / ours",
        aim: 10.0,
        at_least: 6.0,
        scenario: Scenario::Echo,
        measured: "CPU",
        of: "node",
        to: "redis",
    },
    Figure {
        what: "echo on the memory transport, messages/s, ours / bare socketioxide",
        aim: 0.7,
        at_least: 0.5,
        scenario: Scenario::Echo,
        measured: "messages",
        of: "memory",
        to: "bare",
    },
    Figure {
        what: "echo over Redis at 1 in flight, p50 latency, Node peer / ours",
        aim: 3.0,
        at_least: 2.0,
        scenario: Scenario::Latency,
        measured: "p50",
        of: "node",
        to: "redis",
    },
    Figure {
        what: "broadcast to 500, deliveries/s with no gap and no doubling, ours over Redis / Node peer",
        aim: 5.0,
        at_least: 3.0,
        scenario: Scenario::Broadcast,
        measured: "deliveries",
        of: "redis",
        to: "node",
    },
    Figure {
        what: "same, ours over Redis / bare socketioxide",
        aim: 0.9,
        at_least: 0.7,
        scenario: Scenario::Broadcast,
        measured: "deliveries",
        of: "redis",
        to: "bare",
    },
    Figure {
        what: "same, ours on the memory transport / bare socketioxide",
        aim: 0.9,
        at_least: 0.7,
        scenario: Scenario::Broadcast,
        measured: "deliveries",
        of: "memory",
        to: "bare",
    },
    Figure {
        what: "wasm handler / native handler in our host, both called in place, messages/s: echo",
        aim: 0.9,
        at_least: 0.8,
        scenario: Scenario::Handler,
        measured: "messages",
        of: "memory, echo",
        to: "native, echo",
    },
    Figure {
        what: "same: JSON of 1 KB",
        aim: 0.9,
        at_least: 0.8,
        scenario: Scenario::Handler,
        measured: "messages",
        of: "memory, json",
        to: "native, json",
    },
    Figure {
        what: "same: key-value counter",
        aim: 0.9,
        at_least: 0.8,
        scenario: Scenario::Handler,
        measured: "messages",
        of: "memory, count",
        to: "native, count",
    },
    Figure {
        what: "idle connection, memory, ours on the memory transport / Node's socket.io",
        aim: 1.0,
        at_least: 2.0,
        scenario: Scenario::Idle,
        measured: "memory",
        of: "memory",
        to: "node_alone",
    },
    Figure {
        what: "cost per message with 10,000 clients / with 100",
        aim: 1.3,
        at_least: 2.0,
        scenario: Scenario::Growth,
        measured: "CPU",
        of: "10,000 clients",
        to: "100 clients",
    },
    Figure {
        what: "swap storm p99 / without",
        aim: 1.2,
        at_least: 1.5,
        scenario: Scenario::Swap,
        measured: "p99",
        of: "stormy",
        to: "quiet",
    },
];

impl Figure {
    /// What this run came to, if it measured both.
    pub(super) fn reached(&self, report: &Report) -> Option<f64> {
        let median = |key| report.median(self.scenario, key, self.measured);
        Some(median(self.of)? / median(self.to)?).filter(|ratio| ratio.is_finite())
    }

    pub(super) fn verdict(&self, report: &Report) -> Verdict {
        let Some(reached) = self.reached(report) else {
            return Verdict::Unknown;
        };
        let worse = if self.aim > self.at_least {
            Ordering::Less
        } else {
            Ordering::Greater
        };
        match () {
            () if reached.total_cmp(&self.aim) != worse => Verdict::Aim,
            () if reached.total_cmp(&self.at_least) != worse => Verdict::Enough,
            () => Verdict::Short,
        }
    }
}

impl Verdict {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Aim => "aim",
            Self::Enough => "enough",
            Self::Short => "**short**",
            Self::Unknown => "nothing to compare",
        }
    }
}
