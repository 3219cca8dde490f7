//! The report as Markdown tables, which are also readable in a terminal.

use std::fmt::Write;

use plugnode_tests::sequence::SequenceCounts;

use super::goals::GOALS;
use super::{Report, Results};
use crate::rounds::Row;

/// The whole report.
pub(super) fn report(report: &Report) -> String {
    let mut text = String::from("# Benchmark\n\n");
    let size = report.size;
    let _ = writeln!(
        text,
        "One run of `make bench`: servers in turn under the same load; medians of {} rounds of {} s (at most 3 rounds where one \
         takes long).\n\n{}\nCPU is CPU time of the server per message; `load` is CPU time of the clients, which share the machine: \
         read the ratios. An account counts all expected messages; it is clean when each arrived once and in order.\n",
        size.rounds,
        size.time.as_secs_f64(),
        report.machine.describe()
    );
    text += &goals(report);
    for results in &report.results {
        let _ = write!(
            text,
            "\n## {}\n\n{}.\n\n",
            results.scenario.name(),
            results.scenario.load()
        );
        text += &scenario(results);
    }
    text
}

fn goals(report: &Report) -> String {
    let rows = GOALS.iter().map(|goal| {
        vec![
            goal.description.to_owned(),
            number(goal.aim),
            number(goal.at_least),
            goal.reached(report).map_or_else(|| "–".to_owned(), number),
            goal.verdict(report).name().to_owned(),
        ]
    });
    table(&["", "aim", "at least", "reached", ""], rows)
}

fn scenario(results: &Results) -> String {
    if let Some(failed) = &results.failed {
        return format!("**Failed**: {failed}\n");
    }
    // In order of first occurrence, because not every server has every part.
    let mut columns: Vec<(&str, &str)> = Vec::new();
    for metric in results.rows.iter().flat_map(|row| &row.metrics) {
        if !columns.iter().any(|(name, _)| *name == metric.name) {
            columns.push((metric.name, metric.unit));
        }
    }
    let heads: Vec<String> = std::iter::once(String::new())
        .chain(columns.iter().map(|(name, unit)| head(name, unit)))
        .chain(["account".to_owned()])
        .collect();
    let rows = results.rows.iter().map(|row| {
        let values = columns
            .iter()
            .map(|(name, _)| row.median(name).map_or_else(String::new, number));
        std::iter::once(row.server.clone())
            .chain(values)
            .chain([account(row)])
            .collect()
    });
    table(&heads.iter().map(String::as_str).collect::<Vec<_>>(), rows)
}

/// A heading like `CPU, µs` or `messages/s`.
fn head(name: &str, unit: &str) -> String {
    match unit {
        "" => name.to_owned(),
        rate if rate.starts_with('/') => format!("{name}{rate}"),
        unit => format!("{name}, {unit}"),
    }
}

fn account(row: &Row) -> String {
    let Some(counts) = row.counts else {
        return String::new();
    };
    let SequenceCounts {
        expected,
        lost,
        doubled,
        out_of_order,
        strange,
        broken,
    } = counts;
    if row.is_clean() {
        return format!("{} clean", grouped(expected));
    }
    let problems = [
        (lost, "lost"),
        (doubled, "doubled"),
        (out_of_order, "out of order"),
        (strange, "never sent"),
        (broken, "connections ended"),
    ];
    let problems = problems.iter().filter(|(count, _)| *count > 0);
    let problems: Vec<String> = problems
        .map(|(count, what)| format!("{} {what}", grouped(*count)))
        .collect();
    format!("**of {}: {}**", grouped(expected), problems.join(", "))
}

fn table(heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = std::iter::once(heads.iter().map(|head| (*head).to_owned()).collect())
        .chain(rows)
        .collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
            .max(3)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Names are left-aligned, numbers right-aligned.
            let cell = if column == 0 {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            };
            let _ = write!(text, "| {cell} ");
        }
        text += "|\n";
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let _ = write!(
                    text,
                    "|{}{}",
                    "-".repeat(width + 1),
                    if column == 0 { "-" } else { ":" }
                );
            }
            text += "|\n";
        }
    }
    text
}

/// A number with three significant digits.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "–".to_owned(),
        0.0 => "0".to_owned(),
        100.0.. => grouped(value.round() as u64),
        10.0.. => format!("{value:.1}"),
        0.1.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Groups digits: `12,345`.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
