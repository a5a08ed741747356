//! A way to the server that breaks where a test says, at the end of a transaction.

use super::server::{PATIENCE, PORT, Server};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The end of a transaction as it is sent, and what the server says when it is done.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";
const COMMITTED: &[u8] = b"C\0\0\0\x0bCOMMIT\0";

/// What happens to the next transaction's end.
pub(super) enum Cut {
    /// It never reaches the server.
    Before,
    /// The server makes it, and its answer never comes back.
    After,
    /// The client is cut off at once, and the server gets it when the sender of this goes.
    Late(mpsc::Receiver<()>),
}

/// Listens until the test's process ends.
pub(super) struct Proxy {
    dir: TempDir,
    cut: Arc<Mutex<Option<Cut>>>,
    connections: Arc<AtomicU32>,
}

impl Proxy {
    /// In front of that server.
    pub(super) fn before(server: &Server) -> Proxy {
        let dir = TempDir::with_prefix("no-proxy-").expect("a folder");
        let (cut, to) = (Arc::new(Mutex::new(None)), socket(server.folder()));
        let listener = UnixListener::bind(socket(dir.path())).expect("a socket");
        let connections = Arc::new(AtomicU32::new(0));
        let (theirs, count) = (Arc::clone(&cut), Arc::clone(&connections));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, UnixStream::connect(&to)) else { continue };
                count.fetch_add(1, Ordering::Relaxed);
                forward(client, server, &theirs);
            }
        });
        Proxy { dir, cut, connections }
    }

    /// The folder of its socket.
    pub(super) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Connections that were made so far.
    pub(super) fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Cuts the next transaction so.
    pub(super) fn cut(&self, cut: Cut) {
        *self.cut.lock().unwrap_or_else(PoisonError::into_inner) = Some(cut);
    }

    /// Waits until a transaction was cut.
    pub(super) fn wait(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.cut.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            assert!(Instant::now() < deadline, "nothing was cut");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join(format!(".s.PGSQL.{PORT}"))
}

fn forward(client: UnixStream, server: UnixStream, cut: &Arc<Mutex<Option<Cut>>>) {
    let both = || {
        let clone = |stream: &UnixStream| stream.try_clone().expect("a descriptor");
        (clone(&client), clone(&server))
    };
    let ((up_from, up_to), (down_to, down_from), cut) = (both(), both(), Arc::clone(cut));
    let silent = Arc::new(Mutex::new(false));
    let hush = Arc::clone(&silent);
    std::thread::spawn(move || up(up_from, up_to, &cut, &hush));
    std::thread::spawn(move || down(down_from, down_to, &silent));
}

/// From the client to the server, until either is gone or a transaction is cut.
fn up(
    mut client: UnixStream,
    mut server: UnixStream,
    cut: &Mutex<Option<Cut>>,
    hush: &Mutex<bool>,
) {
    let (mut held, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    while let Ok(len @ 1..) = client.read(&mut piece) {
        held.extend_from_slice(&piece[..len]);
        let end = held.windows(COMMIT.len()).position(|window| window == COMMIT);
        let next = end.and_then(|_| cut.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let (Some(end), Some(next)) = (end, next) {
            let _ = server.write_all(&held[..end]);
            match next {
                Cut::Before => {}
                Cut::After => {
                    *hush.lock().unwrap_or_else(PoisonError::into_inner) = true;
                    let _ = server.write_all(&held[end..]);
                    // The other direction ends both once it is done.
                    return;
                }
                Cut::Late(let_go) => {
                    let _ = client.shutdown(Shutdown::Both);
                    let _ = let_go.recv();
                    let _ = server.write_all(&held[end..]);
                    return;
                }
            }
            break;
        }
        // What may be the beginning of an end waits for the rest of it.
        let begins = |len: &usize| held.ends_with(&COMMIT[..*len]);
        let kept = (1..COMMIT.len()).rev().find(begins).unwrap_or(0);
        let sent: Vec<u8> = held.drain(..held.len() - kept).collect();
        if server.write_all(&sent).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

/// From the server to the client, until either is gone or an answer is to be lost.
fn down(mut server: UnixStream, mut client: UnixStream, silent: &Mutex<bool>) {
    let (mut heard, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    while let Ok(len @ 1..) = server.read(&mut piece) {
        if *silent.lock().unwrap_or_else(PoisonError::into_inner) {
            heard.extend_from_slice(&piece[..len]);
            if heard.windows(COMMITTED.len()).any(|window| window == COMMITTED) {
                break;
            }
        } else if client.write_all(&piece[..len]).is_err() {
            // The server goes on with what it has.
            return;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}
