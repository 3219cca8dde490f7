//! Whether an io-node that cannot renew its membership is cut off from a transport that other nodes reach, or the transport is away for all.
//!
//! If the transport is away for all, clients stay. If the io-node alone is cut off, other nodes will declare it dead and tell the apps that
//! its clients are gone. Before that it closes their connections, so that they reconnect to a node that can serve them. Evidence comes from
//! the transport itself, for example when its host refuses connections, and from other io-nodes, the *witnesses*: a witness that renews its
//! membership proves that the transport is alive. `judgement` decides without I/O, `watch` gathers the evidence, `witness` asks one io-node.

mod judgement;
mod watch;
mod witness;

pub(super) use self::watch::Watch;
