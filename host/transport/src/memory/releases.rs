//! Components and the board of releases, in memory.

use async_trait::async_trait;
use bytes::Bytes;

use super::Memory;
use crate::releases::{KEPT, Parts, check_size};
use crate::{Releases, Result};
use plugnode_release::{Board, Digest};

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
    use std::time::Duration;

    use super::super::release_store::BOARDS;
    use super::*;
    use crate::TransportSettings;
    use plugnode_release::{AppReleases, ComponentFile};

    #[tokio::test]
    async fn pruning_keeps_named_and_young_components() {
        let memory = Memory::new(TransportSettings::default());
        let named = memory.put_component(Bytes::from("named")).await.unwrap();
        let other = memory.put_component(Bytes::from("other")).await.unwrap();
        let target = ComponentFile {
            digest: named.clone(),
            file: "named.wasm".into(),
            bytes: 5,
        };
        let mut board = Board::default();
        board.apps.insert("/".into(), AppReleases::configured(target, 0, 10));
        assert!(memory.post_board(0, &board).await.unwrap());
        memory.prune_components().await.unwrap();
        assert!(memory.component(&other).await.unwrap().is_some());
        memory.state().releases.prune(Duration::ZERO);
        assert!(memory.component(&other).await.unwrap().is_none());
        assert!(memory.component(&named).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn shared_parts_are_stored_once() {
        let memory = Memory::new(TransportSettings::default());
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
        let target = ComponentFile {
            digest: digests[1].clone(),
            file: "two.wasm".into(),
            bytes: 5,
        };
        let mut board = Board::default();
        board.apps.insert("/".into(), AppReleases::configured(target, 0, 10));
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
    async fn prunes_components_that_no_board_names_any_more() {
        let memory = Memory::new(TransportSettings::default());
        let digests = [
            memory.put_component(Bytes::from("once")).await.unwrap(),
            memory.put_component(Bytes::from("twice")).await.unwrap(),
        ];
        let mut board = Board::default();
        for (namespace, digest) in ["/a", "/b"].into_iter().zip(&digests) {
            let target = ComponentFile {
                digest: digest.clone(),
                file: "app.wasm".into(),
                bytes: 5,
            };
            board
                .apps
                .insert(namespace.into(), AppReleases::configured(target, 0, 10));
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
        let memory = Memory::new(TransportSettings::default());
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
