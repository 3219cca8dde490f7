//! The charts of a report. A scenario that did not run has none.

use super::Report;
use super::chart::{Bar, Chart, Group};
use crate::rounds::Row;
use crate::scenarios::Scenario;
use crate::server::Part;

/// Names and SVG texts of the charts.
pub(super) fn draw(report: &Report) -> anyhow::Result<Vec<(&'static str, String)>> {
    let charts = [
        ("echo", echo(report)),
        ("latency", latency(report)),
        ("broadcast", broadcast(report)),
        ("idle", idle(report)),
        ("growth", growth(report)),
    ];
    let drawn = charts
        .into_iter()
        .filter(|(_, chart)| chart.groups.iter().any(|group| !group.bars.is_empty()));
    drawn.map(|(name, chart)| Ok((name, chart.to_svg()?))).collect()
}

/// CPU time of a message, by part of the server.
fn echo(report: &Report) -> Chart {
    Chart {
        title: "Echo: CPU time of a message".to_owned(),
        note: "µs of all server processes; 100 clients, 8 messages in flight each; less is better".to_owned(),
        parts: vec!["connections (io)", "handlers (app)", "Redis", "one process"],
        groups: grouped(report, Scenario::Echo, parts),
    }
}

fn latency(report: &Report) -> Chart {
    Chart {
        title: "Echo: latency".to_owned(),
        note: "median in ms with one message in flight; less is better".to_owned(),
        parts: vec!["p50"],
        groups: grouped(report, Scenario::Latency, |row| row.median("p50").into_iter().collect()),
    }
}

fn broadcast(report: &Report) -> Chart {
    Chart {
        title: "Broadcast to 500 clients".to_owned(),
        note: "deliveries per second, none lost or doubled; more is better".to_owned(),
        parts: vec!["deliveries"],
        groups: grouped(report, Scenario::Broadcast, |row| {
            row.median("deliveries").into_iter().collect()
        }),
    }
}

fn idle(report: &Report) -> Chart {
    Chart {
        title: "Memory of an idle connection".to_owned(),
        note: "growth of all server processes in KB per client, with 5,000 clients; less is better".to_owned(),
        parts: vec!["connections (io)", "handlers (app)", "Redis", "one process"],
        groups: vec![Group {
            heading: String::new(),
            bars: bars(report.rows(Scenario::Idle), |row| of_parts(row, "memory")),
        }],
    }
}

fn growth(report: &Report) -> Chart {
    let (clients, nodes): (Vec<&Row>, Vec<&Row>) = report
        .rows(Scenario::Growth)
        .iter()
        .partition(|row| row.key.ends_with("clients"));
    let group = |heading: &str, rows: Vec<&Row>| Group {
        heading: heading.to_owned(),
        bars: rows.into_iter().filter_map(|row| bar(row, parts(row))).collect(),
    };
    Chart {
        title: "Growth: CPU time of a message".to_owned(),
        note: "µs over Redis at 3,000 messages per second in all; constant is good".to_owned(),
        parts: vec!["connections (io)", "handlers (app)", "Redis"],
        groups: vec![
            group("with 1 io-node and 1 app-node", clients),
            group("with 1,000 clients", nodes),
        ],
    }
}

/// Groups the servers: in one process, over Redis, and over Redis with another load.
fn grouped(report: &Report, scenario: Scenario, values: fn(&Row) -> Vec<f64>) -> Vec<Group> {
    let group = |heading: &str, belongs: fn(&Row) -> bool| {
        let rows = report.rows(scenario).iter().filter(|row| belongs(row));
        Group {
            heading: heading.to_owned(),
            bars: bars(rows, values),
        }
    };
    let groups = [
        group("in one process", |row| !is_over_redis(row)),
        group("over Redis", |row| is_over_redis(row) && !row.server.contains(": ")),
        group("over Redis, each of 100 clients", |row| row.server.contains(": ")),
    ];
    groups.into_iter().filter(|group| !group.bars.is_empty()).collect()
}

fn is_over_redis(row: &Row) -> bool {
    row.metrics.iter().any(|metric| metric.name == Part::Redis.name())
}

fn bars<'a>(rows: impl IntoIterator<Item = &'a Row>, values: impl Fn(&Row) -> Vec<f64>) -> Vec<Bar> {
    rows.into_iter().filter_map(|row| bar(row, values(row))).collect()
}

fn bar(row: &Row, values: Vec<f64>) -> Option<Bar> {
    let is_measured = !values.is_empty() && values.iter().all(|value| value.is_finite());
    is_measured.then(|| Bar {
        // The rest of the name is in the heading.
        label: row.server.split(": ").next().unwrap_or_default().to_owned(),
        values,
        is_ours: row.key.starts_with("memory") || row.key.starts_with("redis"),
    })
}

/// CPU time by part.
fn parts(row: &Row) -> Vec<f64> {
    of_parts(row, "CPU")
}

/// Values by part, in the order of [`Part::ALL`]. A server without parts has a value for the last part only.
fn of_parts(row: &Row, total: &str) -> Vec<f64> {
    let part = |part: Part| row.median(part.name()).unwrap_or(0.0).max(0.0);
    if is_over_redis(row) {
        return Part::ALL.into_iter().map(part).collect();
    }
    row.median(total)
        .map_or_else(Vec::new, |total| vec![0.0, 0.0, 0.0, total])
}
