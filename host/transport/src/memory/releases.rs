//! What the embedded transport knows of releases: components, the board, and what app-nodes have told.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;

use super::Memory;
use crate::releases::{KEPT, Parts, check_size};
use crate::{Releases, Result};
use plugnode_release::{Board, Digest};

/// How many boards are remembered, to know a call that is made again.
const BOARDS: usize = 50;

pub(super) struct ReleasesState {
    components: HashMap<Digest, Component>,
    /// What they are made of, with how often they name it.
    parts: HashMap<Digest, (Bytes, usize)>,
    /// The number of the board that is last here; the ones before it have those before.
    version: u64,
    boards: VecDeque<Board>,
}

struct Component {
    parts: Vec<Digest>,
    /// When it was put, until a board is the first to name it.
    put_at: Option<Instant>,
}

impl ReleasesState {
    pub(super) fn new() -> Self {
        Self {
            components: HashMap::new(),
            parts: HashMap::new(),
            version: 0,
            boards: VecDeque::from([Board::default()]),
        }
    }

    fn board(&self) -> (u64, Board) {
        let board = self.boards.back().expect("there is one from the start");
        (self.version, board.clone())
    }

    fn post(&mut self, version: u64, board: &Board) -> bool {
        if version != self.version {
            return self.has_taken(version, board);
        }
        self.await_no_more(board);
        self.version += 1;
        self.boards.push_back(board.clone());
        if self.boards.len() > BOARDS {
            self.boards.pop_front();
        }
        true
    }

    /// Whether it was this board that took the place of the one of that version.
    fn has_taken(&self, version: u64, board: &Board) -> bool {
        let later = self.version.checked_sub(version).and_then(|n| usize::try_from(n).ok());
        let place = later.and_then(|later| self.boards.len().checked_sub(later));
        place.and_then(|place| self.boards.get(place)) == Some(board)
    }

    /// What a board names that the one before did not has been put for it. From now on it stays as long as it is named.
    fn await_no_more(&mut self, board: &Board) {
        let (_, before) = self.board();
        for digest in board.digests() {
            if let Some(component) = self.components.get_mut(digest)
                && before.digests().all(|named| named != digest)
            {
                component.put_at = None;
            }
        }
    }

    fn put(&mut self, Parts { digest, parts }: Parts) {
        let put_at = Some(Instant::now());
        if let Some(component) = self.components.get_mut(&digest) {
            component.put_at = put_at;
            return;
        }
        for (part, bytes) in &parts {
            // A copy: a slice would keep all of the component that it is of.
            let kept = self.parts.entry(part.clone());
            kept.or_insert_with(|| (Bytes::copy_from_slice(bytes), 0)).1 += 1;
        }
        let parts = parts.into_iter().map(|(part, _)| part).collect();
        self.components.insert(digest, Component { parts, put_at });
    }

    /// The parts of a component, in their order.
    fn parts(&self, digest: &Digest) -> Option<Vec<Bytes>> {
        let component = self.components.get(digest)?;
        let part = |digest| self.parts.get(digest).map(|(bytes, _)| bytes.clone());
        component.parts.iter().map(part).collect()
    }

    fn prune(&mut self, kept: Duration) {
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

#[async_trait]
impl Releases for Memory {
    async fn put_component(&self, bytes: Bytes) -> Result<Digest> {
        check_size(bytes.len() as u64, self.settings.max_component)?;
        let parts = Parts::of(bytes).await;
        let digest = parts.digest.clone();
        self.state().releases.put(parts);
        Ok(digest)
    }

    async fn component(&self, digest: &Digest) -> Result<Option<Bytes>> {
        let parts = self.state().releases.parts(digest);
        Ok(parts.map(|parts| parts.concat().into()))
    }

    async fn prune_components(&self) -> Result<()> {
        self.state().releases.prune(KEPT);
        Ok(())
    }

    async fn board(&self) -> Result<(u64, Board)> {
        Ok(self.state().releases.board())
    }

    async fn board_after(&self, version: u64) -> Result<(u64, Board)> {
        let mut present = self.version.subscribe();
        drop(present.wait_for(|present| *present != version).await);
        self.board().await
    }

    async fn post_board(&self, version: u64, board: &Board) -> Result<bool> {
        let mut state = self.state();
        let posted = state.releases.post(version, board);
        self.version.send_replace(state.releases.version);
        Ok(posted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemorySettings;
    use plugnode_release::{Target, Track};

    #[tokio::test]
    async fn pruning_keeps_what_the_board_names_and_what_is_young() {
        let memory = Memory::new(MemorySettings::default());
        let named = memory.put_component(Bytes::from("named")).await.unwrap();
        let other = memory.put_component(Bytes::from("other")).await.unwrap();
        let target = Target {
            digest: named.clone(),
            file: "named.wasm".into(),
            bytes: 5,
        };
        let mut board = Board::default();
        board.apps.insert("/".into(), Track::first(target, 0, 10));
        assert!(memory.post_board(0, &board).await.unwrap());
        memory.prune_components().await.unwrap();
        assert!(memory.component(&other).await.unwrap().is_some());
        memory.state().releases.prune(Duration::ZERO);
        assert!(memory.component(&other).await.unwrap().is_none());
        assert!(memory.component(&named).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn parts_are_kept_once_and_go_with_the_last_that_names_them() {
        let memory = Memory::new(MemorySettings::default());
        let runtime = crate::releases_conformance::noise(2_000_000);
        let with = |script: &str| Bytes::from([&runtime[..], script.as_bytes()].concat());
        let kept = || {
            let state = memory.state();
            let parts = state.releases.parts.values().map(|(bytes, _)| bytes.len());
            parts.sum::<usize>()
        };
        let mut digests = Vec::new();
        for script in ["one", "two", "three"] {
            digests.push(memory.put_component(with(script)).await.unwrap());
            memory.put_component(with(script)).await.unwrap();
        }
        assert!(kept() < runtime.len() + 3 * 256 * 1024, "{}", kept());
        let target = Target {
            digest: digests[1].clone(),
            file: "two.wasm".into(),
            bytes: 5,
        };
        let mut board = Board::default();
        board.apps.insert("/".into(), Track::first(target, 0, 10));
        assert!(memory.post_board(0, &board).await.unwrap());
        memory.state().releases.prune(Duration::ZERO);
        assert_eq!(memory.component(&digests[0]).await.unwrap(), None);
        assert_eq!(memory.component(&digests[1]).await.unwrap(), Some(with("two")));
        assert_eq!(kept(), with("two").len());
        assert!(memory.post_board(1, &Board::default()).await.unwrap());
        memory.state().releases.prune(Duration::ZERO);
        assert_eq!(kept(), 0);
    }

    #[tokio::test]
    async fn what_the_board_names_no_more_is_pruned_at_once_unless_it_was_put_again() {
        let memory = Memory::new(MemorySettings::default());
        let digests = [
            memory.put_component(Bytes::from("once")).await.unwrap(),
            memory.put_component(Bytes::from("twice")).await.unwrap(),
        ];
        let mut board = Board::default();
        for (namespace, digest) in ["/a", "/b"].into_iter().zip(&digests) {
            let target = Target {
                digest: digest.clone(),
                file: "app.wasm".into(),
                bytes: 5,
            };
            board.apps.insert(namespace.into(), Track::first(target, 0, 10));
        }
        assert!(memory.post_board(0, &board).await.unwrap());
        memory.put_component(Bytes::from("twice")).await.unwrap();
        assert!(memory.post_board(1, &board).await.unwrap());
        assert!(memory.post_board(2, &Board::default()).await.unwrap());
        memory.prune_components().await.unwrap();
        assert!(memory.component(&digests[0]).await.unwrap().is_none());
        assert!(memory.component(&digests[1]).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn the_latest_boards_alone_are_remembered() {
        let memory = Memory::new(MemorySettings::default());
        for version in 0..2 * BOARDS as u64 {
            assert!(memory.post_board(version, &Board::default()).await.unwrap());
        }
        let last = 2 * BOARDS as u64 - 1;
        assert!(
            memory.post_board(last, &Board::default()).await.unwrap(),
            "it comes again"
        );
        assert!(!memory.post_board(0, &Board::default()).await.unwrap());
        assert!(!memory.post_board(last + 5, &Board::default()).await.unwrap());
    }
}
