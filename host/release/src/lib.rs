//! Releases: which component each app runs, which one is being rolled out, and what became of earlier ones.
//!
//! All of it is on one [`Board`], which the cluster shares: a versioned value that is changed by compare-and-swap, so that
//! concurrent changes follow each other and every node sees the same. There is no leader: each app-node advances a rollout
//! when the reports of all app-nodes allow it.
//!
//! - [`AppReleases`]: the releases of one app; deploy, rollback and revert.
//! - [`Release`]: one deployed component, with its number, origin and [`ReleaseState`].
//! - [`Rollout`]: the release that is being rolled out, and its [`Phase`]. It goes through preparation on every app-node, a
//!   trial with the first events, and if asked for a [`Canary`] on a share of the partitions.
//! - [`NodeReport`]: what an app-node reports; [`NodeStatus`] is the part of it that concerns one app.
//! - [`Digest`]: the SHA-256 of a component, which identifies it.
//!
//! This crate is data and decisions without I/O. It knows neither transports nor WebAssembly, and reads no clock.

mod advance;
mod app_releases;
mod board;
mod canary;
mod digest;
mod first_release;
mod release;
mod report;
mod rollout;

pub use self::advance::PREPARE_TIMEOUT;
pub use self::app_releases::{AppReleases, DEFAULT_KEPT_RELEASES, ReleaseError};
pub use self::board::Board;
pub use self::canary::Canary;
pub use self::digest::{Digest, InvalidDigest};
pub use self::release::{Author, ComponentFile, Origin, Release, ReleaseState};
pub use self::report::{AppReport, Counts, NodeReport, NodeStage, NodeStatus, ReleaseProgress};
pub use self::rollout::{Phase, Rollout};
