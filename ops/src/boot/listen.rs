//! Takes the address before anything else is opened: an address in use is the commonest mistake.

use crate::config::Config;
use crate::error::{Error, Result};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind as bind_fd, listen, socket_with, sockopt,
};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1_024;

/// One listener for each net core. With several, the kernel spreads connections over them.
///
/// # Errors
/// [`Error::AddressInUse`], or what else the system said about the address.
pub(super) fn bind(config: &Config) -> Result<Vec<TcpListener>> {
    let addr = config.service.listen;
    // Without sharing first: so that another process on the address is noticed.
    let first = TcpListener::bind(addr).map_err(|error| refused(addr, error))?;
    // The library asks for 128; past it a client's connect waits a second, a health check's too.
    listen(&first, BACKLOG).map_err(|error| refused(addr, error.into()))?;
    if config.engine.net_cores == 1 {
        return Ok(vec![first]);
    }
    let addr = first.local_addr().map_err(|error| refused(addr, error))?;
    drop(first);
    let shared = (0..config.engine.net_cores).map(|_| bind_shared(addr));
    shared.collect::<io::Result<_>>().map_err(|error| refused(addr, error))
}

/// Where the listeners listen, with the port that was found.
///
/// # Errors
/// What the system said.
pub(super) fn address(listeners: &[TcpListener]) -> Result<SocketAddr> {
    let first = listeners.first().expect("there is a net core");
    first.local_addr().map_err(|source| Error::File { path: "the listener".into(), source })
}

/// The URL by which other machines reach who listens at `url`: by the host's name where it listens
/// on every address.
pub(super) fn advertised(url: &str) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    ["//0.0.0.0:", "//[::]:"]
        .iter()
        .fold(url.to_owned(), |url, every| url.replace(every, &format!("//{host}:")))
}

fn bind_shared(addr: SocketAddr) -> io::Result<TcpListener> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind_fd(&socket, &addr)?;
    listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

fn refused(addr: SocketAddr, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => Error::AddressInUse { addr },
        _ => Error::Address { addr, source: error },
    }
}
