//! The goals: ratios of two figures of one run.

use std::cmp::Ordering;

use super::Report;
use crate::scenarios::Scenario;

/// A ratio, its aim, and its minimum. If the aim is below the minimum, less is better.
pub(super) struct Goal {
    pub(super) description: &'static str,
    pub(super) aim: f64,
    pub(super) at_least: f64,
    scenario: Scenario,
    metric: &'static str,
    /// Key of the row whose value is the numerator.
    numerator: &'static str,
    /// Key of the row whose value is the denominator.
    denominator: &'static str,
}

/// Whether a goal is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Aim,
    Minimum,
    Missed,
    Unknown,
}

/// All goals.
pub(super) const GOALS: [Goal; 12] = [
    Goal {
        description: "echo over Redis, server CPU per message (io + app + Redis), Node peer / ours",
        aim: 10.0,
        at_least: 6.0,
        scenario: Scenario::Echo,
        metric: "CPU",
        numerator: "node",
        denominator: "redis",
    },
    Goal {
        description: "echo on the memory transport, messages/s, ours / bare socketioxide",
        aim: 0.7,
        at_least: 0.5,
        scenario: Scenario::Echo,
        metric: "messages",
        numerator: "memory",
        denominator: "bare",
    },
    Goal {
        description: "echo over Redis at 1 in flight, p50 latency, Node peer / ours",
        aim: 3.0,
        at_least: 2.0,
        scenario: Scenario::Latency,
        metric: "p50",
        numerator: "node",
        denominator: "redis",
    },
    Goal {
        description: "broadcast to 500, deliveries/s with no gap and no doubling, ours over Redis / Node peer",
        aim: 5.0,
        at_least: 3.0,
        scenario: Scenario::Broadcast,
        metric: "deliveries",
        numerator: "redis",
        denominator: "node",
    },
    Goal {
        description: "same, ours over Redis / bare socketioxide",
        aim: 0.9,
        at_least: 0.7,
        scenario: Scenario::Broadcast,
        metric: "deliveries",
        numerator: "redis",
        denominator: "bare",
    },
    Goal {
        description: "same, ours on the memory transport / bare socketioxide",
        aim: 0.9,
        at_least: 0.7,
        scenario: Scenario::Broadcast,
        metric: "deliveries",
        numerator: "memory",
        denominator: "bare",
    },
    Goal {
        description: "wasm handler / native handler in our host, both called in place, messages/s: echo",
        aim: 0.9,
        at_least: 0.8,
        scenario: Scenario::Handler,
        metric: "messages",
        numerator: "memory, echo",
        denominator: "native, echo",
    },
    Goal {
        description: "same: JSON of 1 KB",
        aim: 0.9,
        at_least: 0.8,
        scenario: Scenario::Handler,
        metric: "messages",
        numerator: "memory, json",
        denominator: "native, json",
    },
    Goal {
        description: "same: key-value counter",
        aim: 0.9,
        at_least: 0.8,
        scenario: Scenario::Handler,
        metric: "messages",
        numerator: "memory, count",
        denominator: "native, count",
    },
    Goal {
        description: "idle connection, memory, ours on the memory transport / Node's socket.io",
        aim: 1.0,
        at_least: 2.0,
        scenario: Scenario::Idle,
        metric: "memory",
        numerator: "memory",
        denominator: "node_alone",
    },
    Goal {
        description: "cost per message with 10,000 clients / with 100",
        aim: 1.3,
        at_least: 2.0,
        scenario: Scenario::Growth,
        metric: "CPU",
        numerator: "10,000 clients",
        denominator: "100 clients",
    },
    Goal {
        description: "swap storm p99 / without",
        aim: 1.2,
        at_least: 1.5,
        scenario: Scenario::Swap,
        metric: "p99",
        numerator: "stormy",
        denominator: "quiet",
    },
];

impl Goal {
    /// The ratio in this run. None if it did not measure both figures, or if one has lost messages.
    pub(super) fn reached(&self, report: &Report) -> Option<f64> {
        let median = |key| report.median(self.scenario, key, self.metric);
        Some(median(self.numerator)? / median(self.denominator)?).filter(|ratio| ratio.is_finite())
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
            () if reached.total_cmp(&self.at_least) != worse => Verdict::Minimum,
            () => Verdict::Missed,
        }
    }
}

impl Verdict {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Aim => "aim",
            Self::Minimum => "enough",
            Self::Missed => "**short**",
            Self::Unknown => "nothing to compare",
        }
    }
}
