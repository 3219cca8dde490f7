//! Names of nodes in the cluster.

use plugnode_message::NodeId;

/// The configured name, or a unique one made of role, host name and process id.
pub fn node_name(configured: Option<&str>, role: &str) -> NodeId {
    if let Some(name) = configured {
        return name.into();
    }
    format!("{role}-{}-{}", host_name(), std::process::id()).into()
}

/// The host name of this machine, or `node` if unknown.
pub fn host_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = host.or_else(|| std::env::var("HOSTNAME").ok());
    let host = host.as_deref().map(str::trim).filter(|host| !host.is_empty());
    host.unwrap_or("node").to_owned()
}
