//! The cost of WebAssembly: the same handler as a component and as native Rust, in the same host, on the memory transport. Both
//! are called in place, so that only the execution of the handler differs.

use plugnode_tests::sequence::FIRST;

use super::echo::{CLIENTS, IN_FLIGHT};
use crate::exchange::{Exchange, closed_loop};
use crate::numbered_text::{NumberedText, number};
use crate::peers::{self, Handler};
use crate::rounds::{Contender, Row, RunSize, in_turn};

const COUNT: &[u8] = br#"42["count","#;

pub(super) async fn run(size: RunSize) -> anyhow::Result<Vec<Row>> {
    let contenders = [
        Contender::start("native", async |folder| peers::memory(folder, Handler::Native).await).await,
        Contender::start("memory", async |folder| peers::memory(folder, Handler::Wasm).await).await,
    ];
    let events = [("echo", Exchange::echo()), ("json", json()), ("count", count())];
    let mut rows = Vec::new();
    for (event, exchange) in events {
        let rows_of_event = in_turn(size, &contenders, async |_, server| {
            let load = closed_loop(server, CLIENTS, IN_FLIGHT, &exchange).await?;
            Ok(load.throughput_round(server, size, "messages").await)
        });
        rows.extend(
            rows_of_event
                .await?
                .into_iter()
                .map(|row| row.with_variant(event, event)),
        );
    }
    Ok(rows)
}

/// A kilobyte of JSON, which is parsed, changed, and serialized.
fn json() -> Exchange {
    let placeholder = "#".repeat(10);
    let order = |count: &str| {
        let order = peers::order(FIRST).replace(&FIRST.to_string(), &placeholder);
        NumberedText::new(&format!(r#"42["json",{}]"#, order.replace(r#""count":1,"#, count)))
    };
    Exchange::new(order(r#""count":1,"#), order(r#""count":2,"#))
}

/// A counter in the key-value store. The reply has the count, and so shows a message that is counted twice.
fn count() -> Exchange {
    Exchange::with_reply(NumberedText::new(r#"42["count",##########]"#), |text| {
        let args = text.strip_prefix(COUNT)?.strip_suffix(b"]")?;
        let comma = args.iter().position(|byte| *byte == b',')?;
        let (count, sent) = (number(&args[..comma])?, number(&args[comma + 1..])?);
        (count == sent + 1 - FIRST).then_some(sent)
    })
}
