//! Events on their way from the clients to the transport.

use std::iter;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::incarnation::{Events, Incarnation};
use super::waiting::{BATCH, Taken, Waiting};
use plugnode_message::Event;
use plugnode_process::metrics;
use plugnode_transport::{Inbox, Result};

/// How long between two looks at what waits for too long: a tenth of what is too long, and within these.
const LEAST_LOOK: Duration = Duration::from_millis(5);
const MOST_LOOK: Duration = Duration::from_millis(500);

/// Hands events to the transport until `closing`, and then those that are left. What waits to be accepted for longer
/// than `refuse_after` is refused to its client where that can be told. Each is heard of once before that.
///
/// One call of the transport is under way at a time and is heard to its end, also when the incarnation is over by then:
/// what becomes of events that were offered is not known before.
///
/// # Errors
/// When this io-node was fenced, or the transport cannot go on.
pub(super) async fn run(
    mut events: Events,
    inbox: Arc<dyn Inbox>,
    refuse_after: Duration,
    incarnation: &Incarnation,
    closing: CancellationToken,
    hear: impl Fn(&Event),
) -> Result<()> {
    let look = (refuse_after / 10).clamp(LEAST_LOOK, MOST_LOOK);
    // What is waited for again and again is made once: it registers with who wakes it, and its end is a lock or two.
    let mut late = pin!(sleep_until(Instant::now() + look));
    let mut closed = pin!(closing.cancelled());
    let mut over = pin!(incarnation.over());
    let mut fresh = Vec::with_capacity(BATCH);
    let mut waiting = Waiting::default();
    let mut offering: Option<BoxFuture<'static, Result<Vec<Taken>>>> = None;
    let mut open = true;
    while (open || !waiting.is_empty() || offering.is_some()) && !incarnation.is_over() {
        if offering.is_none() && waiting.is_due() {
            let batch = waiting.offer();
            if !batch.is_empty() {
                offering = Some(Box::pin(offer(batch, inbox.clone())));
            }
        }
        let next_offer = waiting.next_offer().filter(|_| offering.is_none());
        // What most wake-ups are for is looked at first. None of it is always there: what is offered is the rest of what
        // came, and of what comes there is an end to one turn of a task.
        tokio::select! {
            biased;
            refused = async { offering.as_mut().expect("guarded").await }, if offering.is_some() => {
                offering = None;
                waiting.offered(refused?);
            }
            count = events.recv_many(&mut fresh, BATCH), if open => {
                open = count > 0;
                if offering.is_none() && (1..BATCH).contains(&count) {
                    // Sockets that have something by now are read first: what comes together is offered, handled and answered
                    // together. Where nothing else is to be done, this takes no time.
                    yield_now().await;
                    fresh.extend(iter::from_fn(|| events.try_recv().ok()).take(BATCH - count));
                }
                let since = Instant::now();
                for arrival in fresh.drain(..) {
                    hear(&arrival.event);
                    waiting.push(arrival, since);
                }
            }
            () = async { sleep_until(next_offer.expect("guarded")).await }, if next_offer.is_some() => {}
            () = &mut late, if !waiting.is_empty() => {
                waiting.refuse(refuse_after);
                late.as_mut().reset(Instant::now() + look);
            }
            () = &mut closed, if !events.is_closed() => events.close(),
            () = &mut over => break,
        }
    }
    if let Some(offering) = offering {
        offering.await?;
    }
    Ok(())
}

/// Offers events to the transport, lets the sessions of accepted ones know, and returns the refused ones.
async fn offer(batch: Vec<Taken>, inbox: Arc<dyn Inbox>) -> Result<Vec<Taken>> {
    let mut events = Vec::with_capacity(batch.len());
    let mut offered = Vec::with_capacity(batch.len());
    for Taken { event, source, since } in batch {
        offered.push((event.in_order_with().cloned(), event.size(), source, since));
        events.push(event);
    }
    let mut refused = inbox.ingest(events).await?;
    metrics::EVENTS_ACCEPTED.add(offered.len() - refused.len());
    let accepted = Instant::now();
    let mut again = Vec::with_capacity(refused.len());
    // Refused events keep their order and are the last of their clients, so from the end they are met one by one.
    for (id, size, source, since) in offered.into_iter().rev() {
        match refused.pop_if(|event| event.in_order_with() == id.as_ref()) {
            Some(event) => again.push(Taken { event, source, since }),
            None => {
                metrics::INGEST_TIME.observe(accepted - since);
                source.went_on(size);
            }
        }
    }
    again.reverse();
    Ok(again)
}
