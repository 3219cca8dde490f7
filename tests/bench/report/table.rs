//! The tables of a run, as Markdown that also reads well in a terminal.

use std::fmt::Write;

use plugnode_tests::sequence::SequenceCounts;

use super::figures::FIGURES;
use super::{Report, Results};
use crate::rounds::Row;

/// All of them, and what the run ran on.
pub(super) fn report(report: &Report) -> String {
    let mut text = String::from("# Benchmark\n\n");
    let extent = report.extent;
    let _ = writeln!(
        text,
        "One run of `make bench`: servers in turn under the same load, medians of rounds of {} s each, {} of them (at most 3 \
         where one takes long).\n\n{}\nCPU is what a server used for one message, `load` what the clients themselves used, who \
         share the machine: read the ratios. An account is of all that should have come; it is clean when everything did, \
         once, and in order.\n",
        extent.time.as_secs_f64(),
        extent.rounds,
        report.machine.describe()
    );
    text += &figures(report);
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

fn figures(report: &Report) -> String {
    let rows = FIGURES.iter().map(|figure| {
        vec![
            figure.what.to_owned(),
            number(figure.aim),
            number(figure.at_least),
            figure.reached(report).map_or_else(|| "–".to_owned(), number),
            figure.verdict(report).name().to_owned(),
        ]
    });
    table(&["", "aim", "at least", "reached", ""], rows)
}

fn scenario(results: &Results) -> String {
    if let Some(failed) = &results.failed {
        return format!("**Failed**: {failed}\n");
    }
    // Columns in the order in which they first come up, as not every server has every part.
    let mut columns: Vec<(&str, &str)> = Vec::new();
    for measured in results.rows.iter().flat_map(|row| &row.measured) {
        if !columns.iter().any(|(name, _)| *name == measured.name) {
            columns.push((measured.name, measured.unit));
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

/// As `CPU, µs` or `messages/s`.
fn head(name: &str, unit: &str) -> String {
    match unit {
        "" => name.to_owned(),
        rate if rate.starts_with('/') => format!("{name}{rate}"),
        unit => format!("{name}, {unit}"),
    }
}

fn account(row: &Row) -> String {
    let Some(tally) = row.tally else {
        return String::new();
    };
    let SequenceCounts {
        expected,
        lost,
        doubled,
        out_of_order,
        strange,
        broken,
    } = tally;
    if row.is_clean() {
        return format!("{} clean", grouped(expected));
    }
    let wrong = [
        (lost, "lost"),
        (doubled, "doubled"),
        (out_of_order, "out of order"),
        (strange, "that nobody sent"),
        (broken, "connections ended"),
    ];
    let wrong = wrong.iter().filter(|(count, _)| *count > 0);
    let wrong: Vec<String> = wrong
        .map(|(count, what)| format!("{} {what}", grouped(*count)))
        .collect();
    format!("**of {}: {}**", grouped(expected), wrong.join(", "))
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
            // Names to the left, numbers to the right.
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

/// With three digits that mean something.
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

/// `12,345`
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
