//! What systemd hears of a node: ready once it listens, alive while it runs, stopping before it
//! drains. The test holds the socket that systemd would.

mod e2e;

use e2e::{Home, Node, PATIENCE};
use serde_json::json;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// A socket as systemd's.
struct Manager(UnixDatagram);

impl Manager {
    fn bind(path: &Path) -> Manager {
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Manager(socket)
    }

    /// The next message.
    fn told(&self) -> String {
        let mut bytes = [0; 4_096];
        let len = self.0.recv(&mut bytes).expect("a message in time");
        String::from_utf8(bytes[..len].to_vec()).expect("text")
    }
}

#[test]
fn ready_alive_and_stopping_are_told() {
    let home = Home::new(json!({"service": {"drainTimeout": "7s"}}));
    let path = home.path().join("notify.sock");
    let manager = Manager::bind(&path);
    let mut command = home.serve();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "1500000");
    let mut node = Node::start(command, home.data());

    let ready = manager.told();
    assert_eq!(ready, format!("READY=1\nSTATUS=serving {}\n", node.url()));
    node.get("/health/ready").ok(200);
    for _ in 0..3 {
        assert_eq!(manager.told(), "WATCHDOG=1\n");
    }
    node.terminate();
    let stopping = std::iter::repeat_with(|| manager.told()).find(|said| said != "WATCHDOG=1\n");
    // 7 s of drain, 120 s of the handlers after it, 10 s beyond.
    let expected = "STOPPING=1\nEXTEND_TIMEOUT_USEC=147000000\nWATCHDOG_USEC=147000000\n\
                    STATUS=draining\n";
    assert_eq!(stopping.as_deref(), Some(expected));
    assert_eq!(node.exited().code(), Some(0));
}

#[test]
fn a_manager_that_is_gone_stops_nobody() {
    let home = Home::new(json!({}));
    let mut command = home.serve();
    command.env("NOTIFY_SOCKET", home.path().join("gone.sock"));
    let node = Node::start(command, home.data());
    node.get("/health/ready").ok(200);
    node.stop();
}
