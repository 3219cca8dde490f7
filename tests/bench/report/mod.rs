//! The report of a run: Markdown tables, all figures as JSON, and charts.

mod chart;
mod charts;
mod goals;
mod machine;
mod table;

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use crate::rounds::{Row, RunSize};
use crate::scenarios::Scenario;

pub(crate) use machine::Machine;

/// The results of one scenario.
pub(crate) struct Results {
    pub(crate) scenario: Scenario,
    pub(crate) rows: Vec<Row>,
    /// Why it failed as a whole.
    pub(crate) failed: Option<String>,
}

/// The results of a run.
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) size: RunSize,
    pub(crate) results: Vec<Results>,
}

impl Results {
    /// Whether the scenario ran, and every account is clean.
    pub(crate) fn is_clean(&self) -> bool {
        self.failed.is_none() && self.rows.iter().all(Row::is_clean)
    }
}

impl Report {
    /// The report as Markdown.
    pub(crate) fn to_markdown(&self) -> String {
        table::report(self)
    }

    /// Writes `table.md`, `figures.json` and the charts.
    ///
    /// # Errors
    /// When the folder or a file cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let figures = format!("{:#}\n", self.to_json());
        let mut files = vec![
            ("table.md".to_owned(), self.to_markdown()),
            ("figures.json".to_owned(), figures),
        ];
        files.extend(
            charts::draw(self)?
                .into_iter()
                .map(|(name, svg)| (format!("{name}.svg"), svg)),
        );
        for (name, text) in files {
            std::fs::write(folder.join(&name), text).with_context(|| format!("cannot write {name}"))?;
        }
        Ok(())
    }

    /// The median of a metric. None if the account of the row is not clean.
    fn median(&self, scenario: Scenario, key: &str, metric: &str) -> Option<f64> {
        let row = self.rows(scenario).iter().find(|row| row.key == key)?;
        row.is_clean().then(|| row.median(metric))?
    }

    /// The rows of a scenario; none if it did not run.
    fn rows(&self, scenario: Scenario) -> &[Row] {
        let results = self.results.iter().find(|results| results.scenario == scenario);
        results.map_or(&[], |results| &results.rows)
    }

    fn to_json(&self) -> Value {
        json!({
            "machine": self.machine.to_json(),
            "rounds": self.size.rounds,
            "seconds": self.size.time.as_secs_f64(),
            "figures": goals::GOALS.iter().map(|goal| json!({
                "figure": goal.description,
                "aim": goal.aim,
                "at-least": goal.at_least,
                "reached": goal.reached(self),
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
    let metrics = row.metrics.iter().map(|metric| {
        json!({
            "what": metric.name,
            "unit": metric.unit,
            "median": metric.median(),
            "rounds": metric.rounds,
        })
    });
    json!({
        "key": row.key,
        "server": row.server,
        "measured": metrics.collect::<Vec<_>>(),
        "account": row.counts.map(|counts| json!({
            "expected": counts.expected,
            "lost": counts.lost,
            "doubled": counts.doubled,
            "out-of-order": counts.out_of_order,
            "strange": counts.strange,
            "broken": counts.broken,
            "clean": row.is_clean(),
        })),
    })
}
