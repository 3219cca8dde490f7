//! Gathers evidence while the place of an io-node is not renewed.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use super::witness::{Answer, Witness};
use super::{CutOff, Evidence, Testimony, judge};
use plugnode_message::NodeId;
use plugnode_transport::{Standing, Transport};

/// Io-nodes that are asked at once.
const WITNESSES: usize = 5;
/// The longest time between two looks at the standing.
const LOOK: Duration = Duration::from_secs(1);

/// Watches over the standing of an io-node.
pub(in super::super) struct Watch {
    own: NodeId,
    transport: Transport,
    standing: Standing,
    /// How long the transport may be out of reach without any evidence.
    bound: Duration,
    witnesses: Vec<Witness>,
    /// When it was looked last which there are.
    refreshed: Option<Instant>,
}

/// The renewals of others that were seen while this node could not renew.
#[derive(Default)]
struct Renewals {
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Watch {
    pub(in super::super) fn new(own: NodeId, transport: Transport, bound: Duration) -> Self {
        Self {
            own,
            standing: transport.nodes.standing(),
            transport,
            bound,
            witnesses: Vec::new(),
            refreshed: None,
        }
    }

    /// Completes when this node takes itself for cut off.
    pub(in super::super) async fn until_cut_off(&mut self) -> CutOff {
        let Some(lease) = self.standing.lease() else {
            return std::future::pending().await;
        };
        let mut renewals = Renewals::default();
        loop {
            let silence = self.standing.silence().unwrap_or_default();
            if silence < lease / 3 {
                renewals = Renewals::default();
                self.refresh(lease).await;
                let silence = self.standing.silence().unwrap_or_default();
                sleep((lease / 3).saturating_sub(silence).clamp(lease / 60, LOOK)).await;
                continue;
            }
            let witnesses = self.ask_witnesses(lease / 8, &mut renewals).await;
            // It may have been renewed meanwhile.
            let evidence = Evidence {
                lease,
                silence: self.standing.silence().unwrap_or_default(),
                absence: self.standing.absence(),
                witnesses,
                bound: self.bound,
            };
            if evidence.silence >= lease / 3
                && let Some(cut_off) = judge(&evidence)
            {
                return cut_off;
            }
            // What lasts for long need not be looked at so often.
            sleep((evidence.silence / 10).clamp(lease / 10, LOOK.max(lease / 10))).await;
        }
    }

    /// Whether the place has been renewed.
    pub(in super::super) fn is_sound(&self) -> bool {
        self.standing
            .lease()
            .is_none_or(|lease| self.standing.silence().unwrap_or_default() < lease / 3)
    }

    /// Looks once a lease which io-nodes there are.
    /// Over how long connections are ended.
    pub(in super::super) fn time_to_close(&self) -> Duration {
        self.standing.lease().unwrap_or_default() / 6
    }

    async fn refresh(&mut self, lease: Duration) {
        if self.refreshed.is_some_and(|at| at.elapsed() < lease) {
            return;
        }
        // What cannot be asked now stays as it was.
        if let Ok(Ok(nodes)) = timeout(lease / 4, self.transport.nodes.io_nodes()).await {
            // Those that follow in the order of names, so that each is asked by a few.
            let (before, after): (Vec<_>, Vec<_>) = nodes
                .into_iter()
                .filter(|node| node.id != self.own)
                .partition(|node| node.id < self.own);
            let witnesses = after.iter().chain(&before).filter_map(Witness::of);
            self.witnesses = witnesses.take(WITNESSES).collect();
            self.refreshed = Some(Instant::now());
        }
    }

    async fn ask_witnesses(&self, within: Duration, renewals: &mut Renewals) -> Testimony {
        let silence = self.standing.silence().unwrap_or_default();
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

    /// What these prove, or what else is known when they prove nothing.
    fn testimony(&self, otherwise: Testimony) -> Testimony {
        match (self.first, self.last) {
            (Some(first), Some(last)) if last > first => Testimony::TransportLives { span: last - first },
            _ => otherwise,
        }
    }
}
