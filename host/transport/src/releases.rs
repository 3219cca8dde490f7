//! The seam of releases: components, and the board that says which of them each app runs.

#[cfg(any(test, feature = "conformance"))]
#[allow(missing_docs)]
pub mod conformance;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::{Result, TransportError};
use plugnode_release::{Board, Digest};

/// Minimum time for which a component is kept before a board names it.
pub const KEPT: Duration = Duration::from_secs(60);

/// Keeps components and the board of releases. A store that cannot be reached is waited for.
#[async_trait]
pub trait Releases: Send + Sync {
    /// Stores a component under its digest. It is kept for at least a minute, and then as long as the board names it.
    ///
    /// # Errors
    /// [`Unusable`](super::TransportError::Unusable) if it exceeds `max-component`.
    async fn put_component(&self, bytes: Bytes) -> Result<Digest>;

    /// A component, if it is stored completely. Its bytes have this digest.
    async fn component(&self, digest: &Digest) -> Result<Option<Bytes>>;

    /// Deletes the components that the board does not name, except those that were stored a moment ago for a board to come.
    async fn prune_components(&self) -> Result<()>;

    /// The board, and its version.
    async fn board(&self) -> Result<(u64, Board)>;

    /// Waits until the board has another version than this. Cancel safe.
    async fn board_after(&self, version: u64) -> Result<(u64, Board)>;

    /// Replaces the board of this version (compare and set). False if the board has another version by now; nothing is changed then.
    /// Idempotent: a call that is repeated gets the answer of the first.
    async fn post_board(&self, version: u64, board: &Board) -> Result<bool>;
}

/// Refuses a component over the limit.
pub fn check_size(bytes: u64, most: usize) -> Result<()> {
    if bytes <= most as u64 {
        return Ok(());
    }
    Err(TransportError::Unusable(format!(
        "the component has {bytes} bytes, more than the limit of {most}; strip its debug sections, or raise [transport] \
         max-component on every node"
    )))
}

/// Size of a part of a component, in bytes. The last part may be smaller.
const PART: usize = 256 * 1024;

/// A component in parts, each with its digest. A part that several components share is stored once: scripts of one runtime differ only
/// in their last parts.
pub struct Parts {
    /// Digest of the whole component.
    pub digest: Digest,
    /// The parts in order, each with its digest.
    pub parts: Vec<(Digest, Bytes)>,
}

impl Parts {
    /// Cuts a component into parts, on a blocking thread.
    pub async fn of(bytes: Bytes) -> Self {
        let cut = {
            let bytes = bytes.clone();
            move || Self::cut(&bytes)
        };
        match spawn_blocking(cut).await {
            Ok(parts) => parts,
            // The runtime shuts down and takes no blocking work.
            Err(_) => Self::cut(&bytes),
        }
    }

    fn cut(bytes: &Bytes) -> Self {
        let starts = (0..bytes.len()).step_by(PART);
        let parts = starts.map(|start| bytes.slice(start..bytes.len().min(start + PART)));
        Self {
            digest: Digest::of(bytes),
            parts: parts.map(|part| (Digest::of(&part), part)).collect(),
        }
    }
}

/// The digest of large content, computed on a blocking thread.
pub async fn digest_of(bytes: Bytes) -> Digest {
    let hashed = bytes.clone();
    match spawn_blocking(move || Digest::of(&hashed)).await {
        Ok(digest) => digest,
        // The runtime shuts down and takes no blocking work.
        Err(_) => Digest::of(&bytes),
    }
}
