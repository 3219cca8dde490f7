//! Each fault in a history that is whole but for it, and what the judge says.

use super::super::history::{Ended, EventName, Gone, Heard, History, Numbers, Record, Sent, Story, Watch, What};
use super::{Kind, Verdict, judge};

const ADA: u32 = 0;
const BOB: u32 = 1;
const MESSAGES: u32 = 6;

/// Ada and Bob in one channel: Ada sends six messages, the third to Bob as well, the fourth without asking. Both stay to the end,
/// and a watcher hears them go.
fn history() -> History {
    let story = |id: &str| Story {
        id: id.into(),
        channel: "c".into(),
        connected_at: 10,
        welcomed_at: Some(20),
        ended_at: 1_000,
        open_record: Some(record(0, 0)),
        record: Some(record(0, 1)),
        ..Default::default()
    };
    let (mut ada, mut bob) = (story("ada"), story("bob"));
    ada.heard.push(heard(ADA, 0, What::Welcome));
    bob.heard.push(heard(BOB, 0, What::Welcome));
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
        ada.heard.push(heard(ADA, number, What::Direct));
        if peer.is_some() {
            bob.heard.push(heard(ADA, number, What::Peer));
        }
        ada.heard.push(heard(ADA, number, What::Broadcast));
        bob.heard.push(heard(ADA, number, What::Broadcast));
        if asks {
            ada.heard.push(heard(ADA, number, What::Ack));
        }
    }
    ada.open_record = Some(record(MESSAGES, 0));
    ada.record = Some(record(MESSAGES, 1));
    let gone = [ADA, BOB].map(|who| Gone {
        at: 1_100,
        who,
        reason: "client-disconnect".into(),
        event: event(99),
    });
    let watch = Watch {
        welcomed_at: 5,
        stayed: true,
        gone: gone.into(),
    };
    History {
        refuse_after: 10_000,
        stories: vec![ada, bob],
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

fn heard(from: u32, number: u32, what: What) -> Heard {
    Heard {
        from,
        number,
        count: number,
        what,
        event: event(u64::from(number)),
    }
}

fn event(sequence: u64) -> EventName {
    EventName { partition: 7, sequence }
}

impl History {
    fn ada(&mut self) -> &mut Story {
        &mut self.stories[ADA as usize]
    }

    fn bob(&mut self) -> &mut Story {
        &mut self.stories[BOB as usize]
    }

    fn ada_record(&mut self) -> &mut Record {
        self.ada().record.as_mut().expect("it was made with one")
    }

    /// Message `number` of Ada is in no record, as if it had never come.
    fn unwrite(&mut self, number: u64) {
        let ada = self.ada();
        for record in [&mut ada.open_record, &mut ada.record] {
            let record = record.as_mut().expect("it was made with one");
            match number == record.last {
                true => record.last -= 1,
                false => record.gaps.push((number, number)),
            }
            record.count -= 1;
            record.sum -= number;
        }
    }

    /// Nobody heard anything of message `number` of Ada.
    fn silence(&mut self, number: u32) {
        for story in &mut self.stories {
            story.heard.retain(|heard| heard.number != number);
        }
        // The counts that came after it are those of a world without it, where it was not written either.
        let story = self.ada();
        story.sent[number as usize - 1].acked_at = None;
    }

    fn drop_heard(&mut self, by: u32, number: u32, what: What) {
        let heard = &mut self.stories[by as usize].heard;
        let before = heard.len();
        heard.retain(|heard| (heard.number, heard.what) != (number, what));
        assert_eq!(heard.len() + 1, before);
    }

    fn place(&self, by: u32, number: u32, what: What) -> usize {
        let heard = &self.stories[by as usize].heard;
        let place = heard
            .iter()
            .position(|heard| (heard.number, heard.what) == (number, what));
        place.expect("it was made with it")
    }

    /// Counts after a message that took no effect are one lower.
    fn recount(&mut self, from: u32) {
        let heard = self.stories.iter_mut().flat_map(|story| &mut story.heard);
        heard
            .filter(|heard| heard.number > from && heard.what != What::Refused)
            .for_each(|heard| heard.count -= 1);
    }
}

/// That there are violations of this kind and no other.
#[track_caller]
fn only(kind: Kind, history: &History) -> Verdict {
    let verdict = judge(history);
    let kinds: Vec<Kind> = verdict.violations.iter().map(|violation| violation.kind).collect();
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
fn a_whole_history_is_clean() {
    let tally = clean(&history()).tally;
    assert_eq!(
        (tally.clients, tally.sent, tally.acked, tally.effects, tally.unknown),
        (2, 6, 5, 6, 0)
    );
}

#[test]
fn a_message_without_effect_is_lost() {
    let mut history = history();
    history.unwrite(3);
    history.silence(3);
    history.recount(3);
    let verdict = only(Kind::Lost, &history);
    assert_eq!(verdict.violations[0].numbers, [3]);
    assert_eq!(verdict.violations[0].what, "a message took no effect");
}

#[test]
fn the_last_message_of_one_who_stayed_may_not_be_lost_either() {
    let mut history = history();
    history.unwrite(6);
    history.silence(6);
    assert_eq!(only(Kind::Lost, &history).violations[0].numbers, [6]);
}

#[test]
fn what_is_in_flight_when_a_connection_is_lost_is_unknown() {
    let mut history = history();
    history.ada().ended = Ended::Lost("gone".into());
    history.ada_record().reason = Some("node-lost".into());
    history.unwrite(6);
    history.silence(6);
    assert_eq!(clean(&history).tally.unknown, 1);
    // It may have taken effect, too, when nobody was there to hear it.
    let mut history = self::history();
    history.ada().ended = Ended::Lost("gone".into());
    history.bob().ended = Ended::Lost("gone".into());
    history.silence(6);
    clean(&history);
}

#[test]
fn a_hole_before_what_took_effect_is_lost_even_of_one_who_went() {
    let mut history = history();
    history.ada().ended = Ended::Dropped;
    history.ada_record().reason = Some("transport-close".into());
    history.unwrite(2);
    history.silence(2);
    history.recount(2);
    assert_eq!(only(Kind::Lost, &history).violations[0].numbers, [2]);
}

#[test]
fn one_who_left_in_order_had_everything_accepted() {
    let mut history = history();
    history.ada().ended = Ended::Left;
    history.unwrite(6);
    history.silence(6);
    only(Kind::Lost, &history);
}

#[test]
fn whatever_had_to_be_heard_is_lost_without() {
    for (by, number, what) in [
        (ADA, 2, What::Ack),
        (ADA, 6, What::Ack),
        (ADA, 2, What::Direct),
        (ADA, 2, What::Broadcast),
        (BOB, 2, What::Broadcast),
        (BOB, 6, What::Broadcast),
        (BOB, 3, What::Peer),
        (ADA, 0, What::Welcome),
    ] {
        let mut history = history();
        history.drop_heard(by, number, what);
        let verdict = only(Kind::Lost, &history);
        assert_eq!(verdict.times(Kind::Lost), 1, "{by} {number} {what:?}");
        assert_eq!(verdict.violations[0].numbers, [u64::from(number)]);
    }
}

#[test]
fn what_was_sent_before_one_was_there_need_not_be_heard_and_no_hole_may_be_after() {
    let mut history = history();
    history.bob().welcomed_at = Some(103);
    history.drop_heard(BOB, 1, What::Broadcast);
    history.drop_heard(BOB, 2, What::Broadcast);
    clean(&history);
    history.bob().ended = Ended::Lost("gone".into());
    history.drop_heard(BOB, 6, What::Broadcast);
    clean(&history);
    history.drop_heard(BOB, 4, What::Broadcast);
    only(Kind::Lost, &history);
}

#[test]
fn whatever_is_heard_again_is_doubled() {
    for (by, number, what) in [
        (ADA, 2, What::Ack),
        (ADA, 2, What::Direct),
        (BOB, 6, What::Broadcast),
        (BOB, 3, What::Peer),
    ] {
        let mut history = history();
        let again = history.stories[by as usize].heard[history.place(by, number, what)];
        history.stories[by as usize].heard.push(again);
        let verdict = only(Kind::Doubled, &history);
        assert_eq!(verdict.violations[0].numbers, [u64::from(number)]);
        assert_eq!(verdict.violations[0].events, [again.event]);
    }
}

#[test]
fn an_effect_that_was_taken_again_is_doubled() {
    let mut history = history();
    history.ada_record().count += 1;
    history.ada_record().repeated = Numbers {
        count: 1,
        first: vec![4],
    };
    only(Kind::Doubled, &history);
    // Even when all of what it sent again was swallowed, two events give it away.
    let mut history = self::history();
    let place = history.place(ADA, 5, What::Ack);
    history.ada().heard[place].event.sequence += 100;
    let verdict = judge(&history);
    assert!(verdict.times(Kind::Doubled) > 0, "{:?}", verdict.violations);
}

#[test]
fn whatever_comes_after_a_later_one_is_out_of_order() {
    let mut history = history();
    let (a, b) = (
        history.place(BOB, 4, What::Broadcast),
        history.place(BOB, 5, What::Broadcast),
    );
    history.bob().heard.swap(a, b);
    only(Kind::OutOfOrder, &history);
    // A broadcast and a direct message of one event.
    let mut history = self::history();
    let (a, b) = (
        history.place(BOB, 3, What::Peer),
        history.place(BOB, 3, What::Broadcast),
    );
    history.bob().heard.swap(a, b);
    only(Kind::OutOfOrder, &history);
    let mut history = self::history();
    let (a, b) = (history.place(ADA, 3, What::Ack), history.place(ADA, 4, What::Direct));
    history.ada().heard.swap(a, b);
    only(Kind::OutOfOrder, &history);
}

#[test]
fn nothing_is_heard_of_one_who_went() {
    let gone = heard(ADA, Heard::LAST, What::Gone);
    let mut history = history();
    history.ada().ended = Ended::Left;
    history.bob().heard.push(gone);
    clean(&history);
    history.bob().heard.push(gone);
    only(Kind::Doubled, &history);
    history.bob().heard.pop();
    let last = history.place(BOB, 6, What::Broadcast);
    let gone = history.place(BOB, Heard::LAST, What::Gone);
    history.bob().heard.swap(last, gone);
    only(Kind::OutOfOrder, &history);
}

#[test]
fn effects_out_of_order_are_told_by_the_record() {
    let mut history = history();
    history.ada_record().reordered = Numbers {
        count: 1,
        first: vec![2],
    };
    assert_eq!(only(Kind::OutOfOrder, &history).violations[0].numbers, [2]);
}

#[test]
fn ids_of_events_grow() {
    let mut history = history();
    for heard in history.stories.iter_mut().flat_map(|story| &mut story.heard) {
        if heard.number == 5 {
            heard.event.sequence = 1;
        }
    }
    only(Kind::OutOfOrder, &history);
}

#[test]
fn disconnects_are_exactly_one() {
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
            only(Kind::Disconnects, &history).times(Kind::Disconnects),
            1,
            "change {number}"
        );
    }
    let mut history = history();
    history.ada().open_record.as_mut().expect("it has one").disconnects = 1;
    only(Kind::Disconnects, &history);
}

#[test]
fn a_connection_that_was_never_handled_is_told() {
    let mut history = history();
    history.ada_record().connections = 0;
    only(Kind::Disconnects, &history);
    let mut history = self::history();
    history.bob().record = None;
    history.bob().heard.clear();
    only(Kind::Disconnects, &history);
}

#[test]
fn one_whom_the_cluster_never_knew_is_no_fault() {
    let mut history = history();
    let sent = vec![Sent::default(); 3];
    history.stories.push(Story {
        id: "carl".into(),
        channel: "c".into(),
        ended: Ended::Lost("gone".into()),
        sent,
        ..Default::default()
    });
    assert_eq!(clean(&history).tally.unknown, 3);
}

#[test]
fn watchers_are_told_once() {
    let mut history = history();
    let again = history.watches[0].gone[0].clone();
    history.watches[0].gone.push(again);
    only(Kind::Doubled, &history);
    let mut history = self::history();
    history.watches[0].gone.remove(0);
    only(Kind::Lost, &history);
    history.watches[0].welcomed_at = 11;
    clean(&history);
    history.watches[0].welcomed_at = 5;
    history.watches[0].stayed = false;
    clean(&history);
}

#[test]
fn an_event_in_key_value_that_nobody_heard_is_half_done() {
    let mut history = history();
    history.silence(5);
    let verdict = only(Kind::HalfEffects, &history);
    assert_eq!(
        (verdict.times(Kind::HalfEffects), &verdict.violations[0].numbers[..]),
        (1, &[5][..])
    );
}

#[test]
fn an_event_that_was_heard_and_is_not_in_key_value_is_half_done() {
    let mut history = history();
    history.unwrite(5);
    assert_eq!(only(Kind::HalfEffects, &history).violations[0].numbers, [5]);
    let mut history = self::history();
    history.ada_record().sum -= 1;
    only(Kind::HalfEffects, &history);
    let mut history = self::history();
    let place = history.place(ADA, 5, What::Direct);
    history.ada().heard[place].count = 4;
    only(Kind::HalfEffects, &history);
    let mut history = self::history();
    history.ada().record = None;
    only(Kind::HalfEffects, &history);
}

#[test]
fn a_refused_message_has_no_effect() {
    let mut history = history();
    history.unwrite(5);
    history.silence(5);
    history.recount(5);
    let refusal = Heard {
        count: 0,
        event: EventName::default(),
        ..heard(ADA, 5, What::Refused)
    };
    history.ada().heard.push(refusal);
    assert_eq!(clean(&history).tally.refused, 1);
    // Only those that ask are refused.
    history.unwrite(4);
    history.silence(4);
    history.recount(4);
    assert_eq!(only(Kind::Lost, &history).violations[0].numbers, [4]);
    // Who has gone cannot hear that a message is refused.
    let mut history = self::history();
    history.ada().ended = Ended::Left;
    history.unwrite(5);
    history.silence(5);
    history.recount(5);
    only(Kind::Lost, &history);
    // It was told to be gone at 1,100 and had sent this at 105.
    history.refuse_after = 900;
    assert_eq!(clean(&history).tally.unknown, 1);
    let mut history = self::history();
    history.ada().heard.push(refusal);
    only(Kind::Unexpected, &history);
}

#[test]
fn what_was_for_others_is_unexpected() {
    let mut history = history();
    history.bob().heard.push(heard(ADA, 6, What::Direct));
    only(Kind::Unexpected, &history);
    let mut history = self::history();
    history.ada().garbled.push(3);
    only(Kind::Unexpected, &history);
    let mut history = self::history();
    let record = history.ada_record();
    (record.last, record.count, record.sum) = (7, 7, 28);
    only(Kind::Unexpected, &history);
}

#[test]
fn lost_and_doubled_increments_are_told() {
    let mut history = history();
    for number in [2, 3, 5] {
        history.ada().sent[number - 1].increments = vec![0, 1];
    }
    history.ada().sent[5].increments = vec![1];
    history.counters = vec![3, 4];
    assert_eq!(clean(&history).tally.increments, 7);
    history.counters = vec![1, 4];
    let verdict = only(Kind::Increments, &history);
    let violation = &verdict.violations[0];
    assert_eq!((violation.subject.as_str(), violation.times), ("counter 0", 2));
    history.counters = vec![3, 5];
    assert_eq!(only(Kind::Increments, &history).violations[0].subject, "counter 1");
}

#[test]
fn messages_without_effect_increment_nothing() {
    let mut history = history();
    history.ada().ended = Ended::Lost("gone".into());
    history.ada_record().reason = Some("transport-close".into());
    history.ada().sent[5].increments = vec![0];
    history.unwrite(6);
    history.silence(6);
    history.counters = vec![0];
    clean(&history);
    history.counters = vec![1];
    only(Kind::Increments, &history);
}

#[test]
fn stale_attributes_are_told() {
    let mut history = history();
    history.ada_record().stale = Numbers {
        count: 2,
        first: vec![3, 0],
    };
    let verdict = only(Kind::Attributes, &history);
    assert_eq!(verdict.times(Kind::Attributes), 2);
    assert_eq!(verdict.violations[0].numbers, [3, 0]);
}

#[test]
fn failed_messages_are_acknowledged_once_without_effect() {
    let mut history = history();
    history.ada().sent[4].fails = true;
    let took_effect = only(Kind::Unexpected, &history);
    assert_eq!(took_effect.violations[0].numbers, [5]);
    history.unwrite(5);
    history.silence(5);
    history.recount(5);
    assert_eq!(only(Kind::Lost, &history).violations[0].numbers, [5]);
    let failure = Heard {
        count: 0,
        ..heard(ADA, 5, What::Failed)
    };
    history.ada().heard.push(failure);
    clean(&history);
    history.ada().heard.push(failure);
    only(Kind::Doubled, &history);
    // One that was to succeed.
    history.ada().heard.pop();
    history.ada().sent[4].fails = false;
    only(Kind::Lost, &history);
}

#[test]
fn failures_need_not_be_heard_by_one_who_went() {
    let mut history = history();
    history.unwrite(6);
    history.silence(6);
    history.ada().sent[5].fails = true;
    history.ada().ended = Ended::Lost("gone".into());
    clean(&history);
    history.ada().ended = Ended::Stayed;
    only(Kind::Lost, &history);
}
