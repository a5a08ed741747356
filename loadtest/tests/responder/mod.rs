//! A server of a few lines for tests: every connection has a thread, every request an answer that
//! the test chooses by its number.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request as it came.
pub(crate) struct Request {
    /// Method and path.
    pub(crate) line: String,
    /// Header lines, lower case.
    pub(crate) headers: String,
    /// The body.
    pub(crate) body: String,
}

/// What to do with a request.
pub(crate) enum Reply {
    /// Write these bytes, all at once.
    Bytes(Vec<u8>),
    /// Write them one by one.
    Dribble(Vec<u8>),
    /// Write them and close.
    Last(Vec<u8>),
    /// Say nothing, and keep the connection.
    Silence,
}

type Answer = Box<dyn FnMut(&Request) -> Reply + Send>;

/// Starts a responder on a free port; it ends with the test's process. Its URL.
pub(crate) fn start(answer: impl FnMut(&Request) -> Reply + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(answer)));
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || serve(socket, &answer));
        }
    });
    url
}

fn serve(socket: TcpStream, answer: &Mutex<Answer>) {
    socket.set_nodelay(true).expect("a socket");
    let mut writer = socket.try_clone().expect("a socket");
    let mut reader = BufReader::new(socket);
    while let Some(request) = read(&mut reader) {
        let reply = answer.lock().expect("an answer")(&request);
        // The driver may have left, as tests make it.
        let _ = match reply {
            Reply::Bytes(bytes) => writer.write_all(&bytes),
            Reply::Dribble(bytes) => bytes.iter().try_for_each(|byte| writer.write_all(&[*byte])),
            Reply::Last(bytes) => {
                let _ = writer.write_all(&bytes);
                return;
            }
            Reply::Silence => Ok(()),
        };
    }
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|len| 0 < *len)?;
    let mut headers = String::new();
    while !headers.ends_with("\n\r\n") && headers != "\r\n" {
        reader.read_line(&mut headers).ok().filter(|len| 0 < *len)?;
    }
    headers.make_ascii_lowercase();
    let length = headers.lines().find_map(|header| header.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().expect(length))];
    reader.read_exact(&mut body).ok()?;
    let line = line.trim().trim_end_matches(" HTTP/1.1").to_owned();
    Some(Request { line, headers, body: String::from_utf8(body).expect("text") })
}

/// An answer with a body and its length.
pub(crate) fn answer(status: u16, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n{body}").into_bytes()
}
