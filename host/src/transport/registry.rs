//! What the nodes of a cluster share besides events: components, the board of releases, and what each app-node tells of
//! itself.

use async_trait::async_trait;
use bytes::Bytes;

use super::Result;
use crate::message::NodeId;
use crate::release::{Board, Digest, NodeReport};

/// The shared part of a transport that releases rest on. What cannot be reached is waited for.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Keeps a component under its digest. It stays for at least an hour, and for as long as the board names it.
    ///
    /// # Errors
    /// [`Unusable`](super::TransportError::Unusable) when it is larger than the settings allow.
    async fn put_component(&self, bytes: Bytes) -> Result<Digest>;

    /// A component, if all of it is there: the bytes have this digest.
    async fn component(&self, digest: &Digest) -> Result<Option<Bytes>>;

    /// Forgets the components that the board does not name and that were put more than an hour ago.
    async fn prune_components(&self) -> Result<()>;

    /// The board, and its version.
    async fn board(&self) -> Result<(u64, Board)>;

    /// The board and its version, as soon as that is another than the one given. Cancel safe.
    async fn board_after(&self, version: u64) -> Result<(u64, Board)>;

    /// Puts a board in the place of the one of this version. False when there is another there by now: then nothing was
    /// changed. A call that is made again, since its answer was lost, is answered as the first.
    async fn post_board(&self, version: u64, board: &Board) -> Result<bool>;

    /// Tells of a node, in the place of what it told before.
    async fn report(&self, report: &NodeReport) -> Result<()>;

    /// The app-nodes that are there, and what each has told last.
    async fn app_nodes(&self) -> Result<Vec<(NodeId, Option<NodeReport>)>>;

    /// How many events were accepted and are not committed.
    async fn backlog(&self) -> Result<u64>;
}
