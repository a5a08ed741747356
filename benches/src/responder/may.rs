//! may_minihttp: coroutines with stacks of their own. Its process has one core, and so it starts
//! one worker thread.

use super::BODY;
use may_minihttp::{HttpServer, HttpService, Request, Response};
use std::io;
use std::net::{SocketAddr, TcpListener};

#[derive(Clone)]
struct Answer;

impl HttpService for Answer {
    fn call(&mut self, _: Request<'_, '_, '_>, response: &mut Response<'_>) -> io::Result<()> {
        response.header("Content-Type: application/json").body(BODY);
        Ok(())
    }
}

pub(super) fn serve(listening: fn(SocketAddr)) -> io::Result<()> {
    // It does not tell which port it got, so a free one is looked for before.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let server = HttpServer(Answer).start(address)?;
    listening(address);
    server.join().map_err(|_| io::Error::other("the server's coroutine ended"))
}
