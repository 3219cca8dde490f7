//! The cost of an answer by a component, from socket to component and back: `wasmtime serve` over HTTP and plugnode over
//! Socket.IO, each beside a bare server of the same protocol that answers without a component.

use crate::exchange::{Exchange, closed_loop};
use crate::numbered_text::NumberedText;
use crate::peers::{self, Handler, Instances, Wasmtime};
use crate::requests;
use crate::rounds::{Contender, Row, RunSize, in_turn};

const CLIENTS: usize = 100;

pub(super) async fn run(size: RunSize) -> anyhow::Result<Vec<Row>> {
    let wasmtime = Wasmtime::find()?;
    let serve =
        async |key, instances| Contender::start(key, async |folder| wasmtime.serve(folder, instances).await).await;
    let http_servers = [
        Contender::start("http", peers::hyper).await,
        serve("serve", Instances::New).await,
        serve("serve, kept", Instances::Reused).await,
    ];
    let socket_io_servers = [
        Contender::start("bare", peers::bare).await,
        Contender::start("memory", async |folder| peers::memory(folder, Handler::Wasm).await).await,
    ];
    let mut rows = in_turn(size, &http_servers, async |_, server| {
        let load = requests::closed_loop(server, CLIENTS, &NumberedText::object()).await?;
        Ok(load.latency_round(server, size, "messages").await)
    })
    .await?;
    let socket_io_rows = in_turn(size, &socket_io_servers, async |_, server| {
        let load = closed_loop(server, CLIENTS, 1, &Exchange::echo()).await?;
        Ok(load.latency_round(server, size, "messages").await)
    });
    rows.extend(socket_io_rows.await?);
    Ok(rows)
}
