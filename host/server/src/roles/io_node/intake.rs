//! Offers the events of clients to the transport in batches, one call at a time, and refuses those that wait longer than `refuse_after`.

use std::iter;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::pending_events::{BATCH, PendingEvents};
use plugnode_message::Event;
use plugnode_process::metrics;
use plugnode_socket_io::{Arrivals, Incarnation, PendingEvent};
use plugnode_transport::{Inbox, Result};

/// Lower bound of the interval between checks for events that wait longer than `refuse_after`; it is a tenth of that time.
const MIN_CHECK_INTERVAL: Duration = Duration::from_millis(5);
/// Upper bound of that interval.
const MAX_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Hands events to the transport until `closing` is cancelled, then those that are left. An event that waits longer than `refuse_after` is
/// refused to its client, if it asks for an acknowledgement or is the connection. `observe` gets each event before it is offered.
///
/// One call of the transport is under way at a time, and it is awaited even if the incarnation is over meanwhile: only its result tells
/// whether the events were accepted.
///
/// # Errors
/// If this io-node was fenced, or the transport failed for good.
pub(super) async fn run(
    mut arrivals: Arrivals,
    inbox: Arc<dyn Inbox>,
    refuse_after: Duration,
    incarnation: &Incarnation,
    closing: CancellationToken,
    observe: impl Fn(&Event),
) -> Result<()> {
    let check_interval = (refuse_after / 10).clamp(MIN_CHECK_INTERVAL, MAX_CHECK_INTERVAL);
    // Created once, because creating and dropping them takes locks.
    let mut check = pin!(sleep_until(Instant::now() + check_interval));
    let mut closed = pin!(closing.cancelled());
    let mut over = pin!(incarnation.over());
    let mut fresh = Vec::with_capacity(BATCH);
    let mut pending = PendingEvents::default();
    let mut offering: Option<BoxFuture<'static, Result<Vec<PendingEvent>>>> = None;
    let mut is_open = true;
    while (is_open || !pending.is_empty() || offering.is_some()) && !incarnation.is_over() {
        if offering.is_none() && pending.is_due() {
            let batch = pending.offer();
            if !batch.is_empty() {
                offering = Some(Box::pin(offer(batch, inbox.clone())));
            }
        }
        let next_offer = pending.next_offer().filter(|_| offering.is_none());
        // In the order of frequency. No branch starves the later ones: each offer takes from what came, and a task's budget ends what comes.
        tokio::select! {
            biased;
            refused = async { offering.as_mut().expect("guarded").await }, if offering.is_some() => {
                offering = None;
                pending.offered(refused?);
            }
            count = arrivals.recv_many(&mut fresh, BATCH), if is_open => {
                is_open = count > 0;
                if offering.is_none() && (1..BATCH).contains(&count) {
                    // Reads the other sockets that are ready first, so that their events go into the same batch. If none is, this takes no
                    // time.
                    yield_now().await;
                    fresh.extend(iter::from_fn(|| arrivals.try_recv().ok()).take(BATCH - count));
                }
                for event in fresh.drain(..) {
                    observe(&event.event);
                    pending.push(event);
                }
            }
            () = async { sleep_until(next_offer.expect("guarded")).await }, if next_offer.is_some() => {}
            () = &mut check, if !pending.is_empty() => {
                pending.refuse(refuse_after);
                check.as_mut().reset(Instant::now() + check_interval);
            }
            () = &mut closed, if !arrivals.is_closed() => arrivals.close(),
            () = &mut over => break,
        }
    }
    if let Some(offering) = offering {
        offering.await?;
    }
    Ok(())
}

/// Offers events to the transport, tells the sources of accepted events, and returns the refused events.
async fn offer(batch: Vec<PendingEvent>, inbox: Arc<dyn Inbox>) -> Result<Vec<PendingEvent>> {
    let mut events = Vec::with_capacity(batch.len());
    let mut offered = Vec::with_capacity(batch.len());
    for PendingEvent { event, source, since } in batch {
        offered.push((event.in_order_with().cloned(), event.size(), source, since));
        events.push(event);
    }
    let mut refused = inbox.ingest(events).await?;
    metrics::EVENTS_ACCEPTED.add(offered.len() - refused.len());
    let accepted_at = Instant::now();
    let mut returned = Vec::with_capacity(refused.len());
    // Refused events keep their order and are the last of their clients, so from the end they match one by one.
    for (key, size, source, since) in offered.into_iter().rev() {
        match refused.pop_if(|event| event.in_order_with() == key.as_ref()) {
            Some(event) => returned.push(PendingEvent { event, source, since }),
            None => {
                metrics::INGEST_TIME.observe(accepted_at - since);
                source.event_left(size);
            }
        }
    }
    returned.reverse();
    Ok(returned)
}
