//! The connector of calls out: resolves a host, checks every address, and connects to one that was
//! checked. A name is never resolved a second time, so it cannot change in between (DNS rebinding).
//! `localhost` and names below it are not resolved at all: no resolver may say what they mean.

use super::guard::{Guard, Refused, is_local};
use hyper::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::rt::TokioIo;
use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;

/// A connection stands within this time, TLS included, or the call fails.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
pub const ADDRESSES_MAX: usize = 8;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The guard refused one of the host's addresses.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The name has no address.
    #[error("{host} does not resolve: {why}")]
    Unresolved {
        /// The name.
        host: String,
        /// Why.
        why: String,
    },
    /// None of the addresses took a connection.
    #[error("{host}: {why}")]
    Failed {
        /// The name.
        host: String,
        /// Why the last one did not.
        why: io::Error,
    },
    /// It took longer than [`CONNECT_TIMEOUT`].
    #[error("no connection within 10 s")]
    TimedOut,
}

/// Finds the addresses of a name: the system's resolver, or a test's.
pub type Resolver = Arc<dyn Fn(&str, u16) -> BoxFuture<Vec<SocketAddr>, io::Error> + Send + Sync>;

/// Opens checked TCP connections.
#[derive(Clone)]
pub struct Guarded {
    guard: Arc<Guard>,
    resolver: Resolver,
}

/// Opens checked connections with TLS where the URL says so, each within [`CONNECT_TIMEOUT`].
#[derive(Clone)]
pub struct Connector {
    inner: HttpsConnector<Guarded>,
}

type BoxError = Box<dyn StdError + Send + Sync>;
type BoxFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl Connector {
    /// A connector behind `guard`.
    #[must_use]
    pub fn new(guard: Arc<Guard>, tls: &rustls::ClientConfig, resolver: Resolver) -> Connector {
        let inner = HttpsConnectorBuilder::new()
            .with_tls_config(tls.clone())
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(Guarded { guard, resolver });
        Connector { inner }
    }
}

impl Service<Uri> for Connector {
    type Response = <HttpsConnector<Guarded> as Service<Uri>>::Response;
    type Error = BoxError;
    type Future = BoxFuture<Self::Response, BoxError>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.inner.call(uri);
        Box::pin(async move {
            let connected = timeout(CONNECT_TIMEOUT, connecting).await;
            connected.unwrap_or_else(|_| Err(ConnectError::TimedOut.into()))
        })
    }
}

impl Service<Uri> for Guarded {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectError;
    type Future = BoxFuture<TokioIo<TcpStream>, ConnectError>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let theirs = self.clone();
        Box::pin(async move {
            let (host, port) = target(&uri)?;
            let addresses = theirs.addresses(&host, port).await?;
            check_all(&theirs.guard, &host, port, &addresses)?;
            let stream = connect(&host, &addresses).await?;
            Ok(TokioIo::new(stream))
        })
    }
}

fn target(uri: &Uri) -> Result<(String, u16), ConnectError> {
    let host = uri.host().ok_or(Refused::Url("the url has no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let known = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    Ok((host, uri.port_u16().unwrap_or(known)))
}

impl Guarded {
    /// What would be connected to, yet to be checked. A resolver's ports do not count.
    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
        let at_port = |ip| SocketAddr::new(ip, port);
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![at_port(ip)]);
        }
        if is_local(host) {
            let allowed = self.guard.loopbacks(host, port)?;
            return Ok(allowed.into_iter().map(at_port).collect());
        }
        let unresolved = |why: String| ConnectError::Unresolved { host: host.to_owned(), why };
        let found = (self.resolver)(host, port).await.map_err(|e| unresolved(e.to_string()))?;
        if found.is_empty() {
            return Err(unresolved("no address".into()));
        }
        let mut addresses = found;
        addresses.iter_mut().for_each(|address| address.set_port(port));
        Ok(addresses)
    }
}

/// The system's resolver.
#[must_use]
pub fn system_resolver() -> Resolver {
    Arc::new(|host, port| {
        let name = (host.to_owned(), port);
        Box::pin(async move { Ok(tokio::net::lookup_host(name).await?.collect()) })
    })
}

/// One refused address refuses the name: which one a connection would take is not ours to say.
fn check_all(
    guard: &Guard,
    host: &str,
    port: u16,
    addresses: &[SocketAddr],
) -> Result<(), Refused> {
    addresses.iter().try_for_each(|address| guard.check_address(host, port, address.ip()))
}

/// Tries the addresses in order; one that does not answer leaves time for the others.
async fn connect(host: &str, addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
    let tried = &addresses[..addresses.len().min(ADDRESSES_MAX)];
    let count = u32::try_from(tried.len()).unwrap_or(1).max(1);
    let share = CONNECT_TIMEOUT / count;
    let mut why = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in tried {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Requests are written whole, so Nagle's algorithm only adds delay.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => why = error,
            Err(_) => why = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(ConnectError::Failed { host: host.to_owned(), why })
}

/// The TLS settings of all calls out: the system's roots.
///
/// A machine without roots still starts and calls plain HTTP; TLS calls then fail by themselves.
///
/// # Errors
/// What rustls refuses.
pub fn tls_config() -> Result<rustls::ClientConfig, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (taken, ignored) = roots.add_parsable_certificates(found.certs);
    if taken == 0 {
        tracing::warn!(target: "net", ignored, "no root certificates: calls over TLS will fail");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_private_address_refuses_the_name() {
        let check = |ips: &[&str], allowed: bool| {
            let address = |ip: &&str| SocketAddr::new(ip.parse().expect(ip), 80);
            let addresses: Vec<_> = ips.iter().map(address).collect();
            let got = check_all(&Guard::default(), "rebound.example", 80, &addresses);
            assert_eq!(got.is_ok(), allowed, "{ips:?}");
        };
        check(&["1.1.1.1", "2606:4700:4700::1111"], true);
        check(&["1.1.1.1", "10.0.0.1"], false);
        check(&["1.1.1.1", "::1"], false);
        check(&["169.254.169.254", "1.1.1.1"], false);
    }

    #[tokio::test]
    async fn addresses_are_the_resolvers_but_for_local_names_and_literals() {
        let guard = Guard::parse(&["localhost", "127.0.0.1"]).expect("a good list");
        let resolver: Resolver = Arc::new(|host, _| {
            assert_eq!(host, "a.example", "only names are resolved");
            Box::pin(async { Ok(vec!["1.1.1.1:9".parse().expect("one")]) })
        });
        let guarded = Guarded { guard: Arc::new(guard), resolver };
        for (host, expected) in [
            ("a.example", Some("[1.1.1.1:81]")),
            ("localhost", Some("[127.0.0.1:81, [::1]:81]")),
            ("x.localhost", Some("[127.0.0.1:81]")),
            ("10.0.0.1", Some("[10.0.0.1:81]")),
            ("::1", Some("[[::1]:81]")),
        ] {
            let got = guarded.addresses(host, 81).await.ok();
            assert_eq!(got.map(|got| format!("{got:?}")).as_deref(), expected, "{host}");
        }
        let none: Resolver = Arc::new(|_, _| Box::pin(async { Ok(Vec::new()) }));
        let guarded = Guarded { resolver: none, ..guarded };
        let error = guarded.addresses("a.example", 81).await.expect_err("no address");
        assert_eq!(error.to_string(), "a.example does not resolve: no address");
    }

    #[test]
    fn a_target_is_read_from_its_uri() {
        for (uri, host, port) in [
            ("http://h.example/x", "h.example", 80),
            ("https://H.example/x", "h.example", 443),
            ("http://[::1]:81/", "::1", 81),
        ] {
            let got = target(&uri.parse().expect(uri)).expect(uri);
            assert_eq!(got, (host.to_owned(), port), "{uri}");
        }
    }
}
