//! What a run says: tables for people, all numbers for programs, and pictures.

mod figures;
mod machine;
mod pictures;
mod svg;
mod table;

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use crate::rounds::{Extent, Row};
use crate::scenarios::Scenario;

pub(crate) use machine::Machine;

/// One scenario's part of a run.
pub(crate) struct Results {
    pub(crate) scenario: Scenario,
    pub(crate) rows: Vec<Row>,
    /// Why it came to nothing.
    pub(crate) failed: Option<String>,
}

/// All of a run.
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) extent: Extent,
    pub(crate) results: Vec<Results>,
}

impl Results {
    /// Whether there is something, and every account is clean.
    pub(crate) fn is_clean(&self) -> bool {
        self.failed.is_none() && self.rows.iter().all(Row::is_clean)
    }
}

impl Report {
    /// The tables.
    pub(crate) fn to_markdown(&self) -> String {
        table::report(self)
    }

    /// Writes `table.md`, `figures.json` and the pictures.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        let figures = format!("{:#}\n", self.to_json());
        let mut files = vec![
            ("table.md".to_owned(), self.to_markdown()),
            ("figures.json".to_owned(), figures),
        ];
        files.extend(
            pictures::of(self)
                .into_iter()
                .map(|(name, svg)| (format!("{name}.svg"), svg)),
        );
        for (name, text) in files {
            std::fs::write(folder.join(&name), text).with_context(|| format!("{name} cannot be written"))?;
        }
        Ok(())
    }

    /// The middle round's value of something that was measured, where nothing was lost, doubled or reordered meanwhile.
    fn median(&self, scenario: Scenario, key: &str, what: &str) -> Option<f64> {
        let row = self.rows(scenario).iter().find(|row| row.key == key)?;
        row.is_clean().then(|| row.median(what))?
    }

    /// What a scenario measured; nothing when it did not run.
    fn rows(&self, scenario: Scenario) -> &[Row] {
        let results = self.results.iter().find(|results| results.scenario == scenario);
        results.map_or(&[], |results| &results.rows)
    }

    fn to_json(&self) -> Value {
        json!({
            "machine": self.machine.to_json(),
            "rounds": self.extent.rounds,
            "seconds": self.extent.time.as_secs_f64(),
            "figures": figures::FIGURES.iter().map(|figure| json!({
                "figure": figure.what,
                "aim": figure.aim,
                "at-least": figure.at_least,
                "reached": figure.reached(self),
            })).collect::<Vec<_>>(),
            "scenarios": self.results.iter().map(|results| json!({
                "scenario": results.scenario.name(),
                "load": results.scenario.load(),
                "failed": results.failed,
                "servers": results.rows.iter().map(row).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        })
    }
}

fn row(row: &Row) -> Value {
    let measured = row.measured.iter().map(|measured| {
        json!({
            "what": measured.name,
            "unit": measured.unit,
            "median": measured.median(),
            "rounds": measured.rounds,
        })
    });
    json!({
        "key": row.key,
        "server": row.server,
        "measured": measured.collect::<Vec<_>>(),
        "account": row.tally.map(|tally| json!({
            "expected": tally.expected,
            "lost": tally.lost,
            "doubled": tally.doubled,
            "out-of-order": tally.out_of_order,
            "strange": tally.strange,
            "broken": tally.broken,
            "clean": row.is_clean(),
        })),
    })
}
