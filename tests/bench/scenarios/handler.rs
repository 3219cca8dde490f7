//! What WebAssembly costs: the same handler as a component and as native Rust in the same host, on the memory transport. Both
//! are called in place, so that what differs is what runs the code of the handler.

use plugnode_tests::sequence::FIRST;

use super::echo::{CLIENTS, IN_FLIGHT};
use crate::peers::{self, Handler};
use crate::rounds::{Entrant, Extent, Row, in_turn};
use crate::talk::{Talk, steady};
use crate::text::{Text, number};

const COUNT: &[u8] = br#"42["count","#;

pub(super) async fn run(extent: Extent) -> anyhow::Result<Vec<Row>> {
    let entrants = [
        Entrant::start("native", async |folder| peers::memory(folder, Handler::Native).await).await,
        Entrant::start("memory", async |folder| peers::memory(folder, Handler::Wasm).await).await,
    ];
    let words = [("echo", Talk::echo()), ("json", json()), ("count", count())];
    let mut rows = Vec::new();
    for (word, talk) in words {
        let of_word = in_turn(extent, &entrants, async |_, server| {
            let crowd = steady(server, CLIENTS, IN_FLIGHT, &talk).await?;
            Ok(crowd.round(server, extent, "messages").await)
        });
        rows.extend(of_word.await?.into_iter().map(|row| row.called(word, word)));
    }
    Ok(rows)
}

/// A kilobyte of JSON that is parsed, changed, and written again.
fn json() -> Talk {
    let place = "#".repeat(10);
    let order = |count: &str| {
        let order = peers::order(FIRST).replace(&FIRST.to_string(), &place);
        Text::new(&format!(r#"42["json",{}]"#, order.replace(r#""count":1,"#, count)))
    };
    Talk::new(order(r#""count":1,"#), order(r#""count":2,"#))
}

/// A counter in the key-value store. It says how many it has counted, and so whether one was counted twice.
fn count() -> Talk {
    Talk::answered(Text::new(r#"42["count",##########]"#), |text| {
        let args = text.strip_prefix(COUNT)?.strip_suffix(b"]")?;
        let comma = args.iter().position(|byte| *byte == b',')?;
        let (count, asked) = (number(&args[..comma])?, number(&args[comma + 1..])?);
        (count == asked + 1 - FIRST).then_some(asked)
    })
}
