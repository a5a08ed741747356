//! An address that stays while nodes come and go: what is sent there is forwarded to the node of
//! the moment, and refused while there is none.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A running forwarder. Its threads end with the process.
pub(crate) struct Forward {
    url: String,
    to: Arc<Mutex<String>>,
}

impl Forward {
    /// Forwards to this address, host and port.
    pub(crate) fn start(to: &str) -> Forward {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let to = Arc::new(Mutex::new(to.to_owned()));
        let now = Arc::clone(&to);
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let address = now.lock().expect("no panic").clone();
                let Ok(far) = TcpStream::connect(address) else { continue };
                pass(&near, &far);
                pass(&far, &near);
            }
        });
        Forward { url, to }
    }

    /// Where to send to.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Forwards new connections there from now on.
    pub(crate) fn turn(&self, to: &str) {
        to.clone_into(&mut self.to.lock().expect("no panic"));
    }
}

/// Passes bytes on until one side is done.
fn pass(from: &TcpStream, to: &TcpStream) {
    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}
