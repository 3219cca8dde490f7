//! Whether an io-node that cannot renew its place is cut off from a transport that lives for others, or the transport is
//! away for all.
//!
//! The difference decides what becomes of its clients. When the transport is away for all, they stay. When the node alone is cut
//! off, others are about to take it for dead and to tell the apps that its clients are gone: it ends their connections before
//! that, so that they reconnect to a node that can serve them. The evidence comes from the transport itself, as when its host
//! refuses connections, and from other io-nodes, the *witnesses*: one that renews its place proves that the transport lives.
//! `judge` decides and does no I/O; `watch` gathers the evidence; `witness` asks one io-node.

mod watch;
mod witness;

use std::fmt;
use std::time::Duration;

pub(super) use self::watch::Watch;
use plugnode_transport::Absence;

/// What is known while a place is not renewed.
#[derive(Debug, Clone, Copy)]
struct Evidence {
    /// The time within which a place has to be renewed.
    lease: Duration,
    /// How long ago it was renewed.
    silence: Duration,
    /// What the transport tells of itself.
    absence: Absence,
    /// What other io-nodes tell.
    witnesses: Testimony,
    /// How long the transport may be out of reach without any evidence.
    bound: Duration,
}

/// What other io-nodes tell of themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Testimony {
    /// None is known, or none answers.
    None,
    /// They cannot renew their places either.
    TransportIsAway,
    /// One has renewed its place again and again, although this node could not.
    TransportLives {
        /// Between the first and the last of these renewals.
        span: Duration,
    },
}

/// Why a node takes itself for cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CutOff {
    /// Other io-nodes renew their places.
    OthersRenew,
    /// Nobody can be asked, and it has lasted for too long.
    NoWitness,
}

impl fmt::Display for CutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OthersRenew => "this io-node is cut off from Redis, at which other io-nodes renew their places",
            Self::NoWitness => {
                "this io-node cannot reach Redis, and no other io-node that could tell whether Redis lives ([io-node] cut-off-ms)"
            }
        })
    }
}

/// Whether a node is cut off, by what it knows.
fn judge(evidence: &Evidence) -> Option<CutOff> {
    let Evidence {
        lease,
        silence,
        absence,
        witnesses,
        bound,
    } = *evidence;
    match witnesses {
        // Whoever is answered is not cut off, whatever the answer is.
        _ if absence == Absence::Answers => None,
        Testimony::TransportLives { span } => {
            // After an outage of all, nodes do not come back at the same moment, and nobody is taken for dead within a lease.
            // Otherwise the time that is left is what remains of the lease.
            let is_after_outage = silence.saturating_sub(span) >= lease;
            let proof = match is_after_outage || absence == Absence::Refuses {
                true => lease / 2,
                false => lease / 4,
            };
            (span >= proof).then_some(CutOff::OthersRenew)
        }
        Testimony::TransportIsAway => None,
        Testimony::None if absence == Absence::Refuses => None,
        Testimony::None => (silence >= bound.max(lease)).then_some(CutOff::NoWitness),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(4);

    const SILENT: Evidence = Evidence {
        lease: LEASE,
        silence: Duration::from_secs(3),
        absence: Absence::Unknown,
        witnesses: Testimony::None,
        bound: Duration::from_secs(60),
    };

    fn lives_for(span: Duration) -> Testimony {
        Testimony::TransportLives { span }
    }

    #[test]
    fn node_is_cut_off_when_another_goes_on_renewing() {
        let seen = |span| Evidence {
            witnesses: lives_for(span),
            ..SILENT
        };
        assert_eq!(
            judge(&seen(Duration::ZERO)),
            None,
            "it may be about to be answered, too"
        );
        assert_eq!(judge(&seen(LEASE / 4)), Some(CutOff::OthersRenew));
    }

    #[test]
    fn clients_stay_while_the_transport_is_away_for_all() {
        let long = Evidence {
            silence: Duration::from_secs(3_600),
            ..SILENT
        };
        let others = Evidence {
            witnesses: Testimony::TransportIsAway,
            ..long
        };
        assert_eq!(judge(&others), None);
        let refused = Evidence {
            absence: Absence::Refuses,
            ..long
        };
        assert_eq!(judge(&refused), None);
    }

    #[test]
    fn node_that_is_answered_is_not_cut_off() {
        let answered = Evidence {
            silence: Duration::from_secs(3_600),
            absence: Absence::Answers,
            witnesses: lives_for(LEASE),
            ..SILENT
        };
        assert_eq!(judge(&answered), None);
    }

    #[test]
    fn node_without_witness_is_cut_off_after_the_bound() {
        assert_eq!(judge(&SILENT), None);
        let long = Evidence {
            silence: SILENT.bound,
            ..SILENT
        };
        assert_eq!(judge(&long), Some(CutOff::NoWitness));
        let short = Evidence {
            bound: Duration::ZERO,
            ..SILENT
        };
        assert_eq!(judge(&short), None, "a lease is left to it in any case");
    }

    #[test]
    fn node_that_comes_back_late_after_an_outage_keeps_its_clients() {
        let returning = Evidence {
            silence: Duration::from_secs(10),
            witnesses: lives_for(LEASE / 4),
            ..SILENT
        };
        assert_eq!(judge(&returning), None);
        let refused = Evidence {
            absence: Absence::Refuses,
            witnesses: lives_for(LEASE / 4),
            ..SILENT
        };
        assert_eq!(judge(&refused), None);
        for evidence in [returning, refused] {
            let proven = Evidence {
                witnesses: lives_for(LEASE / 2),
                ..evidence
            };
            assert_eq!(judge(&proven), Some(CutOff::OthersRenew));
        }
    }
}
