//! Over TLS: what is spoken, who is refused, and how a certificate is changed under way.

use super::*;
use crate::tls::{ClientCertificates, Identity, TlsFiles, TlsServed};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use tempfile::TempDir;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const PING: &str = "GET /ping HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Certificate and key of one side, PEM.
struct Pair {
    cert: String,
    key: String,
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("no name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("signed")
}

fn pair(by: &Issuer<'_, KeyPair>) -> Pair {
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let key = KeyPair::generate().expect("a key");
    let cert = params.signed_by(&key, by).expect("signed");
    Pair { cert: cert.pem(), key: key.serialize_pem() }
}

/// A folder from which a server is served.
struct Files {
    _dir: TempDir,
    files: TlsFiles,
}

impl Files {
    fn new(pair: &Pair, clients: &str) -> Files {
        let dir = TempDir::with_prefix("no-tls-").expect("a folder");
        let at = |name: &str| dir.path().join(name);
        let files = TlsFiles {
            cert: at("cert.pem"),
            key: at("key.pem"),
            client_ca: Some(at("ca.pem")),
            client_certs: ClientCertificates::Workers,
        };
        fs::write(at("ca.pem"), clients).expect("written");
        let files = Files { _dir: dir, files };
        files.write(pair);
        files
    }

    fn write(&self, pair: &Pair) {
        fs::write(&self.files.cert, &pair.cert).expect("written");
        fs::write(&self.files.key, &pair.key).expect("written");
        fs::set_permissions(&self.files.key, Permissions::from_mode(0o600)).expect("ours");
    }

    fn load(&self) -> Identity {
        Identity::load(&self.files, 1_764_038_329).expect("sound")
    }
}

/// What serves with a certificate of this authority, and takes clients with one of it.
fn served(ca: &CertifiedIssuer<'static, KeyPair>) -> (Files, TlsServed, TlsSource) {
    let files = Files::new(&pair(ca), &ca.pem());
    let (served, source) = TlsServed::new(&files.load());
    (files, served, source)
}

/// A client that trusts this authority, and shows a certificate when it has one.
struct Client(TlsConnector);

impl Client {
    fn new(trusts: &str, shows: Option<&Pair>, speaks: &[&[u8]]) -> Client {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(trusts.as_bytes()).expect("PEM")).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match shows {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let cert = CertificateDer::from_pem_slice(pair.cert.as_bytes()).expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(vec![cert], key).expect("a pair")
            }
        };
        config.alpn_protocols = speaks.iter().map(|name| name.to_vec()).collect();
        Client(TlsConnector::from(Arc::new(config)))
    }

    async fn try_connect(&self, addr: std::net::SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").expect("a name");
        self.0.connect(name, connect(addr).await).await
    }

    async fn connect(&self, addr: std::net::SocketAddr) -> TlsStream<TcpStream> {
        self.try_connect(addr).await.expect("a handshake")
    }

    /// The answer to one request after which the connection closes.
    async fn ask(&self, addr: std::net::SocketAddr, path: &str) -> io::Result<String> {
        let mut stream = self.try_connect(addr).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }
}

async fn pinged(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(PING.as_bytes()).await.expect("writes");
    let mut bytes = [0_u8; 1_024];
    let len = stream.read(&mut bytes).await.expect("reads");
    assert!(bytes[..len].starts_with(b"HTTP/1.1 200"));
}

#[tokio::test(start_paused = true)]
async fn http_of_both_versions_is_spoken_and_says_to_come_back_over_tls() {
    let ca = authority();
    let (_files, _served, source) = served(&ca);
    with_tls(Some(source), ServerLimits::default(), |addr, _, _| async move {
        let trusts = ca.pem();
        let both: [&[u8]; 2] = [b"http/1.1", b"h2"];
        for speaks in [&[][..], &both[..1], &both] {
            // The server's choice counts: with h2 on offer it is h2.
            let client = Client::new(&trusts, None, speaks);
            let stream = client.connect(addr).await;
            let alpn = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            let expected: Option<&[u8]> = match speaks.len() {
                0 => None,
                1 => Some(b"http/1.1"),
                _ => Some(b"h2"),
            };
            assert_eq!(alpn.as_deref(), expected);
        }
        let plain = Client::new(&trusts, None, &[b"http/1.1"]);
        for path in ["/ping", "/no", "/large"] {
            let answer = plain.ask(addr, path).await.expect("an answer");
            let hsts = "strict-transport-security: max-age=31536000";
            assert!(answer.contains(hsts), "{path}");
            assert!(path != "/large" || LARGE_BYTES < answer.len(), "all of it comes");
        }
        let mut stream = plain.connect(addr).await;
        stream.write_all(b"GARBAGE\r\n\r\n").await.expect("writes");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an end that is told");
        assert!(text.starts_with("HTTP/1.1 400") && text.contains("strict-transport"), "{text}");
        let (_, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(text.contains(&format!("content-length: {}", body.len())), "{text}");

        let io = TokioIo::new(Client::new(&trusts, None, &[b"h2"]).connect(addr).await);
        let executor = LocalExecutor(Rc::new(Costs::new(Default::default())));
        let shaken = hyper::client::conn::http2::handshake(executor, io).await;
        let (mut sender, connection) = shaken.expect("HTTP/2");
        let connection = tokio::task::spawn_local(connection);
        let request = hyper::Request::get("https://localhost/ping").body(OutBody::empty());
        let response = sender.send_request(request.expect("a request")).await.expect("an answer");
        assert_eq!((response.status().as_u16(), response.version()), (200, hyper::Version::HTTP_2));
        assert!(response.headers().contains_key("strict-transport-security"));
        drop((sender, response));
        connection.abort();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_no_tls_of_today_is_refused() {
    let ca = authority();
    let (_files, _served, source) = served(&ca);
    with_tls(Some(source), ServerLimits::default(), |addr, core, _| async move {
        let plain = sent(addr, PING).await;
        assert!(plain.starts_with("HTTP/1.1 400") && plain.contains("speaks TLS"), "{plain}");
        let (head, body) = plain.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());

        // A hello of TLS 1.1 with one cipher suite: answered by the alert protocol_version.
        let mut hello = vec![1, 0, 0, 51, 3, 2];
        hello.extend([7; 32]);
        hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
        // One extension: signatures by ECDSA with SHA-256.
        hello.extend([0, 8, 0, 13, 0, 4, 0, 2, 4, 3]);
        let mut record = vec![22, 3, 1, 0, hello.len() as u8];
        record.extend(hello);
        let mut socket = connect(addr).await;
        socket.write_all(&record).await.expect("writes");
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
        assert!(answer.starts_with(&[21, 3]) && answer.ends_with(&[2, 70]), "{answer:?}");

        // Silence and half a hello have as long as a head.
        for piece in [&[][..], &record[..9]] {
            let begun = Instant::now();
            let mut socket = connect(addr).await;
            socket.write_all(piece).await.expect("writes");
            assert_eq!(to_end(&mut socket).await, "");
            assert!(matches!(begun.elapsed().as_secs(), 5..=6), "{:?}", begun.elapsed());
        }
        until(|| core.stats.connections() == 0).await;
        let trusting = Client::new(&ca.pem(), None, &[]);
        assert!(trusting.ask(addr, "/ping").await.expect("served").starts_with("HTTP/1.1 200"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn handshakes_count_as_connections() {
    let ca = authority();
    let (_files, _served, source) = served(&ca);
    let limits = ServerLimits { connections_max: 2, ..ServerLimits::default() };
    with_tls(Some(source), limits, |addr, core, _| async move {
        let silent = [connect(addr).await, connect(addr).await];
        until(|| core.stats.connections() == 2).await;
        assert_eq!(sent(addr, "").await, "", "no plain text where TLS is due");
        assert_eq!(core.stats.connections_refused(), 1);
        drop(silent);
        until(|| core.stats.connections() == 0).await;
        let trusting = Client::new(&ca.pem(), None, &[]);
        assert!(trusting.ask(addr, "/ping").await.is_ok());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_needed_where_the_routes_say_so() {
    let (ca, other) = (authority(), authority());
    let (_files, _served, source) = served(&ca);
    with_tls(Some(source), ServerLimits::default(), |addr, _, _| async move {
        let (trusts, ours, theirs) = (ca.pem(), pair(&ca), pair(&other));
        for (shows, path, status) in [
            (None, "/ping", "200"),
            (None, "/certified/ping", "403"),
            (Some(&ours), "/ping", "200"),
            (Some(&ours), "/certified/ping", "200"),
        ] {
            let client = Client::new(&trusts, shows, &[b"http/1.1"]);
            let answer = client.ask(addr, path).await.expect("an answer");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
        }
        let stranger = Client::new(&trusts, Some(&theirs), &[b"http/1.1"]);
        for path in ["/ping", "/certified/ping"] {
            assert!(stranger.ask(addr, path).await.is_err(), "of an authority that we do not know");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_new_certificate_is_for_new_connections() {
    let (old, new) = (authority(), authority());
    let (files, served, source) = served(&old);
    with_tls(Some(source), ServerLimits::default(), |addr, core, _| async move {
        let trusts_old = Client::new(&old.pem(), None, &[b"http/1.1"]);
        let trusts_new = Client::new(&new.pem(), None, &[b"http/1.1"]);
        let mut open = trusts_old.connect(addr).await;
        pinged(&mut open).await;
        assert!(trusts_new.try_connect(addr).await.is_err());
        files.write(&pair(&new));
        served.replace(&files.load());
        pinged(&mut open).await;
        assert!(trusts_new.ask(addr, "/ping").await.is_ok());
        assert!(trusts_old.try_connect(addr).await.is_err());
        pinged(&mut open).await;
        drop(open);
        until(|| core.stats.connections() == 0).await;
    })
    .await;
}
