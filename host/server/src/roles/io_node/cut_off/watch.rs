//! Gathers evidence while the membership of an io-node is not renewed.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use super::judgement::{CutOff, Evidence, Testimony, judge};
use super::witness::{Answer, Witness};
use plugnode_message::NodeId;
use plugnode_transport::{LeaseHealth, Transport};

/// Io-nodes that are asked at a time.
const MAX_WITNESSES: usize = 5;
/// The longest time between two checks.
const MAX_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Watches the membership of an io-node.
pub(in super::super) struct Watch {
    own: NodeId,
    transport: Transport,
    lease_health: LeaseHealth,
    /// How long the transport may be unreachable without any evidence.
    bound: Duration,
    witnesses: Vec<Witness>,
    /// When the witnesses were last listed.
    refreshed: Option<Instant>,
}

/// Renewals of witnesses while this node could not renew.
#[derive(Default)]
struct Renewals {
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Watch {
    pub(in super::super) fn new(own: NodeId, transport: Transport, bound: Duration) -> Self {
        Self {
            own,
            lease_health: transport.nodes.lease_health(),
            transport,
            bound,
            witnesses: Vec::new(),
            refreshed: None,
        }
    }

    /// Completes when this node considers itself cut off.
    pub(in super::super) async fn until_cut_off(&mut self) -> CutOff {
        let Some(lease) = self.lease_health.lease() else {
            return std::future::pending().await;
        };
        let mut renewals = Renewals::default();
        loop {
            let silence = self.lease_health.silence().unwrap_or_default();
            if silence < lease / 3 {
                renewals = Renewals::default();
                self.refresh(lease).await;
                let silence = self.lease_health.silence().unwrap_or_default();
                sleep(
                    (lease / 3)
                        .saturating_sub(silence)
                        .clamp(lease / 60, MAX_CHECK_INTERVAL),
                )
                .await;
                continue;
            }
            let witnesses = self.ask_witnesses(lease / 8, &mut renewals).await;
            // Read again, because it may have been renewed meanwhile.
            let evidence = Evidence {
                lease,
                silence: self.lease_health.silence().unwrap_or_default(),
                reachability: self.lease_health.reachability(),
                witnesses,
                bound: self.bound,
            };
            if evidence.silence >= lease / 3
                && let Some(cut_off) = judge(&evidence)
            {
                return cut_off;
            }
            // The longer it lasts, the fewer checks.
            sleep((evidence.silence / 10).clamp(lease / 10, MAX_CHECK_INTERVAL.max(lease / 10))).await;
        }
    }

    /// Whether the membership has been renewed.
    pub(in super::super) fn is_renewed(&self) -> bool {
        self.lease_health
            .lease()
            .is_none_or(|lease| self.lease_health.silence().unwrap_or_default() < lease / 3)
    }

    /// The time over which connections are closed.
    pub(in super::super) fn time_to_close(&self) -> Duration {
        self.lease_health.lease().unwrap_or_default() / 6
    }

    /// Lists the witnesses, once a lease.
    async fn refresh(&mut self, lease: Duration) {
        if self.refreshed.is_some_and(|at| at.elapsed() < lease) {
            return;
        }
        // On an error, the witnesses stay.
        if let Ok(Ok(nodes)) = timeout(lease / 4, self.transport.nodes.io_nodes()).await {
            // The next in the order of names, so that the questions are spread over all io-nodes.
            let (before, after): (Vec<_>, Vec<_>) = nodes
                .into_iter()
                .filter(|node| node.id != self.own)
                .partition(|node| node.id < self.own);
            let witnesses = after.iter().chain(&before).filter_map(Witness::of);
            self.witnesses = witnesses.take(MAX_WITNESSES).collect();
            self.refreshed = Some(Instant::now());
        }
    }

    async fn ask_witnesses(&self, within: Duration, renewals: &mut Renewals) -> Testimony {
        let silence = self.lease_health.silence().unwrap_or_default();
        let own = Instant::now() - silence;
        let answers = join_all(self.witnesses.iter().map(|witness| witness.ask(&self.own, within))).await;
        let renewed = answers.iter().filter_map(|answer| match answer {
            Answer::Renewed(at) => Some(*at),
            Answer::None => None,
        });
        let Some(newest) = renewed.max() else {
            return renewals.testimony(Testimony::None);
        };
        if newest > own {
            renewals.add(newest);
        }
        renewals.testimony(Testimony::TransportIsAway)
    }
}

impl Renewals {
    fn add(&mut self, at: Instant) {
        self.first.get_or_insert(at);
        self.last = self.last.max(Some(at));
    }

    /// The testimony of the renewals, or `otherwise` if they prove nothing.
    fn testimony(&self, otherwise: Testimony) -> Testimony {
        match (self.first, self.last) {
            (Some(first), Some(last)) if last > first => Testimony::TransportLives { span: last - first },
            _ => otherwise,
        }
    }
}
