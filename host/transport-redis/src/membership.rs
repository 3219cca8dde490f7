//! Membership of the cluster: incarnations, names, leases and heartbeats of io-nodes and app-nodes.

pub(crate) mod heartbeat;
pub(crate) mod incarnations;
pub(crate) mod lost_io_nodes;
pub(crate) mod member;
pub(crate) mod name_claim;
pub(crate) mod peers;
