//! Rounds: the same load on each server of a comparison, in turn, and the medians of the results.
//!
//! Servers take turns, because other work on the machine comes and goes. Ratios are more reliable than absolute figures.

use std::io;
use std::path::Path;
use std::time::Duration;

use plugnode_tests::sequence::SequenceCounts;
use tempfile::TempDir;

use crate::server::Server;

/// The size of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunSize {
    pub(crate) rounds: usize,
    /// Measured time of a round.
    pub(crate) time: Duration,
    /// A smoke test with fewer clients.
    pub(crate) is_quick: bool,
}

/// A server in a comparison.
pub(crate) struct Contender {
    /// Identifies its results.
    pub(crate) key: String,
    pub(crate) server: Server,
    /// The folder of its logs, which lives as long as the server.
    _folder: TempDir,
}

/// The results of one server in one round.
pub(crate) struct Round {
    /// Name, unit and value.
    values: Vec<(&'static str, &'static str, f64)>,
    /// None where no messages are sent.
    counts: Option<SequenceCounts>,
}

/// A metric: one value for each round.
#[derive(Debug)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) rounds: Vec<f64>,
}

/// The results of one server in all rounds.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) key: String,
    pub(crate) server: String,
    pub(crate) in_order: bool,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) counts: Option<SequenceCounts>,
}

impl RunSize {
    pub(crate) fn warm_up(self) -> Duration {
        self.time.mul_f64(0.4)
    }

    /// The number of clients; a tenth, but at least 100, in a quick run.
    pub(crate) fn clients(self, clients: usize) -> usize {
        if self.is_quick {
            (clients / 10).max(100).min(clients)
        } else {
            clients
        }
    }

    /// Limits the number of rounds, for scenarios that take long.
    pub(crate) fn at_most(self, rounds: usize) -> Self {
        Self {
            rounds: self.rounds.min(rounds),
            ..self
        }
    }
}

impl Contender {
    /// Starts a server in a folder of its own.
    pub(crate) async fn start(key: impl Into<String>, start: impl AsyncFnOnce(&Path) -> Server) -> Self {
        let folder = tempfile::tempdir().expect("cannot create a temporary folder");
        Self {
            key: key.into(),
            server: start(folder.path()).await,
            _folder: folder,
        }
    }
}

/// Runs all rounds, in each of them one server after the other. `round` gets the index of the server.
pub(crate) async fn in_turn(
    extent: RunSize,
    contenders: &[Contender],
    round: impl AsyncFn(usize, &Server) -> io::Result<Round>,
) -> anyhow::Result<Vec<Row>> {
    let mut rows: Vec<Row> = contenders
        .iter()
        .map(|contender| Row::new(&contender.key, &contender.server))
        .collect();
    for number in 1..=extent.rounds {
        for (index, (contender, row)) in contenders.iter().zip(&mut rows).enumerate() {
            eprintln!("   round {number} of {}: {} ({})", extent.rounds, row.server, row.key);
            let round = round(index, &contender.server).await;
            row.add(round.map_err(|error| anyhow::anyhow!("{}: {error}", row.server))?);
        }
    }
    Ok(rows)
}

impl Round {
    pub(crate) fn of(counts: SequenceCounts) -> Self {
        Self {
            counts: Some(counts),
            ..Self::unaccounted()
        }
    }

    /// A round in which no messages are sent.
    pub(crate) fn unaccounted() -> Self {
        Self {
            values: Vec::new(),
            counts: None,
        }
    }

    pub(crate) fn record(&mut self, name: &'static str, unit: &'static str, value: f64) {
        self.values.push((name, unit, value));
    }
}

impl Row {
    pub(crate) fn new(key: &str, server: &Server) -> Self {
        Self {
            in_order: server.in_order,
            ..Self::named(key, server.name)
        }
    }

    /// A row that is not of a [`Server`].
    pub(crate) fn named(key: &str, server: &str) -> Self {
        Self {
            key: key.to_owned(),
            server: server.to_owned(),
            in_order: true,
            metrics: Vec::new(),
            counts: None,
        }
    }

    pub(crate) fn add(&mut self, round: Round) {
        if let Some(counts) = round.counts {
            *self.counts.get_or_insert_default() += counts;
        }
        for (name, unit, value) in round.values {
            match self.metrics.iter_mut().find(|metric| metric.name == name) {
                Some(metric) => metric.rounds.push(value),
                None => self.metrics.push(Metric {
                    name,
                    unit,
                    rounds: vec![value],
                }),
            }
        }
    }

    pub(crate) fn with(mut self, round: Round) -> Self {
        self.add(round);
        self
    }

    /// Marks one of several rows of the same server: appends to its key and to its name.
    pub(crate) fn with_variant(self, key: &str, name: &str) -> Self {
        Self {
            key: format!("{}, {key}", self.key),
            server: format!("{}: {name}", self.server),
            ..self
        }
    }

    /// Uses the key as the name.
    pub(crate) fn named_by_key(self) -> Self {
        Self {
            server: self.key.clone(),
            ..self
        }
    }

    /// The median of a metric over all rounds.
    pub(crate) fn median(&self, name: &str) -> Option<f64> {
        let metric = self.metrics.iter().find(|metric| metric.name == name)?;
        Some(metric.median())
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.counts
            .is_none_or(|counts| counts.expected > 0 && counts.is_clean(self.in_order))
    }
}

impl Metric {
    pub(crate) fn median(&self) -> f64 {
        let mut rounds = self.rounds.clone();
        rounds.sort_by(f64::total_cmp);
        rounds[rounds.len() / 2]
    }
}
