//! A way to PostgreSQL that can be cut, as a network is: what is under way is neither delivered nor
//! refused, and nobody is told.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use tempfile::TempDir;

/// Listens in a folder of its own until the test's process ends.
pub(crate) struct Way {
    dir: TempDir,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    is_cut: Mutex<bool>,
    bell: Condvar,
}

impl Gate {
    /// Waits while the way is cut.
    fn pass(&self) {
        let is_cut = self.is_cut.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.bell.wait_while(is_cut, |is_cut| *is_cut));
    }

    fn set(&self, is_cut: bool) {
        *self.is_cut.lock().unwrap_or_else(PoisonError::into_inner) = is_cut;
        self.bell.notify_all();
    }
}

impl Way {
    /// To the server whose socket is in `folder`.
    pub(crate) fn to(folder: &Path, port: u16) -> Way {
        let dir = TempDir::with_prefix("no-way-").expect("a folder");
        let to = socket(folder, port);
        let listener = UnixListener::bind(socket(dir.path(), port)).expect("a socket");
        let gate = Arc::new(Gate::default());
        let theirs = Arc::clone(&gate);
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let (gate, to) = (Arc::clone(&theirs), to.clone());
                std::thread::spawn(move || {
                    gate.pass();
                    let Ok(far) = UnixStream::connect(to) else { return };
                    carry(&near, &far, &gate);
                    carry(&far, &near, &gate);
                });
            }
        });
        Way { dir, gate }
    }

    /// The folder of its socket.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Lets nothing through.
    pub(crate) fn cut(&self) {
        self.gate.set(true);
    }

    /// Lets through what waits, and all that comes.
    pub(crate) fn mend(&self) {
        self.gate.set(false);
    }
}

fn socket(folder: &Path, port: u16) -> PathBuf {
    folder.join(format!(".s.PGSQL.{port}"))
}

fn carry(from: &UnixStream, to: &UnixStream, gate: &Arc<Gate>) {
    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
    let gate = Arc::clone(gate);
    std::thread::spawn(move || {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(len @ 1..) = from.read(&mut bytes) {
            gate.pass();
            if to.write_all(&bytes[..len]).is_err() {
                break;
            }
        }
        gate.pass();
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}
