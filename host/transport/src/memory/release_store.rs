//! Components in parts, and the last boards.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::releases::Parts;
use plugnode_release::{Board, Digest};

/// Number of earlier boards that are kept, to recognise a repeated call.
pub(super) const BOARDS: usize = 50;

pub(super) struct ReleaseStore {
    components: HashMap<Digest, Component>,
    /// Parts of components, with the number of components that use them.
    pub(super) parts: HashMap<Digest, (Bytes, usize)>,
    /// Version of the last board; earlier boards have the versions before it.
    pub(super) version: u64,
    boards: VecDeque<Board>,
}

struct Component {
    parts: Vec<Digest>,
    /// When it was stored. None once a board has named it.
    put_at: Option<Instant>,
}

impl ReleaseStore {
    pub(super) fn new() -> Self {
        Self {
            components: HashMap::new(),
            parts: HashMap::new(),
            version: 0,
            boards: VecDeque::from([Board::default()]),
        }
    }

    pub(super) fn board(&self) -> (u64, Board) {
        let board = self.boards.back().expect("there is one from the start");
        (self.version, board.clone())
    }

    pub(super) fn post(&mut self, version: u64, board: &Board) -> bool {
        if version != self.version {
            return self.has_taken(version, board);
        }
        self.mark_named(board);
        self.version += 1;
        self.boards.push_back(board.clone());
        if self.boards.len() > BOARDS {
            self.boards.pop_front();
        }
        true
    }

    /// Whether this board was the one that replaced that version.
    fn has_taken(&self, version: u64, board: &Board) -> bool {
        let later = self.version.checked_sub(version).and_then(|n| usize::try_from(n).ok());
        let place = later.and_then(|later| self.boards.len().checked_sub(later));
        place.and_then(|place| self.boards.get(place)) == Some(board)
    }

    /// Marks components that this board is the first to name: from now on they are kept as long as a board names them.
    fn mark_named(&mut self, board: &Board) {
        let (_, before) = self.board();
        for digest in board.digests() {
            if let Some(component) = self.components.get_mut(digest)
                && before.digests().all(|named| named != digest)
            {
                component.put_at = None;
            }
        }
    }

    pub(super) fn put(&mut self, Parts { digest, parts }: Parts) {
        let put_at = Some(Instant::now());
        if let Some(component) = self.components.get_mut(&digest) {
            component.put_at = put_at;
            return;
        }
        for (part, bytes) in &parts {
            // Copied: a slice would keep the whole component in memory.
            let kept = self.parts.entry(part.clone());
            kept.or_insert_with(|| (Bytes::copy_from_slice(bytes), 0)).1 += 1;
        }
        let parts = parts.into_iter().map(|(part, _)| part).collect();
        self.components.insert(digest, Component { parts, put_at });
    }

    /// The parts of a component, in order.
    pub(super) fn parts(&self, digest: &Digest) -> Option<Vec<Bytes>> {
        let component = self.components.get(digest)?;
        let part = |digest| self.parts.get(digest).map(|(bytes, _)| bytes.clone());
        component.parts.iter().map(part).collect()
    }

    pub(super) fn prune(&mut self, kept: Duration) {
        let (_, board) = self.board();
        let is_over = |digest: &Digest, component: &mut Component| {
            component.put_at.is_none_or(|at| at.elapsed() >= kept) && board.digests().all(|named| named != digest)
        };
        let over: Vec<_> = self.components.extract_if(is_over).collect();
        for part in over.into_iter().flat_map(|(_, component)| component.parts) {
            if let Some((_, uses)) = self.parts.get_mut(&part) {
                *uses -= 1;
                if *uses == 0 {
                    self.parts.remove(&part);
                }
            }
        }
    }
}
