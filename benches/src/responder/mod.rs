//! Servers that give one small answer and do nothing else: bare hyper, the baseline of the table,
//! and its rivals. Each runs as a child on one core, so that its CPU time and memory are its own.

#[cfg(feature = "rivals")]
mod glommio;
mod hyper;
#[cfg(feature = "rivals")]
mod may;
#[cfg(feature = "rivals")]
mod monoio;
#[cfg(any(feature = "rivals", test))]
mod parse;

use crate::cores;
use crate::error::{Error, Result};
use clap::ValueEnum;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// The answer: 53 bytes of JSON, about what `/health` gives.
pub const BODY: &str = r#"{"status":"ok","uptime_s":86400,"shards":1,"load":12}"#;

const _: () = assert!(BODY.len() == 53);

/// A line that begins with this says where a responder listens.
const LISTENING: &str = "listening ";
/// A line that begins with this says why it does not.
const REFUSED: &str = "refused ";

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Runtime {
    /// tokio's `current_thread` and hyper.
    Hyper,
    /// monoio on epoll, with a small loop around httparse.
    MonoioEpoll,
    /// monoio on io_uring, likewise.
    MonoioUring,
    /// glommio on io_uring, likewise.
    Glommio,
    /// may_minihttp.
    May,
}

/// All of them that this build has.
pub const RUNTIMES: &[Runtime] = if cfg!(feature = "rivals") {
    &[Runtime::Hyper, Runtime::MonoioEpoll, Runtime::MonoioUring, Runtime::Glommio, Runtime::May]
} else {
    &[Runtime::Hyper]
};

impl Runtime {
    /// What it is made of, for people.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Runtime::Hyper => "tokio current_thread + hyper",
            Runtime::MonoioEpoll => "monoio epoll + own loop",
            Runtime::MonoioUring => "monoio io_uring + own loop",
            Runtime::Glommio => "glommio io_uring + own loop",
            Runtime::May => "may_minihttp",
        }
    }

    /// The name on the command line.
    fn argument(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Serves on the calling thread until the process is ended; tells where on standard output.
    ///
    /// # Errors
    /// Why it cannot run here.
    pub fn serve(self, core: usize) -> io::Result<()> {
        cores::pin(&[core], 0);
        let served = match self {
            Runtime::Hyper => hyper::serve(listening),
            #[cfg(feature = "rivals")]
            Runtime::MonoioEpoll => monoio::serve_epoll(listening),
            #[cfg(feature = "rivals")]
            Runtime::MonoioUring => monoio::serve_uring(listening),
            #[cfg(feature = "rivals")]
            Runtime::Glommio => glommio::serve(listening),
            #[cfg(feature = "rivals")]
            Runtime::May => may::serve(listening),
            #[cfg(not(feature = "rivals"))]
            _ => Err(io::Error::other("built without the feature `rivals`")),
        };
        if let Err(why) = &served {
            println!("{REFUSED}{why}");
        }
        served
    }
}

/// Tells the parent where the server listens.
fn listening(address: SocketAddr) {
    println!("{LISTENING}http://{address}");
    // Where nobody reads any more, nobody will ask either.
    let _ = io::stdout().flush();
}

/// The line of a program's last words that says most: what stands below where it panicked, or the
/// first.
fn last_words(text: &str) -> Option<&str> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next()?;
    if first.contains("panicked at") { lines.next().or(Some(first)) } else { Some(first) }
}

/// A responder that runs until this is dropped.
#[derive(Debug)]
pub struct Responder {
    child: Child,
    url: String,
}

impl Responder {
    /// Starts this program again as a responder on that core.
    ///
    /// # Errors
    /// [`Error::Refused`] when the runtime cannot run here; [`Error::System`].
    pub fn start(runtime: Runtime, core: usize) -> Result<Responder> {
        let what = "this program as a responder";
        let program = std::env::current_exe().map_err(Error::system(what))?;
        // A file, not a pipe that somebody would have to read as long as it runs.
        let mut said = tempfile::tempfile().map_err(Error::system(what))?;
        let stderr = said.try_clone().map_err(Error::system(what))?;
        let child = Command::new(program)
            .args(["responder", &runtime.argument(), "--core", &core.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .map_err(Error::system(what))?;
        let mut responder = Responder { child, url: String::new() };
        let stdout = responder.child.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).map_err(Error::system(what))?;
        match line.trim_end().strip_prefix(LISTENING) {
            Some(url) => url.clone_into(&mut responder.url),
            None => {
                let mut text = String::new();
                let read = said.rewind().and_then(|()| said.read_to_string(&mut text));
                let why = line.trim_end().strip_prefix(REFUSED);
                let why = why.or_else(|| read.ok().and_then(|_| last_words(&text)));
                return Err(Error::Refused(why.unwrap_or("it ended at once").to_owned()));
            }
        }
        Ok(responder)
    }

    /// Where it answers.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_below_the_place() {
        let text = "\nthread 'main' (7) panicked at src/x.rs:1:\nno io_uring here\nnote: run";
        assert_eq!(last_words(text), Some("no io_uring here"));
        assert_eq!(last_words("bench: gone\n"), Some("bench: gone"));
        assert_eq!(last_words("\n"), None);
    }
}
