//! plugnode with the same handler in native Rust: shows the share of WebAssembly in a figure.
//!
//! The handler never blocks, so it is called in place like the component: on the task of its instance, without its own thread.
//! Allocator, threads, settings and instances are those of `plugnode run` on the memory transport.

use ::plugnode::embed::{AppNode, IoNode, Native, config};
use ::plugnode::http::{self, HttpSettings};
use ::plugnode::shutdown::Shutdown;
use ::plugnode::transport::{Memory, TransportSettings};
use benchmark::Benchmark;

use super::block_on;
use super::plugnode::{BUCKET, CONNECTIONS, INSTANCES, PARTITIONS};

/// Runs the server in this process.
pub(super) fn serve() {
    block_on(async {
        let shutdown = Shutdown::new();
        let settings = TransportSettings {
            partitions: PARTITIONS,
            ..TransportSettings::default()
        };
        let transport = Memory::new(settings);
        let mut app = config::App::default();
        app.handler.instances = INSTANCES;
        app.handler.grants.keyvalue = vec![BUCKET.into()];
        let _app_node = AppNode::builder(transport.clone())
            .native_app(app, Native::in_place::<Benchmark>())
            .start(&shutdown)
            .await
            .expect("cannot start the native handler");
        let listener = http::bind("127.0.0.1:0").await.expect("cannot bind a port");
        let address = listener.local_addr().expect("the socket has an address");
        let io_node = IoNode::builder(transport)
            .namespace("/")
            .listens_at(address)
            .start(&shutdown)
            .await
            .expect("cannot join the memory transport");
        eprintln!("listening on http://{address}");
        let settings = HttpSettings {
            max_connections: CONNECTIONS,
            ..HttpSettings::default()
        };
        io_node
            .serve(listener, &settings)
            .await
            .expect("the settings name no certificate");
    });
}
