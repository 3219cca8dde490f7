//! One connection first and one disconnect last, of every client, by its record and by what watchers were told.

use std::collections::HashSet;

use super::super::history::{History, Story, Watch};
use super::{Findings, Kind};

/// Judges connections and disconnects.
pub(super) fn judge(history: &History, findings: &mut Findings<'_>) {
    for (client, story) in (0..).zip(&history.stories) {
        by_record(client, story, findings);
    }
    for watch in &history.watches {
        by_watch(history, watch, findings);
    }
}

fn by_record(client: u32, story: &Story, findings: &mut Findings<'_>) {
    // That there is none, or no connection in it, has been said already.
    let Some(record) = story.record.as_ref().filter(|record| record.connections > 0) else {
        return;
    };
    let kind = Kind::Disconnects;
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
    let while_open = story.open_record.as_ref().map_or(0, |record| record.disconnects);
    if story.stayed() && while_open > 0 {
        findings.add(kind, client, "its disconnect was handled while it was connected");
    }
}

fn by_watch(history: &History, watch: &Watch, findings: &mut Findings<'_>) {
    let disconnects = |story: &Story| story.record.as_ref().map_or(0, |record| record.disconnects);
    let mut told = HashSet::new();
    for gone in &watch.gone {
        let Some(story) = history.stories.get(gone.who as usize) else {
            continue;
        };
        if !told.insert(gone.who) && disconnects(story) < 2 {
            let violation = findings.add(Kind::Doubled, gone.who, "a watcher was told twice that it went");
            violation.event(gone.event);
        }
    }
    if !watch.stayed {
        return;
    }
    for (client, story) in (0..).zip(&history.stories) {
        let due = story.connected_at >= watch.welcomed_at && disconnects(story) > 0;
        if due && !told.contains(&client) {
            findings.add(Kind::Lost, client, "a watcher was not told that it went");
        }
    }
}
