//! An event from its delivery by the log until its commit.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::app::{App, InFlightGuard, TrialAttempt};
use plugnode_message::{AttributePatch, EventKind, Namespace, PresentIn, SessionId, Text};
use plugnode_process::Backoff;
use plugnode_runtime::Failure;
use plugnode_transport::Delivery;

/// First delay before an event is tried again that failed because the host could not serve it.
const FIRST_UNAVAILABLE_DELAY: Duration = Duration::from_millis(50);
/// Longest delay before an event is tried again that failed because the host could not serve it.
const MAX_UNAVAILABLE_DELAY: Duration = Duration::from_secs(1);
/// Number of conflicts after which the event's keys are reserved at the next one.
const CONFLICTS_BEFORE_RESERVATION: u32 = 2;
/// For how long keys are reserved beyond the handler's time limit: for the way to the commit.
const RESERVATION_MARGIN: Duration = Duration::from_secs(1);

/// A client, identified by namespace and session id.
pub(super) type ClientKey = (Namespace, SessionId);

/// An event that the log delivered and that is not committed.
pub(super) struct InFlightEvent {
    pub(super) delivery: Delivery,
    /// Number of attempts that count: by owners that died, and failed ones of this node.
    pub(super) attempts: u32,
    /// The release that handled it last.
    pub(super) release: Option<Arc<str>>,
    /// An attempt by another release than the one in use. The next attempt is for the release in use.
    pub(super) trial: Option<TrialAttempt>,
    /// Number of commits that failed because a key that the event read had changed.
    pub(super) conflicts: u32,
    /// How long its keys are reserved after too many conflicts.
    reservation: Duration,
    /// Delays between attempts while the host cannot serve the handler. Set once that has happened.
    pub(super) unavailable: Option<Backoff>,
    /// Whether its reads took too long before. The store may be the cause once; after that it is the event.
    read_too_much: bool,
    /// Patches of its client's attributes that the next owner does not need once this event is committed.
    pub(super) unneeded_patches: Vec<AttributePatch>,
    /// The channels with presence that its client is in. Read for the events that change them.
    pub(super) present_in: Option<PresentIn>,
    /// The buckets of the deliveries to webhooks and the records of presence in its outcome,
    pub(super) record_buckets: HashSet<Text>,
    /// and those that are full: its next outcome has none for them.
    pub(super) omitted_buckets: HashSet<Text>,
    /// Later events of the same periodic timer that this one stands for. They are committed before it.
    pub(super) merged: Vec<Self>,
    _guard: Option<InFlightGuard>,
}

impl InFlightEvent {
    /// `app` is None if no app is bound to the event's namespace.
    pub(super) fn new(delivery: Delivery, app: Option<&Arc<App>>) -> Self {
        let time_limit = app.map_or(Duration::ZERO, |app| app.settings.handler.limits.time);
        Self {
            attempts: delivery.attempts,
            delivery,
            release: None,
            trial: None,
            conflicts: 0,
            reservation: time_limit + RESERVATION_MARGIN,
            unavailable: None,
            read_too_much: false,
            unneeded_patches: Vec::new(),
            present_in: None,
            record_buckets: HashSet::new(),
            omitted_buckets: HashSet::new(),
            merged: Vec::new(),
            _guard: app.map(App::count_in_flight),
        }
    }

    pub(super) fn sequence(&self) -> u64 {
        self.delivery.id.sequence
    }

    /// The client whose events are handled in order with this one. For a timer of the app, a key that no client has: events of one timer
    /// are in order.
    pub(super) fn client_key(&self) -> Option<ClientKey> {
        let event = &self.delivery.event;
        let client = match (event.in_order_with(), &event.kind) {
            (Some(client), _) => client.clone(),
            (None, EventKind::Timer { fired, .. }) => SessionId::from(format!("\0{}", &*fired.key)),
            (None, _) => return None,
        };
        Some((event.namespace.clone(), client))
    }

    pub(super) fn is_of_periodic_timer(&self) -> bool {
        matches!(&self.delivery.event.kind, EventKind::Timer { fired, .. } if fired.is_periodic)
    }

    /// Takes a waiting event into this one if both are of the same periodic timer; otherwise returns it.
    pub(super) fn merge(&mut self, later: Self) -> Option<Self> {
        let Some(merged) = self.delivery.event.merged_with(&later.delivery.event) else {
            return Some(later);
        };
        self.delivery.event = Arc::new(merged);
        self.merged.push(later);
        None
    }

    /// The reason of a failure that is the host's fault and not the event's: the attempt does not count.
    pub(super) fn host_fault<'f>(&mut self, failure: &'f Failure) -> Option<&'f str> {
        match failure {
            Failure::Unavailable(reason) => Some(reason),
            Failure::ReadsTooMuch(reason) if !self.read_too_much => {
                self.read_too_much = true;
                Some(reason)
            }
            _ => None,
        }
    }

    /// The delay before the next attempt after such a failure.
    pub(super) fn unavailable_delay(&mut self) -> Duration {
        self.unavailable
            .get_or_insert_with(|| Backoff::new(FIRST_UNAVAILABLE_DELAY, MAX_UNAVAILABLE_DELAY))
            .next_delay()
    }

    /// Prepares for another attempt after a commit that failed: what happened in earlier attempts is forgotten.
    pub(super) fn reset_after_conflict(&mut self) {
        self.conflicts += 1;
        self.trial = None;
        self.unavailable = None;
        self.read_too_much = false;
        self.present_in = None;
    }

    /// For how long its keys are reserved if the commit fails by a conflict. None: not at all.
    pub(super) fn key_reservation(&self) -> Option<Duration> {
        (self.conflicts >= CONFLICTS_BEFORE_RESERVATION).then_some(self.reservation)
    }
}
