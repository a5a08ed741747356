//! How fast the driver itself is: it asks a responder that does nothing, on another thread.
//!
//! The responder looks for the ends of requests and writes as many fixed answers, so what is left
//! is the driver and the kernel's loopback.

use crate::error::{Error, Result};
use crate::plan::{Plan, Target};
use crate::report::Report;
use crate::run::{Observer, run_observed};
use memchr::memmem::Finder;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
    content-length: 17\r\n\r\n{\"status\":\"live\"}";
const LISTENER: Token = Token(usize::MAX);
const SCRATCH_BYTES: usize = 64 * 1024;

/// Runs the plan, without its server, against the responder.
///
/// # Errors
/// As [`crate::run`].
pub fn run(plan: &Plan, observer: &mut dyn Observer) -> Result<Report> {
    let poll = Poll::new().map_err(Error::system("an event loop"))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into());
    let mut listener = listener.map_err(Error::system("a free port"))?;
    let address = listener.local_addr().map_err(Error::system("a free port"))?;
    let registered = poll.registry().register(&mut listener, LISTENER, Interest::READABLE);
    registered.map_err(Error::system("an event loop"))?;
    let thread = std::thread::Builder::new().name("responder".into());
    // It ends with the process, or when its poll set fails.
    let thread = thread.spawn(move || respond(poll, &listener));
    thread.map_err(Error::system("a thread"))?;
    let target = Target::Get("/".to_owned());
    let plan = Plan { url: format!("http://{address}"), token: None, target, ..plan.clone() };
    run_observed(&plan, observer)
}

fn respond(mut poll: Poll, listener: &TcpListener) -> io::Result<()> {
    let mut events = Events::with_capacity(1_024);
    let mut sockets: Vec<Option<TcpStream>> = Vec::new();
    let mut scratch = vec![0; SCRATCH_BYTES];
    let finder = Finder::new(b"\r\n\r\n");
    let answers = ANSWER.repeat(SCRATCH_BYTES / 4);
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut socket, _)) = listener.accept() {
                    let token = Token(sockets.len());
                    socket.set_nodelay(true)?;
                    poll.registry().register(&mut socket, token, Interest::READABLE)?;
                    sockets.push(Some(socket));
                }
                continue;
            }
            let Some(socket) = &mut sockets[event.token().0] else { continue };
            loop {
                match socket.read(&mut scratch) {
                    Ok(0) => sockets[event.token().0] = None,
                    Ok(len) => {
                        // Requests are short and written whole, so none is cut in two.
                        let count = finder.find_iter(&scratch[..len]).count();
                        let _ = socket.write_all(&answers[..count * ANSWER.len()]);
                        if len == scratch.len() {
                            continue;
                        }
                    }
                    Err(_) => {}
                }
                break;
            }
        }
    }
}
