//! Checks by the records and by what watchers received that every client had one connection, first, and one disconnect, last.

use std::collections::HashSet;

use super::super::history::{ClientTrace, History, Watch};
use super::{Findings, ViolationKind};

/// Judges connections and disconnects.
pub(super) fn judge(history: &History, findings: &mut Findings<'_>) {
    for (client, trace) in (0..).zip(&history.traces) {
        by_record(client, trace, findings);
    }
    for watch in &history.watches {
        by_watch(history, watch, findings);
    }
}

fn by_record(client: u32, trace: &ClientTrace, findings: &mut Findings<'_>) {
    // A missing record or connection is reported by `effects`.
    let Some(record) = trace.record.as_ref().filter(|record| record.connections > 0) else {
        return;
    };
    let kind = ViolationKind::Disconnects;
    findings.add_times(kind, client, "its connection was handled again", record.connections - 1);
    findings.add_times(
        kind,
        client,
        "a message took effect before its connection",
        record.early,
    );
    findings.add_times(kind, client, "a message took effect after its disconnect", record.late);
    match record.disconnects {
        0 => drop(findings.add(kind, client, "its disconnect was never handled")),
        times => drop(findings.add_times(kind, client, "its disconnect was handled again", times - 1)),
    }
    let while_open = trace.open_record.as_ref().map_or(0, |record| record.disconnects);
    if trace.stayed() && while_open > 0 {
        findings.add(kind, client, "its disconnect was handled while it was connected");
    }
}

fn by_watch(history: &History, watch: &Watch, findings: &mut Findings<'_>) {
    let disconnects = |trace: &ClientTrace| trace.record.as_ref().map_or(0, |record| record.disconnects);
    let mut told = HashSet::new();
    for notice in &watch.notices {
        let Some(trace) = history.traces.get(notice.client as usize) else {
            continue;
        };
        if !told.insert(notice.client) && disconnects(trace) < 2 {
            let violation = findings.add(
                ViolationKind::Doubled,
                notice.client,
                "a watcher received its disconnect twice",
            );
            violation.event(notice.event);
        }
    }
    if !watch.stayed {
        return;
    }
    for (client, trace) in (0..).zip(&history.traces) {
        let due = trace.connected_at >= watch.welcomed_at && disconnects(trace) > 0;
        if due && !told.contains(&client) {
            findings.add(ViolationKind::Lost, client, "a watcher did not receive its disconnect");
        }
    }
}
