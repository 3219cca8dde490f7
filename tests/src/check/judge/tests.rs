//! Each test puts one fault into an otherwise correct history and checks the verdict.

use super::super::history::{
    ClientTrace, Delivery, DeliveryKind, DisconnectNotice, Ended, EventId, History, Numbers, Publishes, Record, Sent,
    Watch,
};
use super::{Verdict, ViolationKind, judge};

const ADA: u32 = 0;
const BOB: u32 = 1;
const MESSAGES: u32 = 6;

/// Ada and Bob share a channel. Ada sends six messages: the third also to Bob, the fourth without asking for an acknowledgement. Both
/// stay to the end, and a watcher receives their disconnects.
fn history() -> History {
    let trace = |id: &str| ClientTrace {
        id: id.into(),
        channel: "c".into(),
        connected_at: 10,
        welcomed_at: Some(20),
        ended_at: 1_000,
        open_record: Some(record(0, 0)),
        record: Some(record(0, 1)),
        ..Default::default()
    };
    let (mut ada, mut bob) = (trace("ada"), trace("bob"));
    ada.deliveries.push(delivery(ADA, 0, DeliveryKind::Welcome));
    bob.deliveries.push(delivery(BOB, 0, DeliveryKind::Welcome));
    for number in 1..=MESSAGES {
        let (asks, peer) = (number != 4, (number == 3).then_some(BOB));
        let at = 100 + u64::from(number);
        ada.sent.push(Sent {
            at,
            acked_at: asks.then_some(at + 50),
            asks,
            peer,
            ..Default::default()
        });
        ada.deliveries.push(delivery(ADA, number, DeliveryKind::Direct));
        if peer.is_some() {
            bob.deliveries.push(delivery(ADA, number, DeliveryKind::Peer));
        }
        ada.deliveries.push(delivery(ADA, number, DeliveryKind::Broadcast));
        bob.deliveries.push(delivery(ADA, number, DeliveryKind::Broadcast));
        if asks {
            ada.deliveries.push(delivery(ADA, number, DeliveryKind::Ack));
        }
    }
    ada.open_record = Some(record(MESSAGES, 0));
    ada.record = Some(record(MESSAGES, 1));
    let notices = [ADA, BOB].map(|client| DisconnectNotice {
        at: 1_100,
        client,
        reason: "client-disconnect".into(),
        event: event(99),
    });
    let watch = Watch {
        welcomed_at: 5,
        stayed: true,
        notices: notices.into(),
        publishes: Vec::new(),
    };
    History {
        refuse_after: 10_000,
        traces: vec![ada, bob],
        watches: vec![watch],
        ..Default::default()
    }
}

fn record(messages: u32, disconnects: u32) -> Record {
    let messages = u64::from(messages);
    Record {
        connections: 1,
        disconnects,
        reason: (disconnects > 0).then(|| "client-disconnect".into()),
        count: messages,
        sum: messages * (messages + 1) / 2,
        last: messages,
        ..Default::default()
    }
}

fn delivery(from: u32, number: u32, kind: DeliveryKind) -> Delivery {
    Delivery {
        from,
        number,
        count: number,
        kind,
        event: event(u64::from(number)),
    }
}

fn event(sequence: u64) -> EventId {
    EventId { partition: 7, sequence }
}

impl History {
    fn ada(&mut self) -> &mut ClientTrace {
        &mut self.traces[ADA as usize]
    }

    fn bob(&mut self) -> &mut ClientTrace {
        &mut self.traces[BOB as usize]
    }

    fn ada_record(&mut self) -> &mut Record {
        self.ada().record.as_mut().expect("the fixture has one")
    }

    /// Removes message `number` of Ada from the records.
    fn unwrite(&mut self, number: u64) {
        let ada = self.ada();
        for record in [&mut ada.open_record, &mut ada.record] {
            let record = record.as_mut().expect("the fixture has one");
            match number == record.last {
                true => record.last -= 1,
                false => record.gaps.push((number, number)),
            }
            record.count -= 1;
            record.sum -= number;
        }
    }

    /// Removes all deliveries of message `number` of Ada.
    fn silence(&mut self, number: u32) {
        for trace in &mut self.traces {
            trace.deliveries.retain(|delivery| delivery.number != number);
        }
        let trace = self.ada();
        trace.sent[number as usize - 1].acked_at = None;
    }

    fn drop_delivery(&mut self, by: u32, number: u32, kind: DeliveryKind) {
        let deliveries = &mut self.traces[by as usize].deliveries;
        let before = deliveries.len();
        deliveries.retain(|delivery| (delivery.number, delivery.kind) != (number, kind));
        assert_eq!(deliveries.len() + 1, before);
    }

    fn position(&self, by: u32, number: u32, kind: DeliveryKind) -> usize {
        let mut deliveries = self.traces[by as usize].deliveries.iter();
        let position = deliveries.position(|delivery| (delivery.number, delivery.kind) == (number, kind));
        position.expect("the fixture has it")
    }

    /// Lowers the counts of later answers by one, as after a message without effect.
    fn recount(&mut self, from: u32) {
        let deliveries = self.traces.iter_mut().flat_map(|trace| &mut trace.deliveries);
        deliveries
            .filter(|delivery| delivery.number > from && delivery.kind != DeliveryKind::Refused)
            .for_each(|delivery| delivery.count -= 1);
    }
}

/// Asserts that there are violations of this kind and no other.
#[track_caller]
fn only(kind: ViolationKind, history: &History) -> Verdict {
    let verdict = judge(history);
    let kinds: Vec<ViolationKind> = verdict.violations.iter().map(|violation| violation.kind).collect();
    assert!(
        !kinds.is_empty() && kinds.iter().all(|found| *found == kind),
        "{:#?}",
        verdict.violations
    );
    verdict
}

#[track_caller]
fn clean(history: &History) -> Verdict {
    let verdict = judge(history);
    assert!(verdict.violations.is_empty(), "{:#?}", verdict.violations);
    verdict
}

#[test]
fn correct_history_is_clean() {
    let counts = clean(&history()).counts;
    assert_eq!(
        (
            counts.clients,
            counts.sent,
            counts.acked,
            counts.effects,
            counts.unknown
        ),
        (2, 6, 5, 6, 0)
    );
}

#[test]
fn message_without_effect_is_lost() {
    let mut history = history();
    history.unwrite(3);
    history.silence(3);
    history.recount(3);
    let verdict = only(ViolationKind::Lost, &history);
    assert_eq!(verdict.violations[0].numbers, [3]);
    assert_eq!(verdict.violations[0].what, "a message took no effect");
}

#[test]
fn last_message_of_remaining_client_must_take_effect() {
    let mut history = history();
    history.unwrite(6);
    history.silence(6);
    assert_eq!(only(ViolationKind::Lost, &history).violations[0].numbers, [6]);
}

#[test]
fn message_in_flight_at_lost_connection_is_unknown() {
    let mut history = history();
    history.ada().ended = Ended::Lost("gone".into());
    history.ada_record().reason = Some("node-lost".into());
    history.unwrite(6);
    history.silence(6);
    assert_eq!(clean(&history).counts.unknown, 1);
    // It may also have taken effect when no client was left to receive it.
    let mut history = self::history();
    history.ada().ended = Ended::Lost("gone".into());
    history.bob().ended = Ended::Lost("gone".into());
    history.silence(6);
    clean(&history);
}

#[test]
fn gap_before_an_effect_is_lost_even_after_disconnect() {
    let mut history = history();
    history.ada().ended = Ended::Dropped;
    history.ada_record().reason = Some("transport-close".into());
    history.unwrite(2);
    history.silence(2);
    history.recount(2);
    assert_eq!(only(ViolationKind::Lost, &history).violations[0].numbers, [2]);
}

#[test]
fn client_that_left_cleanly_loses_nothing() {
    let mut history = history();
    history.ada().ended = Ended::Left;
    history.unwrite(6);
    history.silence(6);
    only(ViolationKind::Lost, &history);
}

#[test]
fn missing_delivery_is_lost() {
    for (by, number, kind) in [
        (ADA, 2, DeliveryKind::Ack),
        (ADA, 6, DeliveryKind::Ack),
        (ADA, 2, DeliveryKind::Direct),
        (ADA, 2, DeliveryKind::Broadcast),
        (BOB, 2, DeliveryKind::Broadcast),
        (BOB, 6, DeliveryKind::Broadcast),
        (BOB, 3, DeliveryKind::Peer),
        (ADA, 0, DeliveryKind::Welcome),
    ] {
        let mut history = history();
        history.drop_delivery(by, number, kind);
        let verdict = only(ViolationKind::Lost, &history);
        assert_eq!(verdict.times(ViolationKind::Lost), 1, "{by} {number} {kind:?}");
        assert_eq!(verdict.violations[0].numbers, [u64::from(number)]);
    }
}

#[test]
fn late_joiner_misses_earlier_messages_without_gap() {
    let mut history = history();
    history.bob().welcomed_at = Some(103);
    history.drop_delivery(BOB, 1, DeliveryKind::Broadcast);
    history.drop_delivery(BOB, 2, DeliveryKind::Broadcast);
    clean(&history);
    history.bob().ended = Ended::Lost("gone".into());
    history.drop_delivery(BOB, 6, DeliveryKind::Broadcast);
    clean(&history);
    history.drop_delivery(BOB, 4, DeliveryKind::Broadcast);
    only(ViolationKind::Lost, &history);
}

#[test]
fn repeated_delivery_is_doubled() {
    for (by, number, kind) in [
        (ADA, 2, DeliveryKind::Ack),
        (ADA, 2, DeliveryKind::Direct),
        (BOB, 6, DeliveryKind::Broadcast),
        (BOB, 3, DeliveryKind::Peer),
    ] {
        let mut history = history();
        let again = history.traces[by as usize].deliveries[history.position(by, number, kind)];
        history.traces[by as usize].deliveries.push(again);
        let verdict = only(ViolationKind::Doubled, &history);
        assert_eq!(verdict.violations[0].numbers, [u64::from(number)]);
        assert_eq!(verdict.violations[0].events, [again.event]);
    }
}

#[test]
fn repeated_effect_is_doubled() {
    let mut history = history();
    history.ada_record().count += 1;
    history.ada_record().repeated = Numbers {
        count: 1,
        first: vec![4],
    };
    only(ViolationKind::Doubled, &history);
    // Detected by the second event id even without a second delivery.
    let mut history = self::history();
    let place = history.position(ADA, 5, DeliveryKind::Ack);
    history.ada().deliveries[place].event.sequence += 100;
    let verdict = judge(&history);
    assert!(verdict.times(ViolationKind::Doubled) > 0, "{:?}", verdict.violations);
}

#[test]
fn delivery_after_a_later_one_is_out_of_order() {
    let mut history = history();
    let (a, b) = (
        history.position(BOB, 4, DeliveryKind::Broadcast),
        history.position(BOB, 5, DeliveryKind::Broadcast),
    );
    history.bob().deliveries.swap(a, b);
    only(ViolationKind::OutOfOrder, &history);
    // A broadcast and a direct message of one event.
    let mut history = self::history();
    let (a, b) = (
        history.position(BOB, 3, DeliveryKind::Peer),
        history.position(BOB, 3, DeliveryKind::Broadcast),
    );
    history.bob().deliveries.swap(a, b);
    only(ViolationKind::OutOfOrder, &history);
    let mut history = self::history();
    let (a, b) = (
        history.position(ADA, 3, DeliveryKind::Ack),
        history.position(ADA, 4, DeliveryKind::Direct),
    );
    history.ada().deliveries.swap(a, b);
    only(ViolationKind::OutOfOrder, &history);
}

#[test]
fn delivery_after_senders_disconnect_is_out_of_order() {
    let gone = delivery(ADA, Delivery::LAST, DeliveryKind::Gone);
    let mut history = history();
    history.ada().ended = Ended::Left;
    history.bob().deliveries.push(gone);
    clean(&history);
    history.bob().deliveries.push(gone);
    only(ViolationKind::Doubled, &history);
    history.bob().deliveries.pop();
    let last = history.position(BOB, 6, DeliveryKind::Broadcast);
    let gone = history.position(BOB, Delivery::LAST, DeliveryKind::Gone);
    history.bob().deliveries.swap(last, gone);
    only(ViolationKind::OutOfOrder, &history);
}

#[test]
fn record_shows_effects_out_of_order() {
    let mut history = history();
    history.ada_record().reordered = Numbers {
        count: 1,
        first: vec![2],
    };
    assert_eq!(only(ViolationKind::OutOfOrder, &history).violations[0].numbers, [2]);
}

#[test]
fn falling_event_ids_are_out_of_order() {
    let mut history = history();
    for delivery in history.traces.iter_mut().flat_map(|trace| &mut trace.deliveries) {
        if delivery.number == 5 {
            delivery.event.sequence = 1;
        }
    }
    only(ViolationKind::OutOfOrder, &history);
}

#[test]
fn client_has_one_connection_and_one_disconnect() {
    let changes: [fn(&mut Record); 5] = [
        |record| record.disconnects = 0,
        |record| record.disconnects = 2,
        |record| record.connections = 2,
        |record| record.late = 1,
        |record| record.early = 1,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut history = history();
        change(history.ada_record());
        assert_eq!(
            only(ViolationKind::Disconnects, &history).times(ViolationKind::Disconnects),
            1,
            "change {number}"
        );
    }
    let mut history = history();
    history.ada().open_record.as_mut().expect("it has one").disconnects = 1;
    only(ViolationKind::Disconnects, &history);
}

#[test]
fn unhandled_connection_is_reported() {
    let mut history = history();
    history.ada_record().connections = 0;
    only(ViolationKind::Disconnects, &history);
    let mut history = self::history();
    history.bob().record = None;
    history.bob().deliveries.clear();
    only(ViolationKind::Disconnects, &history);
}

#[test]
fn client_unknown_to_cluster_is_accepted() {
    let mut history = history();
    let sent = vec![Sent::default(); 3];
    history.traces.push(ClientTrace {
        id: "carl".into(),
        channel: "c".into(),
        ended: Ended::Lost("gone".into()),
        sent,
        ..Default::default()
    });
    assert_eq!(clean(&history).counts.unknown, 3);
}

#[test]
fn watcher_receives_each_disconnect_once() {
    let mut history = history();
    let again = history.watches[0].notices[0].clone();
    history.watches[0].notices.push(again);
    only(ViolationKind::Doubled, &history);
    let mut history = self::history();
    history.watches[0].notices.remove(0);
    only(ViolationKind::Lost, &history);
    history.watches[0].welcomed_at = 11;
    clean(&history);
    history.watches[0].welcomed_at = 5;
    history.watches[0].stayed = false;
    clean(&history);
}

#[test]
fn stored_event_without_delivery_is_partial() {
    let mut history = history();
    history.silence(5);
    let verdict = only(ViolationKind::PartialEffects, &history);
    assert_eq!(
        (
            verdict.times(ViolationKind::PartialEffects),
            &verdict.violations[0].numbers[..]
        ),
        (1, &[5][..])
    );
}

#[test]
fn delivered_event_missing_in_store_is_partial() {
    let mut history = history();
    history.unwrite(5);
    assert_eq!(only(ViolationKind::PartialEffects, &history).violations[0].numbers, [5]);
    let mut history = self::history();
    history.ada_record().sum -= 1;
    only(ViolationKind::PartialEffects, &history);
    let mut history = self::history();
    let place = history.position(ADA, 5, DeliveryKind::Direct);
    history.ada().deliveries[place].count = 4;
    only(ViolationKind::PartialEffects, &history);
    let mut history = self::history();
    history.ada().record = None;
    only(ViolationKind::PartialEffects, &history);
}

#[test]
fn refused_message_has_no_effect() {
    let mut history = history();
    history.unwrite(5);
    history.silence(5);
    history.recount(5);
    let refusal = Delivery {
        count: 0,
        event: EventId::default(),
        ..delivery(ADA, 5, DeliveryKind::Refused)
    };
    history.ada().deliveries.push(refusal);
    assert_eq!(clean(&history).counts.refused, 1);
    // Only messages that ask for an acknowledgement are refused.
    history.unwrite(4);
    history.silence(4);
    history.recount(4);
    assert_eq!(only(ViolationKind::Lost, &history).violations[0].numbers, [4]);
    // A client that has disconnected does not receive the refusal.
    let mut history = self::history();
    history.ada().ended = Ended::Left;
    history.unwrite(5);
    history.silence(5);
    history.recount(5);
    only(ViolationKind::Lost, &history);
    // The message was sent at 105, the disconnect arrived at 1,100.
    history.refuse_after = 900;
    assert_eq!(clean(&history).counts.unknown, 1);
    let mut history = self::history();
    history.ada().deliveries.push(refusal);
    only(ViolationKind::Unexpected, &history);
}

#[test]
fn misdirected_or_changed_delivery_is_unexpected() {
    let mut history = history();
    history.bob().deliveries.push(delivery(ADA, 6, DeliveryKind::Direct));
    only(ViolationKind::Unexpected, &history);
    let mut history = self::history();
    history.ada().corrupted.push(3);
    only(ViolationKind::Unexpected, &history);
    let mut history = self::history();
    let record = history.ada_record();
    (record.last, record.count, record.sum) = (7, 7, 28);
    only(ViolationKind::Unexpected, &history);
}

#[test]
fn lost_and_doubled_increments_are_reported() {
    let mut history = history();
    for number in [2, 3, 5] {
        history.ada().sent[number - 1].increments = vec![0, 1];
    }
    history.ada().sent[5].increments = vec![1];
    history.counters = vec![3, 4];
    assert_eq!(clean(&history).counts.increments, 7);
    history.counters = vec![1, 4];
    let verdict = only(ViolationKind::Increments, &history);
    let violation = &verdict.violations[0];
    assert_eq!((violation.subject.as_str(), violation.times), ("counter 0", 2));
    history.counters = vec![3, 5];
    assert_eq!(
        only(ViolationKind::Increments, &history).violations[0].subject,
        "counter 1"
    );
}

#[test]
fn message_without_effect_increments_nothing() {
    let mut history = history();
    history.ada().ended = Ended::Lost("gone".into());
    history.ada_record().reason = Some("transport-close".into());
    history.ada().sent[5].increments = vec![0];
    history.unwrite(6);
    history.silence(6);
    history.counters = vec![0];
    clean(&history);
    history.counters = vec![1];
    only(ViolationKind::Increments, &history);
}

#[test]
fn stale_attributes_are_reported() {
    let mut history = history();
    history.ada_record().stale = Numbers {
        count: 2,
        first: vec![3, 0],
    };
    let verdict = only(ViolationKind::Attributes, &history);
    assert_eq!(verdict.times(ViolationKind::Attributes), 2);
    assert_eq!(verdict.violations[0].numbers, [3, 0]);
}

#[test]
fn failed_message_is_acknowledged_once_without_effect() {
    let mut history = history();
    history.ada().sent[4].fails = true;
    let took_effect = only(ViolationKind::Unexpected, &history);
    assert_eq!(took_effect.violations[0].numbers, [5]);
    history.unwrite(5);
    history.silence(5);
    history.recount(5);
    assert_eq!(only(ViolationKind::Lost, &history).violations[0].numbers, [5]);
    let failure = Delivery {
        count: 0,
        ..delivery(ADA, 5, DeliveryKind::Failed)
    };
    history.ada().deliveries.push(failure);
    clean(&history);
    history.ada().deliveries.push(failure);
    only(ViolationKind::Doubled, &history);
    // A message that was not asked to fail.
    history.ada().deliveries.pop();
    history.ada().sent[4].fails = false;
    only(ViolationKind::Lost, &history);
}

#[test]
fn disconnected_client_need_not_receive_failures() {
    let mut history = history();
    history.unwrite(6);
    history.silence(6);
    history.ada().sent[5].fails = true;
    history.ada().ended = Ended::Lost("gone".into());
    clean(&history);
    history.ada().ended = Ended::Stayed;
    only(ViolationKind::Lost, &history);
}

#[test]
fn publishes_arrive_once_and_in_order() {
    let judged = |heard: &[u64], stayed: bool| {
        let mut history = history();
        // The watcher joined at 5.
        history.publishes = vec![Publishes {
            sent: vec![1, 6, 7, 8, 9],
            accepted: 4,
            ..Publishes::default()
        }];
        history.watches[0].stayed = stayed;
        history.watches[0].publishes = heard.iter().map(|number| (0, *number)).collect();
        let verdict = judge(&history);
        let of_publisher = verdict
            .violations
            .into_iter()
            .filter(|found| found.subject == "publisher 0");
        of_publisher
            .map(|found| (found.kind, found.numbers))
            .collect::<Vec<_>>()
    };
    for heard in [&[2, 3, 4][..], &[1, 2, 3, 4, 5]] {
        assert_eq!(judged(heard, true), []);
    }
    assert_eq!(judged(&[2, 3], true), [(ViolationKind::Lost, vec![4])]);
    assert_eq!(judged(&[2, 3], false), []);
    assert_eq!(judged(&[2, 4], false), [(ViolationKind::Lost, vec![3])]);
    assert_eq!(judged(&[2, 3, 3, 4], true), [(ViolationKind::Doubled, vec![3])]);
    assert_eq!(judged(&[2, 4, 3], true), [(ViolationKind::OutOfOrder, vec![3])]);
    assert_eq!(judged(&[2, 3, 4, 6], true), [(ViolationKind::Unexpected, vec![6])]);
}
