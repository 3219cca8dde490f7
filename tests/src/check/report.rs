//! Report of a run: the verdict, the latencies and the interruptions.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::history::{Ended, History};
use super::judge::{CheckedCounts, Verdict, ViolationKind, judge};

/// Most violations of one kind that are printed.
const WRITTEN: usize = 12;

/// Result of a run.
#[derive(Debug)]
pub struct Report {
    /// Broken promises.
    pub verdict: Verdict,
    /// All that was observed.
    pub history: History,
    /// Durations and latencies.
    pub timing: Timing,
    /// Connections that were lost, rather than ended by their clients.
    pub reconnects: usize,
    /// Whether everything that connected clients sent was handled within `patience`.
    pub settled: bool,
    /// Why there is no verdict: the cluster did not answer at the end.
    pub incomplete: Option<String>,
}

/// Durations and latencies of a run.
#[derive(Debug, Clone, Default)]
pub struct Timing {
    /// How long clients sent.
    pub sending: Duration,
    /// Time from then until nothing more arrived.
    pub settling: Duration,
    /// Median time from sending to acknowledgement.
    pub median: Duration,
    /// 99th percentile of the same.
    pub p99: Duration,
    /// Maximum of the same.
    pub slowest: Duration,
    /// Longest time without any acknowledgement while clients were sending.
    pub longest_silence: Duration,
}

impl Report {
    pub(super) fn new(
        history: History,
        incomplete: Option<String>,
        settled: bool,
        stopped_at: u64,
        settled_at: u64,
    ) -> Self {
        let verdict = match incomplete {
            None => judge(&history),
            Some(_) => Verdict {
                counts: CheckedCounts::of(&history),
                ..Default::default()
            },
        };
        let lost = |ended: &Ended| matches!(ended, Ended::Lost(_));
        Self {
            verdict,
            timing: Timing::of(&history, stopped_at, settled_at),
            reconnects: history.traces.iter().filter(|trace| lost(&trace.ended)).count(),
            history,
            settled,
            incomplete,
        }
    }

    /// Whether every promise was kept, as far as could be observed.
    pub fn is_clean(&self) -> bool {
        self.incomplete.is_none() && self.verdict.violations.is_empty()
    }

    /// Fails unless every promise was kept.
    ///
    /// # Panics
    /// With the whole report, when one was not.
    pub fn assert_clean(&self) {
        assert!(self.is_clean(), "{self}");
    }

    /// Longest time between two acknowledgements to any clients, between two times of the history's clock.
    pub fn longest_silence(&self, from: u64, to: u64) -> Duration {
        longest_silence(&self.history, from, to)
    }

    /// The report as JSON.
    pub fn to_json(&self) -> Value {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1_000.0;
        let (counts, timing) = (&self.verdict.counts, &self.timing);
        let violations = self.verdict.violations.iter().map(|violation| {
            json!({
                "kind": violation.kind.word(),
                "subject": violation.subject,
                "what": violation.what,
                "times": violation.times,
                "numbers": violation.numbers,
                "events": violation.events.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
        });
        let found = ViolationKind::ALL.map(|kind| (kind.word().replace(' ', "-"), json!(self.verdict.times(kind))));
        let found = found.into_iter();
        json!({
            "ok": self.is_clean(),
            "incomplete": self.incomplete,
            "settled": self.settled,
            "clients": counts.clients,
            "reconnects": self.reconnects,
            "sent": counts.sent,
            "acked": counts.acked,
            "refused": counts.refused,
            "unknown": counts.unknown,
            "effects": counts.effects,
            "increments": counts.increments,
            "deliveries": counts.deliveries,
            "publishes": counts.publishes,
            "repeated": counts.repeated,
            "published": counts.published,
            "found": found.collect::<Map<_, _>>(),
            "violations": violations.collect::<Vec<_>>(),
            "milliseconds": {
                "sending": milliseconds(timing.sending),
                "settling": milliseconds(timing.settling),
                "median": milliseconds(timing.median),
                "p99": milliseconds(timing.p99),
                "slowest": milliseconds(timing.slowest),
                "longest-silence": milliseconds(timing.longest_silence),
            },
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (counts, timing) = (&self.verdict.counts, &self.timing);
        if let Some(reason) = &self.incomplete {
            writeln!(f, "no verdict: {reason}")?;
        }
        writeln!(
            f,
            "clients       {} in total, {} lost their connection",
            counts.clients, self.reconnects
        )?;
        writeln!(
            f,
            "messages      {} sent, {} acknowledged, {} refused, {} unknown (in flight when their connection ended)",
            counts.sent, counts.acked, counts.refused, counts.unknown
        )?;
        writeln!(
            f,
            "effects       {}, {} deliveries; {} increments of shared counters",
            counts.effects, counts.deliveries, counts.increments
        )?;
        if counts.publishes > 0 {
            writeln!(
                f,
                "publishes     {} accepted, {} attempts repeated, {} deliveries to watchers",
                counts.publishes, counts.repeated, counts.published
            )?;
        }
        writeln!(
            f,
            "time          {:.1?} sending, {:.1?} settling; acknowledgement latency {:.1?} (median), {:.1?} (p99), \
             {:.1?} (maximum); longest silence {:.1?}",
            timing.sending, timing.settling, timing.median, timing.p99, timing.slowest, timing.longest_silence
        )?;
        if !self.settled {
            writeln!(
                f,
                "unsettled     messages of connected clients were still unhandled at the end"
            )?;
        }
        for kind in ViolationKind::ALL {
            writeln!(f, "{:<14}{}", kind.word(), self.verdict.times(kind))?;
        }
        for kind in ViolationKind::ALL {
            let of_kind = self
                .verdict
                .violations
                .iter()
                .filter(|violation| violation.kind == kind);
            let all = of_kind.clone().count();
            for violation in of_kind.take(WRITTEN) {
                writeln!(f, "  {violation}")?;
            }
            if all > WRITTEN {
                writeln!(f, "  {}: {} more", kind.word(), all - WRITTEN)?;
            }
        }
        Ok(())
    }
}

impl Timing {
    fn of(history: &History, stopped_at: u64, settled_at: u64) -> Self {
        let sent = history.traces.iter().flat_map(|trace| &trace.sent);
        let mut waits: Vec<u64> = sent.filter_map(|sent| Some(sent.acked_at? - sent.at)).collect();
        waits.sort_unstable();
        let part = |part: usize| {
            let place = (waits.len() * part / 100).min(waits.len().saturating_sub(1));
            Duration::from_micros(waits.get(place).copied().unwrap_or_default())
        };
        let begun_at = history
            .traces
            .iter()
            .map(|trace| trace.connected_at)
            .min()
            .unwrap_or_default();
        Self {
            sending: Duration::from_micros(stopped_at.saturating_sub(begun_at)),
            settling: Duration::from_micros(settled_at.saturating_sub(stopped_at)),
            median: part(50),
            p99: part(99),
            slowest: part(100),
            longest_silence: longest_silence(history, begun_at, stopped_at),
        }
    }
}

fn longest_silence(history: &History, from: u64, to: u64) -> Duration {
    let sent = history.traces.iter().flat_map(|trace| &trace.sent);
    let mut acks: Vec<u64> = sent
        .filter_map(|sent| sent.acked_at)
        .filter(|at| (from..to).contains(at))
        .collect();
    acks.extend([from, to]);
    acks.sort_unstable();
    let longest = acks.windows(2).map(|pair| pair[1] - pair[0]).max();
    Duration::from_micros(longest.unwrap_or_default())
}
