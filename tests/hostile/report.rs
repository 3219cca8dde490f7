//! Output: the list of cases, and the results as a table or JSON.

use std::time::Duration;

use serde_json::{Value, json};

use crate::case::Case;
use crate::run::{Outcome, Verdict};

/// Longest text in a cell of the table.
const CELL: usize = 70;

/// Results of the cases so far.
pub(crate) struct Report {
    has_memory: bool,
    rows: Vec<[String; 6]>,
    objects: Vec<Value>,
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Report {
    pub(crate) fn new(has_memory: bool) -> Self {
        Self {
            has_memory,
            rows: Vec::new(),
            objects: Vec::new(),
            passed: 0,
            failed: 0,
            skipped: 0,
        }
    }

    pub(crate) fn add(&mut self, case: &Case, outcome: Outcome) {
        let verdict = match outcome.verdict {
            Verdict::Passed => "passed",
            Verdict::Failed => "FAILED",
            Verdict::Skipped => "skipped",
        };
        match outcome.verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Failed => self.failed += 1,
            Verdict::Skipped => self.skipped += 1,
        }
        eprintln!("{verdict} {} ({:.1?}): {}", case.name, outcome.took, outcome.did);
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.objects.push(json!({
            "case": case.name,
            "must": case.must,
            "did": outcome.did,
            "memory": outcome.memory,
            "bystander_ms": outcome.bystander.map(milliseconds),
            "took_ms": milliseconds(outcome.took),
            "verdict": verdict.to_lowercase(),
        }));
        let memory = outcome.memory.map(|memory| {
            let [before, peak, after] = [memory.before, memory.peak, memory.after].map(|bytes| bytes >> 20);
            format!("{before}/{peak}/{after}")
        });
        self.rows.push([
            case.name.to_owned(),
            short(case.must),
            short(&outcome.did),
            memory.unwrap_or_default(),
            outcome
                .bystander
                .map_or("lost".into(), |worst| format!("{} ms", milliseconds(worst))),
            verdict.to_owned(),
        ]);
    }

    /// Whether no case failed.
    pub(crate) fn is_clean(&self) -> bool {
        self.failed == 0
    }

    pub(crate) fn print(&self, as_json: bool) {
        if as_json {
            return println!("{:#}", Value::from(self.objects.clone()));
        }
        let head = ["case", "must", "did", "MB before/peak/after", "bystander", "verdict"].map(String::from);
        table(std::iter::once(&head).chain(&self.rows), |column| {
            self.has_memory || column != 3
        });
        println!(
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        );
    }
}

/// The cases, for `--list`.
pub(crate) fn list(cases: &[Case], as_json: bool) {
    if as_json {
        let object =
            |case: &Case| json!({ "case": case.name, "does": case.does, "must": case.must, "source": case.source });
        return println!("{:#}", Value::from_iter(cases.iter().map(object)));
    }
    let head = ["case", "does", "must", "source"].map(String::from);
    let rows: Vec<_> = cases
        .iter()
        .map(|case| [case.name, case.does, case.must, case.source].map(String::from))
        .collect();
    table(std::iter::once(&head).chain(&rows), |_| true);
}

/// Prints a Markdown table.
fn table<'a, const N: usize>(rows: impl Iterator<Item = &'a [String; N]> + Clone, shows: impl Fn(usize) -> bool) {
    let width = |column: usize| rows.clone().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..N).map(width).collect();
    for (number, row) in rows.clone().enumerate() {
        let cells = |cell: &dyn Fn(usize) -> String| {
            (0..N)
                .filter(|column| shows(*column))
                .map(cell)
                .collect::<Vec<_>>()
                .join(" | ")
        };
        println!("| {} |", cells(&|column| format!("{:1$}", row[column], widths[column])));
        if number == 0 {
            println!("| {} |", cells(&|column| "-".repeat(widths[column])));
        }
    }
}

fn short(text: &str) -> String {
    let text = text.replace(['\n', '|'], " ");
    match text.char_indices().nth(CELL) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
