//! Checks what each client received: every message due to it exactly once, in the order of the events and, within one event,
//! in the order of the handler's calls.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::super::history::{ClientTrace, Delivery, DeliveryKind, EventId, History};
use super::effects::Effects;
use super::{Findings, ViolationKind};

/// Judges the deliveries of every pair of sender and recipient.
pub(super) fn judge(history: &History, effects: &[Effects], evidence: &[Vec<bool>], findings: &mut Findings<'_>) {
    let mut channels: HashMap<&str, Vec<u32>> = HashMap::new();
    let mut senders_to: HashMap<u32, BTreeSet<u32>> = HashMap::new();
    for (client, trace) in (0..).zip(&history.traces) {
        channels.entry(&trace.channel).or_default().push(client);
        for peer in trace.sent.iter().filter_map(|sent| sent.peer) {
            senders_to.entry(peer).or_default().insert(client);
        }
    }
    let mut missing = Vec::new();
    for (client, trace) in (0..).zip(&history.traces) {
        // A recipient whose connection was never handled is reported by `effects`.
        if !effects[client as usize].known {
            continue;
        }
        let mut by_sender: BTreeMap<u32, Vec<Delivery>> = BTreeMap::new();
        for sender in &channels[trace.channel.as_str()] {
            by_sender.insert(*sender, Vec::new());
        }
        for sender in senders_to.get(&client).into_iter().flatten() {
            by_sender.entry(*sender).or_default();
        }
        for delivery in trace.deliveries.iter().filter(|delivery| !delivery.is_error()) {
            by_sender.entry(delivery.from).or_default().push(*delivery);
        }
        for (sender, received) in by_sender {
            if effects.get(sender as usize).is_some_and(|effects| effects.known) {
                let stream = Stream::new(history, sender, client, &effects[sender as usize]);
                stream.judge(&received, findings, &mut missing);
            }
        }
    }
    report_missing(history, evidence, missing, findings);
    for (client, trace) in (0..).zip(&history.traces) {
        if effects[client as usize].known && !findings.any(client) {
            counts_and_events(client, trace, &effects[client as usize], findings);
        }
    }
}

/// A delivery that a client should have received and did not.
struct Missing {
    sender: u32,
    recipient: u32,
    number: u32,
    kind: DeliveryKind,
}

/// The deliveries that one client should receive of another's messages, in order.
struct Stream<'a> {
    sender: u32,
    recipient: u32,
    from: &'a ClientTrace,
    to: &'a ClientTrace,
    expected: Vec<(u32, DeliveryKind)>,
}

impl<'a> Stream<'a> {
    fn new(history: &'a History, sender: u32, recipient: u32, effects: &Effects) -> Self {
        let (from, to) = (&history.traces[sender as usize], &history.traces[recipient as usize]);
        let (own, in_channel) = (sender == recipient, from.channel == to.channel);
        let mut expected = Vec::new();
        if own {
            expected.push((0, DeliveryKind::Welcome));
        }
        for (number, (sent, done)) in (1..).zip(from.sent.iter().zip(&effects.done)) {
            let parts = [
                (own, DeliveryKind::Direct),
                (sent.peer == Some(recipient), DeliveryKind::Peer),
                (in_channel, DeliveryKind::Broadcast),
                (own && sent.asks, DeliveryKind::Ack),
            ];
            let parts = parts.into_iter().filter(|(there, _)| *done && *there);
            expected.extend(parts.map(|(_, kind)| (number, kind)));
        }
        if in_channel && !own {
            expected.push((Delivery::LAST, DeliveryKind::Gone));
        }
        Self {
            sender,
            recipient,
            from,
            to,
            expected,
        }
    }

    fn judge(&self, received: &[Delivery], findings: &mut Findings<'_>, missing: &mut Vec<Missing>) {
        let places: HashMap<(u32, DeliveryKind), usize> = self.expected.iter().copied().zip(0..).collect();
        let mut seen = vec![false; self.expected.len()];
        let (mut first, mut next, mut gone) = (usize::MAX, 0, false);
        for delivery in received {
            let Some(place) = places.get(&(delivery.number, delivery.kind)).copied() else {
                self.found(
                    findings,
                    ViolationKind::Unexpected,
                    "a client received a message not addressed to it",
                    delivery,
                );
                continue;
            };
            if std::mem::replace(&mut seen[place], true) {
                // Repeated connections and disconnects are judged by the record.
                if delivery.kind != DeliveryKind::Welcome
                    && !(delivery.kind == DeliveryKind::Gone && self.has_repeated_disconnect())
                {
                    self.found(findings, ViolationKind::Doubled, twice(delivery.kind), delivery);
                }
                continue;
            }
            if gone {
                self.found(
                    findings,
                    ViolationKind::OutOfOrder,
                    "a message of the client arrived after its disconnect",
                    delivery,
                );
            } else if place < next {
                self.found(findings, ViolationKind::OutOfOrder, late(delivery.kind), delivery);
            }
            gone |= delivery.kind == DeliveryKind::Gone;
            first = first.min(place);
            next = next.max(place + 1);
        }
        for (place, (number, kind)) in self.expected.iter().enumerate() {
            // Only watchers are sure to receive disconnects.
            let until = (self.to.stayed() || place < next) && *kind != DeliveryKind::Gone;
            if !seen[place] && until && (place > first || self.was_due(*number)) {
                missing.push(Missing {
                    sender: self.sender,
                    recipient: self.recipient,
                    number: *number,
                    kind: *kind,
                });
            }
        }
    }

    fn has_repeated_disconnect(&self) -> bool {
        self.from.record.as_ref().is_some_and(|record| record.disconnects > 1)
    }

    /// Whether the recipient had certainly joined its channel when this message was sent.
    fn was_due(&self, number: u32) -> bool {
        if self.sender == self.recipient {
            return true;
        }
        let sent = &self.from.sent[number as usize - 1];
        self.to.welcomed_at.is_some_and(|welcomed| sent.at >= welcomed)
    }

    fn found(&self, findings: &mut Findings<'_>, kind: ViolationKind, what: &'static str, delivery: &Delivery) {
        let violation = findings.add(kind, self.sender, what);
        violation
            .number(delivery.number.into())
            .event(delivery.event)
            .other(&self.to.id);
    }
}

/// Reports missing deliveries: as a partial effect when nobody received anything of the event, else as lost.
fn report_missing(history: &History, evidence: &[Vec<bool>], missing: Vec<Missing>, findings: &mut Findings<'_>) {
    let mut reported = HashSet::new();
    let is_silent = |missing: &Missing| {
        let known = &evidence[missing.sender as usize];
        missing.number > 0 && !known[missing.number as usize - 1]
    };
    for missing in missing {
        let (kind, what) = match is_silent(&missing) {
            false => (ViolationKind::Lost, lost(missing.kind)),
            // Reported once, not for each recipient.
            true if reported.insert((missing.sender, missing.number)) => (
                ViolationKind::PartialEffects,
                "a message is in the key-value store, and no client received anything of it",
            ),
            true => continue,
        };
        let violation = findings.add(kind, missing.sender, what);
        violation
            .number(missing.number.into())
            .other(&history.traces[missing.recipient as usize].id);
    }
}

/// Checks that the answers to one sender agree: counts grow by one, event ids grow.
fn counts_and_events(client: u32, trace: &ClientTrace, effects: &Effects, findings: &mut Findings<'_>) {
    let mut ranks = Vec::with_capacity(effects.done.len());
    let mut rank = 0;
    for done in &effects.done {
        rank += u32::from(*done);
        ranks.push(rank);
    }
    let forgotten = trace.record.as_ref().is_some_and(|record| record.forgotten_to > 0);
    let mut last = EventId::default();
    let mut event_of: HashMap<u32, EventId> = HashMap::new();
    let own = trace
        .deliveries
        .iter()
        .filter(|delivery| delivery.from == client && delivery.number > 0);
    for delivery in own.filter(|delivery| !delivery.is_error()) {
        if !forgotten && ranks.get(delivery.number as usize - 1) != Some(&delivery.count) {
            let violation = findings.add(
                ViolationKind::PartialEffects,
                client,
                "the count in an answer disagrees with the key-value store",
            );
            violation.number(delivery.number.into()).event(delivery.event);
        }
        if *event_of.entry(delivery.number).or_insert(delivery.event) != delivery.event {
            let violation = findings.add(ViolationKind::Doubled, client, "one message was handled as two events");
            violation.number(delivery.number.into()).event(delivery.event);
        }
        if delivery.event < last {
            let violation = findings.add(ViolationKind::OutOfOrder, client, "a later event has a smaller id");
            violation.number(delivery.number.into()).event(delivery.event);
        }
        last = delivery.event;
    }
}

fn lost(kind: DeliveryKind) -> &'static str {
    match kind {
        DeliveryKind::Welcome => "its welcome never came",
        DeliveryKind::Direct => "a direct message never came",
        DeliveryKind::Peer => "a message to another client never came",
        DeliveryKind::Broadcast => "a member of the channel did not receive a broadcast",
        DeliveryKind::Ack | DeliveryKind::Refused | DeliveryKind::Failed => "an acknowledgement never came",
        DeliveryKind::Gone => "its channel did not receive its disconnect",
    }
}

fn twice(kind: DeliveryKind) -> &'static str {
    match kind {
        DeliveryKind::Welcome => "its welcome came twice",
        DeliveryKind::Direct => "a direct message came twice",
        DeliveryKind::Peer => "a message to another client came twice",
        DeliveryKind::Broadcast => "a broadcast came twice",
        DeliveryKind::Ack | DeliveryKind::Refused | DeliveryKind::Failed => "an acknowledgement came twice",
        DeliveryKind::Gone => "its channel received its disconnect twice",
    }
}

fn late(kind: DeliveryKind) -> &'static str {
    match kind {
        DeliveryKind::Welcome => "its welcome came after answers",
        DeliveryKind::Direct => "a direct message came after a later one",
        DeliveryKind::Peer => "a message to another client came after a later one",
        DeliveryKind::Broadcast => "a broadcast came after a later message",
        DeliveryKind::Ack | DeliveryKind::Refused | DeliveryKind::Failed => {
            "an acknowledgement came after a later message"
        }
        DeliveryKind::Gone => "its channel received its disconnect too late",
    }
}
