//! Socket options of connections.

use redis::io::tcp::TcpSettings;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisResult};

/// Connection info for an address.
pub(crate) fn to_info(address: ConnectionAddr) -> RedisResult<ConnectionInfo> {
    Ok(address.into_connection_info()?.set_tcp_settings(tcp()))
}

/// TCP_NODELAY: commands are small and latency matters.
pub(crate) fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}
