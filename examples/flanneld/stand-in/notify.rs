//! sd_notify(3).

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use anyhow::{Context as _, Result};

/// Tells systemd, if it wants to hear. Not being heard is for systemd to judge, by its timeout: it is only logged.
pub(crate) fn send(message: &str) {
    let Ok(socket) = std::env::var("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = deliver(&socket, message) {
        crate::log(format_args!("{error:#}"));
    }
}

fn deliver(socket: &str, message: &str) -> Result<()> {
    let telling = || format!("telling systemd at `{socket}`");
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(socket),
    };
    let datagram = UnixDatagram::unbound().with_context(telling)?;
    datagram
        .send_to_addr(message.as_bytes(), &address.with_context(telling)?)
        .with_context(telling)?;
    Ok(())
}
