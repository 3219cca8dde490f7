//! The board of releases, in shard 0. Components are in `components`.
//!
//! The board is JSON: readable with any Redis client, and unknown fields of a newer version are ignored.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::sleep;

use crate::arguments::bytes_of;
use crate::error::unusable;
use crate::redis::Redis;
use crate::{components, scripts};
use plugnode_release::{Board, Digest};
use plugnode_transport::{Releases, Result};

/// Poll interval for a change of the board.
const BOARD_POLL: Duration = Duration::from_millis(100);

#[async_trait]
impl Releases for Redis {
    async fn put_component(&self, bytes: Bytes) -> Result<Digest> {
        components::put(self, bytes).await
    }

    async fn component(&self, digest: &Digest) -> Result<Option<Bytes>> {
        components::get(self, digest).await
    }

    async fn prune_components(&self) -> Result<()> {
        let (_, board) = self.board().await?;
        components::prune(self, &board).await;
        Ok(())
    }

    async fn board(&self) -> Result<(u64, Board)> {
        let key = self.layout.shard(0).key("board");
        let mut command = redis::cmd("HMGET");
        command.arg(&key[..]).arg("version").arg("content");
        let (version, content): (Option<String>, Option<Bytes>) = self.link.ask(&command).await;
        let Some(version) = version else {
            return Ok((0, Board::default()));
        };
        let content = content.unwrap_or_default();
        let read = version.parse().map_err(|_| format!("`{version}` is not a version"));
        let read = read.and_then(|version| Ok((version, Board::read(&content)?)));
        read.map_err(|problem: String| {
            let key = String::from_utf8_lossy(&key);
            unusable(format!(
                "the board of releases in Redis at {} cannot be read: {problem}; use the version of plugnode that wrote it, \
                 or delete the key {key} to begin with the components of the config files",
                self.server
            ))
        })
    }

    async fn board_after(&self, version: u64) -> Result<(u64, Board)> {
        let mut command = redis::cmd("HGET");
        command.arg(&self.layout.shard(0).key("board")[..]).arg("version");
        let known = version.to_string();
        loop {
            let present: Option<String> = self.link.ask(&command).await;
            if present.as_deref().unwrap_or("0") != known {
                let (present, board) = self.board().await?;
                if present != version {
                    return Ok((present, board));
                }
            }
            sleep(BOARD_POLL).await;
        }
    }

    async fn post_board(&self, version: u64, board: &Board) -> Result<bool> {
        let shard = self.layout.shard(0);
        let content =
            serde_json::to_vec(board).map_err(|error| unusable(format!("the board cannot be written: {error}")))?;
        let digest = Digest::of(&content);
        let arguments = [bytes_of(version), content.into(), bytes_of(digest)];
        Ok(self
            .change(&shard, &scripts::POST_BOARD, &[shard.key("board")], &arguments)
            .await)
    }
}

#[cfg(test)]
mod tests;
