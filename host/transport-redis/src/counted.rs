//! Instruction counts: encoding and decoding. See `plugnode_testing::counted`.

use bytes::Bytes;

use crate::app_node::progress::{DecodedEvent, PartitionProgress};
use crate::{batch, wire};
use plugnode_message::{Command, Event, Partition};
use plugnode_testing::counted::{answer, broadcast, message};

#[test]
fn events_on_the_wire() {
    let events: Vec<Event> = (0..256).map(message).collect();
    assert_eq!(counted_events_on_the_wire(&events), events);
}

#[inline(never)]
fn counted_events_on_the_wire(events: &[Event]) -> Vec<Event> {
    let mut read = Vec::with_capacity(events.len());
    for event in events {
        read.push(wire::decode(&wire::encode(event)).expect("it was just written"));
    }
    read
}

#[test]
fn commands_on_the_wire() {
    let entries: Vec<Vec<Command>> = (0..16)
        .map(|entry| {
            let answers = (0..15).map(|number| answer(16 * entry + number));
            answers.chain([broadcast(entry)]).collect()
        })
        .collect();
    assert_eq!(counted_commands_on_the_wire(&entries), entries);
}

#[inline(never)]
fn counted_commands_on_the_wire(entries: &[Vec<Command>]) -> Vec<Vec<Command>> {
    let mut read = Vec::with_capacity(entries.len());
    for commands in entries {
        read.push(wire::decode(&wire::encode(commands)).expect("it was just written"));
    }
    read
}

#[test]
fn batches_of_events() {
    let events: Vec<(Partition, Bytes)> = (0..64)
        .map(|number| (Partition(number as u16 % 8), wire::encode(&message(number))))
        .collect();
    assert_eq!(counted_batches_of_events(&events), 32 * events.len());
}

#[inline(never)]
fn counted_batches_of_events(events: &[(Partition, Bytes)]) -> usize {
    let mut read = 0;
    for _ in 0..32 {
        let batch = batch::write(events.iter().map(|(partition, event)| (*partition, event)));
        read += batch::read(&batch).expect("it was just written").events.len();
    }
    read
}

#[test]
fn progress_of_a_partition() {
    let mut progress = PartitionProgress::default();
    assert_eq!(counted_progress_of_a_partition(&mut progress), "256 256 25600");
}

/// Commits each four events in reverse order, because clients do not wait for each other.
#[inline(never)]
fn counted_progress_of_a_partition(progress: &mut PartitionProgress) -> String {
    let mut written = String::new();
    for number in 1..=256 {
        assert!(progress.add(number, DecodedEvent::Broken, 100), "it is new");
    }
    for four in 0..64 {
        for number in (4 * four + 1..=4 * four + 4).rev() {
            assert_eq!(progress.commit(number), Some(false), "it is in hand");
            written = progress.to_string();
        }
    }
    written
}
