//! plugnode with the same handler in native Rust: what is left of a figure when WebAssembly is taken away.
//!
//! It never blocks, so it is called in place, as the component is: on the task of its instance, with no thread of its own. All
//! else is as `plugnode run` has it on the memory transport: allocator, threads, settings, and instances.

use ::plugnode::embed::{AppNode, IoNode, Native, config};
use ::plugnode::http::{self, HttpSettings};
use ::plugnode::shutdown::Shutdown;
use ::plugnode::transport::{Memory, MemorySettings};
use benchmark::Benchmark;

use super::block_on;
use super::plugnode::{BUCKET, CONNECTIONS, INSTANCES, PARTITIONS};

/// Is the server.
pub(super) fn serve() {
    block_on(async {
        let shutdown = Shutdown::new();
        let settings = MemorySettings {
            partitions: PARTITIONS,
            ..MemorySettings::default()
        };
        let transport = Memory::new(settings);
        let app = config::App {
            instances: INSTANCES,
            grants: config::Grants {
                keyvalue: vec![BUCKET.into()],
                ..config::Grants::default()
            },
            ..config::App::default()
        };
        let _app_node = AppNode::builder(transport.clone())
            .native_app(app, Native::in_place::<Benchmark>())
            .start(&shutdown)
            .await
            .expect("a native handler can be started");
        let listener = http::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let io_node = IoNode::builder(transport)
            .namespace("/")
            .listens_at(address)
            .start(&shutdown)
            .await
            .expect("it joins what is in memory");
        eprintln!("listening on http://{address}");
        let settings = HttpSettings {
            max_connections: CONNECTIONS,
            ..HttpSettings::default()
        };
        io_node.serve(listener, &settings).await;
    });
}
