//! The value of each key that is given nowhere. The fields say the same in words, and the example file in its own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{
    Admin, App, AppNode, Build, Config, Dispatch, Frontend, Grants, Http, IoNode, Limits, Log, LogFormat, LogLevel,
    Memory, Role, Shutdown, Size, Transport,
};

impl Default for Config {
    fn default() -> Self {
        Self {
            roles: vec![Role::Frontend, Role::IoNode, Role::AppNode],
            http: Http::default(),
            frontend: Frontend::default(),
            io_node: IoNode::default(),
            app_node: AppNode::default(),
            transport: Transport::default(),
            admin: Admin::default(),
            memory: Memory::default(),
            shutdown: Shutdown::default(),
            log: Log::default(),
            build: Build::default(),
            apps: Vec::new(),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:8080".into(),
            max_connections: 10_000,
            max_connections_per_address: None,
            header_timeout_ms: 10_000,
            body_timeout_ms: 10_000,
            write_timeout_ms: 20_000,
            tls_cert: None,
            tls_key: None,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
        }
    }
}

impl Default for Frontend {
    fn default() -> Self {
        Self {
            static_dir: "public".into(),
            client_config_url: "/config.js".into(),
            flash_policy_listen: None,
            io_servers: Vec::new(),
        }
    }
}

impl Default for AppNode {
    fn default() -> Self {
        Self {
            name: None,
            cache_dir: None,
            max_instances: 256,
            attempts: 3,
            retry_delay_ms: 100,
            kept_releases: plugnode_release::DEFAULT_KEPT_RELEASES,
        }
    }
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            url: "memory:".into(),
            prefix: "plugnode".into(),
            partitions: 64,
            shards: 1,
            backlog: 10_000,
            backlog_bytes: Size(64_000_000),
            client_backlog: 256,
            client_backlog_bytes: Size(4_000_000),
            outbox: 100_000,
            outbox_bytes: Size(64_000_000),
            dead_letters: 10_000,
            dead_letters_bytes: Size(64_000_000),
            bucket_bytes: Size(plugnode_transport::BUCKET_BYTES as u64),
            timers: 100_000,
            client_timers: 100,
            max_component: Size(64_000_000),
            lease_ms: 3_000,
            wait_replicas: 0,
            wait_aof: false,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            lame_duck_ms: 2_000,
            deadline_ms: 10_000,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: LogLevel::Info,
        }
    }
}

impl Default for App {
    fn default() -> Self {
        Self {
            namespace: "/".into(),
            component: PathBuf::new(),
            watch: false,
            instances: 4,
            dispatch: Dispatch::RoundRobin,
            admission: false,
            admission_timeout_ms: 5_000,
            failure_acks: true,
            limits: Limits::default(),
            grants: Grants::default(),
            config: BTreeMap::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: Size(64_000_000),
            time_ms: 1_000,
            commands: 10_000,
            bytes: Size(16_000_000),
            payload: Size(4_000_000),
            attachments: 10,
            value: Size(1_000_000),
            snapshot: Size(16_000_000),
        }
    }
}
