//! What it costs to be answered by a component, with all that brings a message to it and the answer back: `wasmtime serve` over
//! HTTP and plugnode over Socket.IO, each beside a bare server of the same protocol that answers by itself.

use crate::peers::{self, Handler, Instances, Wasmtime};
use crate::requests;
use crate::rounds::{Entrant, Extent, Row, in_turn};
use crate::talk::{Talk, steady};
use crate::text::Text;

const CLIENTS: usize = 100;

pub(super) async fn run(extent: Extent) -> anyhow::Result<Vec<Row>> {
    let wasmtime = Wasmtime::find()?;
    let serve =
        async |key, instances| Entrant::start(key, async |folder| wasmtime.serve(folder, instances).await).await;
    let by_http = [
        Entrant::start("http", peers::http).await,
        serve("serve", Instances::New).await,
        serve("serve, kept", Instances::Kept).await,
    ];
    let by_socket_io = [
        Entrant::start("bare", peers::bare).await,
        Entrant::start("memory", async |folder| peers::memory(folder, Handler::Wasm).await).await,
    ];
    let mut rows = in_turn(extent, &by_http, async |_, server| {
        let crowd = requests::steady(server, CLIENTS, &Text::object()).await?;
        Ok(crowd.unhurried_round(server, extent, "messages").await)
    })
    .await?;
    let others = in_turn(extent, &by_socket_io, async |_, server| {
        let crowd = steady(server, CLIENTS, 1, &Talk::echo()).await?;
        Ok(crowd.unhurried_round(server, extent, "messages").await)
    });
    rows.extend(others.await?);
    Ok(rows)
}
