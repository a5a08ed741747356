//! An HTTP server that plays a script.

use std::io::{BufReader, Write as _};
use std::net::TcpListener;
use std::thread::JoinHandle;

/// A request as the server saw it.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Method and path.
    pub(crate) line: String,
    /// `name: value`, names in lower case.
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
}

/// Plays one answer per request, in order; each on a connection of its own.
pub(crate) struct Server {
    pub(crate) url: String,
    thread: JoinHandle<Vec<Asked>>,
}

impl Server {
    /// Answers as (status, content type, body).
    pub(crate) fn play(answers: Vec<(u16, &'static str, String)>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let thread = std::thread::spawn(move || {
            let play = |(status, kind, body): (u16, &str, String)| {
                let (stream, _) = listener.accept().expect("a connection");
                let mut reader = BufReader::new(stream);
                let asked = read(&mut reader);
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
                     Connection: close\r\n\r\n",
                    body.len()
                );
                let answer = [head.as_bytes(), body.as_bytes()].concat();
                reader.into_inner().write_all(&answer).expect("written");
                asked
            };
            answers.into_iter().map(play).collect()
        });
        Server { url, thread }
    }

    /// Answers with JSON.
    pub(crate) fn json(answers: Vec<(u16, serde_json::Value)>) -> Server {
        let answer = |(status, body): (u16, serde_json::Value)| {
            (status, "application/json", body.to_string())
        };
        Server::play(answers.into_iter().map(answer).collect())
    }

    /// What was asked; all answers must have been fetched.
    pub(crate) fn asked(self) -> Vec<Asked> {
        self.thread.join().expect("the script was played")
    }
}

fn read(reader: &mut impl std::io::BufRead) -> Asked {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let line = lines.remove(0).trim_end_matches(" HTTP/1.1").to_owned();
    let lower = |line: &String| match line.split_once(':') {
        Some((name, value)) => format!("{}:{value}", name.to_lowercase()),
        None => line.clone(),
    };
    let headers: Vec<String> = lines.iter().map(lower).collect();
    let length = headers.iter().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a length"))];
    reader.read_exact(&mut body).expect("a body");
    Asked { line, headers, body: String::from_utf8(body).expect("utf-8") }
}
