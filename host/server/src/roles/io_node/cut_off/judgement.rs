//! Decides whether an io-node is cut off, from the evidence.

use std::fmt;
use std::time::Duration;

use plugnode_transport::Reachability;

/// The evidence while the membership is not renewed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence {
    /// The time within which a membership has to be renewed.
    pub(super) lease: Duration,
    /// How long ago it was renewed.
    pub(super) silence: Duration,
    /// The state of the transport, as its own errors show.
    pub(super) reachability: Reachability,
    /// The answers of other io-nodes.
    pub(super) witnesses: Testimony,
    /// How long the transport may be unreachable without any evidence.
    pub(super) bound: Duration,
}

/// The answers of other io-nodes about their memberships.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Testimony {
    /// No other io-node is known, or none answers.
    None,
    /// They cannot renew their memberships either.
    TransportIsAway,
    /// One renewed its membership repeatedly while this node could not.
    TransportLives {
        /// The time from the first to the last of these renewals.
        span: Duration,
    },
}

/// Why a node considers itself cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum CutOff {
    /// Other io-nodes renew their memberships.
    OthersRenew,
    /// No other io-node can be asked, and the bound has passed.
    NoWitness,
}

impl fmt::Display for CutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OthersRenew => "this io-node is cut off from Redis, where other io-nodes renew their memberships",
            Self::NoWitness => {
                "this io-node can reach neither Redis nor another io-node that could tell whether Redis is alive ([io-node] cut-off-ms)"
            }
        })
    }
}

/// Whether the node is cut off.
pub(super) fn judge(evidence: &Evidence) -> Option<CutOff> {
    let Evidence {
        lease,
        silence,
        reachability,
        witnesses,
        bound,
    } = *evidence;
    match witnesses {
        // A node that gets any answer is not cut off.
        _ if reachability == Reachability::Answers => None,
        Testimony::TransportLives { span } => {
            // After an outage for all, nodes return at different times, and none is declared dead within a lease. Otherwise only the rest of
            // the lease is left.
            let is_after_outage = silence.saturating_sub(span) >= lease;
            let proof = match is_after_outage || reachability == Reachability::RefusesConnections {
                true => lease / 2,
                false => lease / 4,
            };
            (span >= proof).then_some(CutOff::OthersRenew)
        }
        Testimony::TransportIsAway => None,
        Testimony::None if reachability == Reachability::RefusesConnections => None,
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
        reachability: Reachability::Unknown,
        witnesses: Testimony::None,
        bound: Duration::from_secs(60),
    };

    fn lives_for(span: Duration) -> Testimony {
        Testimony::TransportLives { span }
    }

    #[test]
    fn cut_off_when_another_node_keeps_renewing() {
        let seen = |span| Evidence {
            witnesses: lives_for(span),
            ..SILENT
        };
        assert_eq!(judge(&seen(Duration::ZERO)), None, "it may be answered next");
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
            reachability: Reachability::RefusesConnections,
            ..long
        };
        assert_eq!(judge(&refused), None);
    }

    #[test]
    fn node_that_is_answered_is_not_cut_off() {
        let answered = Evidence {
            silence: Duration::from_secs(3_600),
            reachability: Reachability::Answers,
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
        assert_eq!(judge(&short), None, "it has at least a lease");
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
            reachability: Reachability::RefusesConnections,
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
