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

/// The least time that a component which no board has named is kept, for whoever is about to name it.
pub const KEPT: Duration = Duration::from_secs(60);

/// Keeps components and the board of releases. A store that cannot be reached is waited for.
#[async_trait]
pub trait Releases: Send + Sync {
    /// Keeps a component under its digest. It stays for at least a minute if no board comes to name it, and else for as
    /// long as the board names it.
    ///
    /// # Errors
    /// [`Unusable`](super::TransportError::Unusable) when it is larger than the settings allow.
    async fn put_component(&self, bytes: Bytes) -> Result<Digest>;

    /// A component, if all of it is there: the bytes have this digest.
    async fn component(&self, digest: &Digest) -> Result<Option<Bytes>>;

    /// Forgets the components that the board does not name and that nobody is about to name: some transports wait for a
    /// minute to be over, others see that a board has named them before.
    async fn prune_components(&self) -> Result<()>;

    /// The board, and its version.
    async fn board(&self) -> Result<(u64, Board)>;

    /// The board and its version, as soon as that is another than the one given. Cancel safe.
    async fn board_after(&self, version: u64) -> Result<(u64, Board)>;

    /// Puts a board in the place of the one of this version. False when there is another there by now: then nothing was
    /// changed. A call that is made again, since its answer was lost, is answered as the first.
    async fn post_board(&self, version: u64, board: &Board) -> Result<bool>;
}

/// Refuses a component that is larger than the settings allow.
pub fn check_size(bytes: u64, most: usize) -> Result<()> {
    if bytes <= most as u64 {
        return Ok(());
    }
    Err(TransportError::Unusable(format!(
        "the component has {bytes} bytes, and [transport] max-component allows {most}: make it smaller (strip it of its \
         debug sections), or allow more on every node"
    )))
}

/// The bytes of a part of a component; the last may have fewer.
const PART: usize = 256 * 1024;

/// A component in parts, each by its own digest: a registry keeps a part once, whatever the number of components that have it.
/// Those of one runtime differ in what stands at the end of them, their scripts.
pub struct Parts {
    /// Digest of the whole component.
    pub digest: Digest,
    /// The parts in order, each with its digest.
    pub parts: Vec<(Digest, Bytes)>,
}

impl Parts {
    /// Cuts a component, which may be large.
    pub async fn of(bytes: Bytes) -> Self {
        let cut = {
            let bytes = bytes.clone();
            move || Self::cut(&bytes)
        };
        match spawn_blocking(cut).await {
            Ok(parts) => parts,
            // The process ends, and takes no more such work.
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

/// The digest of what may be large.
pub async fn digest_of(bytes: Bytes) -> Digest {
    let hashed = bytes.clone();
    match spawn_blocking(move || Digest::of(&hashed)).await {
        Ok(digest) => digest,
        // The process ends, and takes no more such work.
        Err(_) => Digest::of(&bytes),
    }
}
