//! Clients that exchange messages with the server alone: in a closed loop, where a reply triggers the next message, or in an
//! open loop, where messages are sent at fixed times.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use plugnode_tests::sequence::FIRST;
use tokio::time::{Instant, sleep_until};

use crate::client::{Client, connect};
use crate::load::Load;
use crate::numbered_text::NumberedText;
use crate::reply_check::ReplyCheck;
use crate::server::Server;

/// A message, and how its reply is recognised.
#[derive(Clone)]
pub(crate) struct Exchange {
    message: NumberedText,
    reply: Arc<ReplyNumber>,
}

/// Returns the number of the message to which a text is the reply.
type ReplyNumber = dyn Fn(&[u8]) -> Option<u64> + Send + Sync;

impl Exchange {
    /// The reply is a text with the number of the message.
    pub(crate) fn new(message: NumberedText, reply: NumberedText) -> Self {
        Self::with_reply(message, move |text| reply.number_in(text))
    }

    /// A function recognises the reply.
    pub(crate) fn with_reply(
        message: NumberedText,
        reply: impl Fn(&[u8]) -> Option<u64> + Send + Sync + 'static,
    ) -> Self {
        Self {
            message,
            reply: Arc::new(reply),
        }
    }

    /// `echo` with a small object.
    pub(crate) fn echo() -> Self {
        let text = NumberedText::event("echo", "");
        Self::new(text.clone(), text)
    }
}

/// Starts clients that keep a number of messages in flight each.
pub(crate) async fn closed_loop(
    server: &Server,
    clients: usize,
    in_flight: usize,
    exchange: &Exchange,
) -> io::Result<Load> {
    let mut load = Load::new();
    for client in connect(server, clients).await? {
        let (check, exchange) = (ReplyCheck::add_to(&mut load), exchange.clone());
        load.tasks
            .spawn(async move { end_of_client(keep_in_flight(client, in_flight, exchange, check).await) });
    }
    Ok(load)
}

/// Starts clients that together send `rate` messages a second at fixed times, independent of replies. Also returns the
/// longest wait of each client for a reply, in microseconds.
pub(crate) async fn open_loop(
    server: &Server,
    clients: usize,
    rate: f64,
    exchange: &Exchange,
) -> io::Result<(Load, Vec<Arc<AtomicU64>>)> {
    let mut load = Load::new();
    let interval = Duration::from_secs_f64(clients as f64 / rate);
    let connected = connect(server, clients).await?;
    let begun = Instant::now();
    let mut longest_waits = Vec::new();
    for (number, client) in connected.into_iter().enumerate() {
        // Spread over the interval.
        let first = begun + interval.mul_f64(number as f64 / clients as f64);
        let (check, exchange) = (ReplyCheck::add_to(&mut load), exchange.clone());
        let longest_wait = Arc::<AtomicU64>::default();
        longest_waits.push(longest_wait.clone());
        load.tasks.spawn(async move {
            end_of_client(send_at_fixed_times(client, first, interval, exchange, check, &longest_wait).await)
        });
    }
    Ok((load, longest_waits))
}

async fn keep_in_flight(
    mut client: Client,
    in_flight: usize,
    mut exchange: Exchange,
    check: ReplyCheck,
) -> io::Result<()> {
    // Ring of start times by message number; many more than are in flight, because replies may overtake each other.
    let mut begun = vec![Instant::now(); in_flight * 8];
    let slots = begun.len() as u64;
    for _ in 0..in_flight {
        begun[(check.sent() % slots) as usize] = Instant::now();
        client.send(exchange.message.numbered(check.next_number()))?;
    }
    loop {
        let text = client.text().await?;
        let number = (exchange.reply)(text);
        let Some(number) = check.record(number) else { continue };
        check
            .progress
            .latency
            .record(begun[((number - FIRST) % slots) as usize].elapsed());
        if !check.progress.is_over() {
            begun[(check.sent() % slots) as usize] = Instant::now();
            client.send(exchange.message.numbered(check.next_number()))?;
        }
    }
}

async fn send_at_fixed_times(
    mut client: Client,
    first: Instant,
    interval: Duration,
    mut exchange: Exchange,
    check: ReplyCheck,
    longest_wait: &AtomicU64,
) -> io::Result<()> {
    let mut due = first;
    let next = sleep_until(due);
    tokio::pin!(next);
    loop {
        tokio::select! {
            text = client.text() => {
                let number = (exchange.reply)(text?);
                let Some(number) = check.record(number) else { continue };
                let wait = (first + interval.mul_f64((number - FIRST) as f64)).elapsed();
                longest_wait.fetch_max(wait.as_micros() as u64, Ordering::Relaxed);
                check.progress.latency.record(wait);
            }
            () = &mut next => {
                if !check.progress.is_over() {
                    client.send(exchange.message.numbered(check.next_number()))?;
                }
                due = first + interval.mul_f64((check.sent()) as f64);
                if check.progress.is_over() {
                    due = Instant::now() + interval;
                }
                next.as_mut().reset(due);
            }
        }
    }
}

/// The error by which a client's task ended. Clients do not end by themselves.
pub(crate) fn end_of_client(ended: io::Result<()>) -> io::Error {
    ended
        .err()
        .unwrap_or_else(|| io::Error::other("a client ended by itself"))
}
