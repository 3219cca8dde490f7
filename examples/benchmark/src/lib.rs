//! The handler of `make bench`, used as a component and natively in a program that embeds plugnode.
//!
//! Each event name selects one kind of work, listed in [`Benchmark::on_message`]. All servers in the benchmark answer it with the
//! same text. Forwarded arguments are not parsed. `count` needs bucket `default`.

mod order;

use std::time::{Duration, UNIX_EPOCH};

use plugnode_sdk::prelude::*;
use plugnode_sdk::schedule::Due;
use plugnode_sdk::{all, kv, schedule, to};

pub use order::Order;

/// The bucket of the clients' counters.
const BUCKET: &str = "default";
/// The kind of the timers.
const TICK: &str = "benchmark.tick/1";

/// The handler.
#[derive(Default)]
pub struct Benchmark;

impl Handler for Benchmark {
    fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
        match message.event.as_str() {
            // (…): sent back to the client.
            "echo" => client.emit("echo", &message.payload)?,
            // (…): sent to every client.
            "all" => all().emit("all", &message.payload)?,
            // (room, …): sent to every client of that channel.
            "room" => to(message.arg::<String>(0)?).emit("room", &message.payload)?,
            // (room): joins the channel.
            "join" => {
                client.join(message.arg::<String>(0)?)?;
                message.ack("ok")?;
            }
            // (order): sent back with `count` incremented.
            "json" => {
                let mut order: Order = message.arg(0)?;
                order.count += 1;
                client.emit("json", &order)?;
            }
            // (n): sends the number of `count` events of this client, and n.
            "count" => {
                let bucket = kv::open(BUCKET)?;
                let count = bucket.get::<u64>(client.id())?.unwrap_or_default() + 1;
                bucket.set(client.id(), &count)?;
                client.emit("count", (count, message.arg::<u64>(0)?))?;
            }
            // (ms): sets a periodic timer of the client, whose events it receives.
            "every" => {
                let period = Duration::from_millis(message.arg(0)?);
                schedule::of_client().every("tick", period, TICK, &())?;
                message.ack("ok")?;
            }
            _ => {}
        }
        Ok(())
    }

    fn on_timer(&mut self, due: &Due) -> Result {
        if let Some(client) = &due.client {
            let since_epoch = due.at.duration_since(UNIX_EPOCH).unwrap_or_default();
            client.emit("tick", (since_epoch.as_millis() as u64, due.missed))?;
        }
        Ok(())
    }
}

plugnode_sdk::export!(Benchmark);

#[cfg(test)]
mod tests {
    use super::*;
    use plugnode_sdk::Payload;
    use plugnode_sdk::test::{Kit, Sent};

    fn kit() -> Kit<Benchmark> {
        let mut app = Kit::new().with_value(BUCKET, "of nobody", 0);
        app.connect("ada");
        app.connect("bob");
        app
    }

    #[test]
    fn echo_keeps_the_exact_text() {
        let mut app = kit();
        let odd = Payload {
            json: r#"[ 1.0e2, "\u0041" ]"#.into(),
            attachments: Vec::new(),
        };
        app.message("ada", "echo", &odd);
        assert_eq!(app.sent_to("ada")[0].event, "echo");
        assert_eq!(app.sent_to("ada")[0].payload.json, odd.json);
        assert!(app.sent_to("bob").is_empty());
    }

    #[test]
    fn all_reaches_everyone_and_room_its_members() {
        let mut app = kit();
        app.message("ada", "all", ("x", 1));
        let answer = app.ask("bob", "join", "red").expect("a join is acknowledged");
        assert_eq!(answer.json, r#"["ok"]"#);
        app.message("ada", "room", ("red", 2));
        assert_eq!(app.sent_to("ada"), [Sent::new("all", ("x", 1))]);
        let both = [Sent::new("all", ("x", 1)), Sent::new("room", ("red", 2))];
        assert_eq!(app.sent_to("bob"), both);
    }

    #[test]
    fn json_increments_the_count_of_an_order() {
        let mut app = kit();
        let order = Order::numbered(7);
        app.message("ada", "json", &order);
        let text = app.sent_to("ada")[0].payload.json.clone();
        assert_eq!(
            text,
            format!("[{}]", order.to_json().replace(r#""count":1,"#, r#""count":2,"#))
        );
    }

    #[test]
    fn counts_per_client() {
        let mut app = kit();
        for n in [10, 11] {
            app.message("ada", "count", n);
        }
        app.message("bob", "count", 12);
        assert_eq!(
            app.sent_to("ada"),
            [Sent::new("count", (1, 10)), Sent::new("count", (2, 11))]
        );
        assert_eq!(app.sent_to("bob"), [Sent::new("count", (1, 12))]);
    }
}
