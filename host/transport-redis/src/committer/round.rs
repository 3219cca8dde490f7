//! A round: what goes together in one call that commits, cut by bytes and by count.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::part::Part;
use super::{Commit, Settled};
use crate::batch;
use crate::lease::Hold;
use crate::progress::Open;
use crate::wire::encode;
use plugnode_transport::{Result, TransportError};

/// How many outcomes go together at the most,
const OUTCOMES: usize = 512;
/// and how many bytes, unless one event alone has more. A call is answered within a moment then, also where many share a
/// slow link.
const BYTES: usize = 256 << 10;

#[derive(Default)]
pub(super) struct Round {
    pub(super) parts: Vec<Part>,
    /// How many outcomes it has, and events that are kept aside.
    pub(super) outcomes: usize,
    bytes: usize,
    waiting: Vec<Waiting>,
}

/// Somebody who waits for a part.
struct Waiting {
    place: usize,
    elsewhere: BTreeSet<u16>,
    done: oneshot::Sender<Result<()>>,
}

/// What somebody who waits is to be told.
pub(super) struct Notice {
    is_committed: bool,
    /// The other shards that are to have their writes before.
    pub(super) elsewhere: BTreeSet<u16>,
    done: oneshot::Sender<Result<()>>,
}

impl Notice {
    /// Tells it.
    pub(super) fn send(self) {
        // A partition that was given up meanwhile does not listen any more.
        let _ = self
            .done
            .send(self.is_committed.then_some(()).ok_or(TransportError::Fenced));
    }
}

impl Round {
    /// Adds a commit, and returns what of it is to go into the next round.
    pub(super) fn add(&mut self, mut commit: Commit) -> Option<Commit> {
        if commit.hold.over.lost.is_cancelled() {
            let _ = commit.done.send(Err(TransportError::Fenced));
            return None;
        }
        let place = self.place_of(&commit.hold);
        let is_all = self.take(place, &mut commit);
        self.parts[place].close();
        if !is_all {
            return Some(commit);
        }
        let Commit { elsewhere, done, .. } = commit;
        self.waiting.push(Waiting { place, elsewhere, done });
        None
    }

    /// Whom to tell what became of it.
    pub(super) fn notices(self) -> impl Iterator<Item = Notice> {
        let Self { parts, waiting, .. } = self;
        waiting.into_iter().map(move |waiting| Notice {
            is_committed: parts[waiting.place].is_committed(),
            elsewhere: waiting.elsewhere,
            done: waiting.done,
        })
    }

    fn place_of(&mut self, hold: &Arc<Hold>) -> usize {
        let place = self.parts.iter().position(|part| Arc::ptr_eq(&part.hold, hold));
        place.unwrap_or_else(|| {
            self.parts.push(Part::new(hold.clone()));
            self.parts.len() - 1
        })
    }

    /// Takes as much of a commit as there is room for, and says whether that was all.
    fn take(&mut self, place: usize, commit: &mut Commit) -> bool {
        while let Some(bytes) = commit.outcomes.front().map(Settled::weight) {
            if !self.has_room_for(bytes) {
                return false;
            }
            let outcome = commit.outcomes.pop_front().expect("it was just looked at");
            self.parts[place].add(outcome);
        }
        while let Some(keep) = commit.keep {
            let next = commit.hold.progress().next_to_keep(keep);
            let Some((number, event)) = next else { break };
            let (version, event) = match event {
                Open::Event(event) => (batch::VERSION, encode(&*event)),
                Open::Other(version, event) => (version, event),
                Open::Broken => break,
            };
            let event = batch::write_as(version, std::iter::once((commit.hold.partition, &event)));
            if !self.has_room_for(event.len()) {
                return false;
            }
            self.parts[place].keep(number, event);
        }
        true
    }

    /// Makes room for so many bytes, if there is as much.
    fn has_room_for(&mut self, bytes: usize) -> bool {
        let has_room = self.outcomes < OUTCOMES && self.bytes + bytes <= BYTES;
        if !has_room && self.outcomes > 0 {
            return false;
        }
        self.outcomes += 1;
        self.bytes += bytes;
        true
    }
}
