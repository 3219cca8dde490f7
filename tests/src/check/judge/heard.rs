//! What each client heard of each other's messages: all that it had to hear, once, and in the order of the events and,
//! within an event, of the handler's calls.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::super::history::{EventName, Heard, History, Story, What};
use super::effects::Effects;
use super::{Findings, Kind};

/// Judges what was heard, by whom.
pub(super) fn judge(history: &History, effects: &[Effects], evidence: &[Vec<bool>], findings: &mut Findings<'_>) {
    let mut channels: HashMap<&str, Vec<u32>> = HashMap::new();
    let mut senders_to: HashMap<u32, BTreeSet<u32>> = HashMap::new();
    for (client, story) in (0..).zip(&history.stories) {
        channels.entry(&story.channel).or_default().push(client);
        for peer in story.sent.iter().filter_map(|sent| sent.peer) {
            senders_to.entry(peer).or_default().insert(client);
        }
    }
    let mut missing = Vec::new();
    for (client, story) in (0..).zip(&history.stories) {
        // What comes to one whose connection was not handled is another matter, and said already.
        if !effects[client as usize].known {
            continue;
        }
        let mut by_sender: BTreeMap<u32, Vec<Heard>> = BTreeMap::new();
        for sender in &channels[story.channel.as_str()] {
            by_sender.insert(*sender, Vec::new());
        }
        for sender in senders_to.get(&client).into_iter().flatten() {
            by_sender.entry(*sender).or_default();
        }
        for heard in story.heard.iter().filter(|heard| !heard.is_error()) {
            by_sender.entry(heard.from).or_default().push(*heard);
        }
        for (sender, heard) in by_sender {
            if effects.get(sender as usize).is_some_and(|effects| effects.known) {
                let stream = Stream::new(history, sender, client, &effects[sender as usize]);
                stream.judge(&heard, findings, &mut missing);
            }
        }
    }
    report_missing(history, evidence, missing, findings);
    for (client, story) in (0..).zip(&history.stories) {
        if effects[client as usize].known && !findings.any(client) {
            counts_and_events(client, story, &effects[client as usize], findings);
        }
    }
}

/// Something that a client had to hear and did not.
struct Missing {
    sender: u32,
    recipient: u32,
    number: u32,
    what: What,
}

/// All that one client had to hear of another's messages, in order.
struct Stream<'a> {
    sender: u32,
    recipient: u32,
    from: &'a Story,
    to: &'a Story,
    expected: Vec<(u32, What)>,
}

impl<'a> Stream<'a> {
    fn new(history: &'a History, sender: u32, recipient: u32, effects: &Effects) -> Self {
        let (from, to) = (&history.stories[sender as usize], &history.stories[recipient as usize]);
        let (own, in_channel) = (sender == recipient, from.channel == to.channel);
        let mut expected = Vec::new();
        if own {
            expected.push((0, What::Welcome));
        }
        for (number, (sent, done)) in (1..).zip(from.sent.iter().zip(&effects.done)) {
            let parts = [
                (own, What::Direct),
                (sent.peer == Some(recipient), What::Peer),
                (in_channel, What::Broadcast),
                (own && sent.asks, What::Ack),
            ];
            let parts = parts.into_iter().filter(|(there, _)| *done && *there);
            expected.extend(parts.map(|(_, what)| (number, what)));
        }
        if in_channel && !own {
            expected.push((Heard::LAST, What::Gone));
        }
        Self {
            sender,
            recipient,
            from,
            to,
            expected,
        }
    }

    fn judge(&self, heard: &[Heard], findings: &mut Findings<'_>, missing: &mut Vec<Missing>) {
        let places: HashMap<(u32, What), usize> = self.expected.iter().copied().zip(0..).collect();
        let mut seen = vec![false; self.expected.len()];
        let (mut first, mut next, mut gone) = (usize::MAX, 0, false);
        for heard in heard {
            let Some(place) = places.get(&(heard.number, heard.what)).copied() else {
                self.found(
                    findings,
                    Kind::Unexpected,
                    "something was heard that was not for that client",
                    heard,
                );
                continue;
            };
            if std::mem::replace(&mut seen[place], true) {
                // Connections and disconnects that come again are judged by the record.
                if heard.what != What::Welcome && !(heard.what == What::Gone && self.goes_again()) {
                    self.found(findings, Kind::Doubled, twice(heard.what), heard);
                }
                continue;
            }
            if gone {
                self.found(findings, Kind::OutOfOrder, "something was heard after it went", heard);
            } else if place < next {
                self.found(findings, Kind::OutOfOrder, late(heard.what), heard);
            }
            gone |= heard.what == What::Gone;
            first = first.min(place);
            next = next.max(place + 1);
        }
        for (place, (number, what)) in self.expected.iter().enumerate() {
            // Who is told of disconnects without fail are the watchers.
            let until = (self.to.stayed() || place < next) && *what != What::Gone;
            if !seen[place] && until && (place > first || self.was_due(*number)) {
                missing.push(Missing {
                    sender: self.sender,
                    recipient: self.recipient,
                    number: *number,
                    what: *what,
                });
            }
        }
    }

    fn goes_again(&self) -> bool {
        self.from.record.as_ref().is_some_and(|record| record.disconnects > 1)
    }

    /// Whether the recipient was surely there when this was sent.
    fn was_due(&self, number: u32) -> bool {
        if self.sender == self.recipient {
            return true;
        }
        let sent = &self.from.sent[number as usize - 1];
        self.to.welcomed_at.is_some_and(|welcomed| sent.at >= welcomed)
    }

    fn found(&self, findings: &mut Findings<'_>, kind: Kind, what: &'static str, heard: &Heard) {
        let violation = findings.add(kind, self.sender, what);
        violation
            .number(heard.number.into())
            .event(heard.event)
            .other(&self.to.id);
    }
}

/// Tells an event of which nothing at all was heard from one of which a part is missing.
fn report_missing(history: &History, evidence: &[Vec<bool>], missing: Vec<Missing>, findings: &mut Findings<'_>) {
    let mut halves = HashSet::new();
    let unheard = |missing: &Missing| {
        let known = &evidence[missing.sender as usize];
        missing.number > 0 && !known[missing.number as usize - 1]
    };
    for missing in missing {
        let (kind, what) = match unheard(&missing) {
            false => (Kind::Lost, lost(missing.what)),
            // Said once, and not for each who should have heard.
            true if halves.insert((missing.sender, missing.number)) => (
                Kind::HalfEffects,
                "a message is in key-value, and nobody heard anything of it",
            ),
            true => continue,
        };
        let violation = findings.add(kind, missing.sender, what);
        violation
            .number(missing.number.into())
            .other(&history.stories[missing.recipient as usize].id);
    }
}

/// What the sender heard of its own messages has to agree with itself: counts go up by one, and so do ids of events.
fn counts_and_events(client: u32, story: &Story, effects: &Effects, findings: &mut Findings<'_>) {
    let mut ranks = Vec::with_capacity(effects.done.len());
    let mut rank = 0;
    for done in &effects.done {
        rank += u32::from(*done);
        ranks.push(rank);
    }
    let forgotten = story.record.as_ref().is_some_and(|record| record.forgotten_to > 0);
    let mut last = EventName::default();
    let mut event_of: HashMap<u32, EventName> = HashMap::new();
    let own = story
        .heard
        .iter()
        .filter(|heard| heard.from == client && heard.number > 0);
    for heard in own.filter(|heard| !heard.is_error()) {
        if !forgotten && ranks.get(heard.number as usize - 1) != Some(&heard.count) {
            let violation = findings.add(
                Kind::HalfEffects,
                client,
                "the count in an answer disagrees with key-value",
            );
            violation.number(heard.number.into()).event(heard.event);
        }
        if *event_of.entry(heard.number).or_insert(heard.event) != heard.event {
            let violation = findings.add(Kind::Doubled, client, "one message was handled as two events");
            violation.number(heard.number.into()).event(heard.event);
        }
        if heard.event < last {
            let violation = findings.add(Kind::OutOfOrder, client, "a later event has a smaller id");
            violation.number(heard.number.into()).event(heard.event);
        }
        last = heard.event;
    }
}

fn lost(what: What) -> &'static str {
    match what {
        What::Welcome => "its welcome never came",
        What::Direct => "a message to itself never came",
        What::Peer => "a message to another client never came",
        What::Broadcast => "a broadcast was not heard by one who was there",
        What::Ack | What::Refused | What::Failed => "an acknowledgement never came",
        What::Gone => "its channel was not told that it went",
    }
}

fn twice(what: What) -> &'static str {
    match what {
        What::Welcome => "its welcome came twice",
        What::Direct => "a message to itself came twice",
        What::Peer => "a message to another client came twice",
        What::Broadcast => "a broadcast was heard twice",
        What::Ack | What::Refused | What::Failed => "an acknowledgement came twice",
        What::Gone => "its channel was told twice that it went",
    }
}

fn late(what: What) -> &'static str {
    match what {
        What::Welcome => "its welcome came after answers",
        What::Direct => "a message to itself came after a later one",
        What::Peer => "a message to another client came after a later one",
        What::Broadcast => "a broadcast was heard after a later message",
        What::Ack | What::Refused | What::Failed => "an acknowledgement came after a later message",
        What::Gone => "its channel was told too late that it went",
    }
}
