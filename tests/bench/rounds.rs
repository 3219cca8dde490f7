//! Rounds: the same load on each server of a comparison, in turn, and the middle of what came of it.
//!
//! Medians of rounds in turn, because other work on the machine comes and goes. Ratios hold better than figures.

use std::io;
use std::path::Path;
use std::time::Duration;

use plugnode_tests::sequence::SequenceCounts;
use tempfile::TempDir;

use crate::server::Server;

/// How much of it all there is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) rounds: usize,
    /// The time that is measured in a round.
    pub(crate) time: Duration,
    /// Only to see that it works: with fewer clients.
    pub(crate) quick: bool,
}

/// A server in a comparison, under the name that its figures are found by.
pub(crate) struct Entrant {
    pub(crate) key: String,
    pub(crate) server: Server,
    /// Where it writes its logs, for as long as it runs.
    _folder: TempDir,
}

/// What one server did in one round.
pub(crate) struct Round {
    values: Vec<(&'static str, &'static str, f64)>,
    /// Nothing where nothing can be lost.
    tally: Option<SequenceCounts>,
}

/// Something that was measured: a value each round.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) rounds: Vec<f64>,
}

/// What one server did in all rounds.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) key: String,
    pub(crate) server: String,
    pub(crate) in_order: bool,
    pub(crate) measured: Vec<Measured>,
    pub(crate) tally: Option<SequenceCounts>,
}

impl Extent {
    pub(crate) fn warm_up(self) -> Duration {
        self.time.mul_f64(0.4)
    }

    /// So many clients, unless it is to be quick.
    pub(crate) fn clients(self, clients: usize) -> usize {
        if self.quick {
            (clients / 10).max(100).min(clients)
        } else {
            clients
        }
    }

    /// With no more rounds than this, where one takes long.
    pub(crate) fn at_most(self, rounds: usize) -> Self {
        Self {
            rounds: self.rounds.min(rounds),
            ..self
        }
    }
}

impl Entrant {
    /// Starts a server in a folder of its own.
    pub(crate) async fn start(key: impl Into<String>, start: impl AsyncFnOnce(&Path) -> Server) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        Self {
            key: key.into(),
            server: start(folder.path()).await,
            _folder: folder,
        }
    }
}

/// A round of each in turn, again and again. `round` gets the server's place among them.
pub(crate) async fn in_turn(
    extent: Extent,
    entrants: &[Entrant],
    round: impl AsyncFn(usize, &Server) -> io::Result<Round>,
) -> anyhow::Result<Vec<Row>> {
    let mut rows: Vec<Row> = entrants
        .iter()
        .map(|entrant| Row::new(&entrant.key, &entrant.server))
        .collect();
    for number in 1..=extent.rounds {
        for (place, (entrant, row)) in entrants.iter().zip(&mut rows).enumerate() {
            eprintln!("   round {number} of {}: {} ({})", extent.rounds, row.server, row.key);
            let round = round(place, &entrant.server).await;
            row.add(round.map_err(|error| anyhow::anyhow!("{}: {error}", row.server))?);
        }
    }
    Ok(rows)
}

impl Round {
    pub(crate) fn of(tally: SequenceCounts) -> Self {
        Self {
            tally: Some(tally),
            ..Self::unaccounted()
        }
    }

    /// Of what sends no messages.
    pub(crate) fn unaccounted() -> Self {
        Self {
            values: Vec::new(),
            tally: None,
        }
    }

    pub(crate) fn say(&mut self, name: &'static str, unit: &'static str, value: f64) {
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

    /// Of what is no server: a name for us, and one for people.
    pub(crate) fn named(key: &str, server: &str) -> Self {
        Self {
            key: key.to_owned(),
            server: server.to_owned(),
            in_order: true,
            measured: Vec::new(),
            tally: None,
        }
    }

    pub(crate) fn add(&mut self, round: Round) {
        if let Some(tally) = round.tally {
            *self.tally.get_or_insert_default() += tally;
        }
        for (name, unit, value) in round.values {
            match self.measured.iter_mut().find(|measured| measured.name == name) {
                Some(measured) => measured.rounds.push(value),
                None => self.measured.push(Measured {
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

    /// One of several of the same server: `KEY, of it` for us, and `SERVER, for people` for them.
    pub(crate) fn called(self, of_it: &str, for_people: &str) -> Self {
        Self {
            key: format!("{}, {of_it}", self.key),
            server: format!("{}: {for_people}", self.server),
            ..self
        }
    }

    /// The same name for people as for us.
    pub(crate) fn known_by_key(self) -> Self {
        Self {
            server: self.key.clone(),
            ..self
        }
    }

    /// The middle round's value.
    pub(crate) fn median(&self, name: &str) -> Option<f64> {
        let measured = self.measured.iter().find(|measured| measured.name == name)?;
        Some(measured.median())
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.tally
            .is_none_or(|tally| tally.expected > 0 && tally.is_clean(self.in_order))
    }
}

impl Measured {
    pub(crate) fn median(&self) -> f64 {
        let mut rounds = self.rounds.clone();
        rounds.sort_by(f64::total_cmp);
        rounds[rounds.len() / 2]
    }
}
