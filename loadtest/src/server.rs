//! The server beside the load: is it there, does it know the agents, what has it done. Few calls,
//! made by an ordinary blocking client, never while a latency is being measured on this thread.

use crate::drive::Peer;
use crate::error::{Error, Result};
use crate::metrics::{Ended, Metrics};
use crate::outcome::parse_id;
use crate::plan::{Agent, Plan};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::net::ToSocketAddrs;
use std::time::{Duration, Instant};
use ureq::http::Uri;

/// How long one call may take.
const CALL_MAX: Duration = Duration::from_secs(10);
/// How often the ended tasks are counted while they are waited for.
const POLL_EVERY: Duration = Duration::from_millis(20);

/// The server of a plan.
#[derive(Debug)]
pub(crate) struct Server {
    url: String,
    token: Option<String>,
    agent: ureq::Agent,
    peer: Peer,
}

/// A page of the list of tasks: what is looked at.
#[derive(Deserialize)]
struct Page {
    items: Vec<Listed>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
    state: String,
}

impl Listed {
    fn has_ended(&self) -> bool {
        matches!(&*self.state, "succeeded" | "failed" | "cancelled")
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    let shown = || shortened(text);
    serde_json::from_str(text).map_err(|why| Error::Server(format!("{why} in {}", shown())))
}

/// How waiting for tasks ended.
#[derive(Debug)]
pub(crate) struct Settled {
    /// What ended since `before`.
    pub(crate) ended: Ended,
    /// The counters when it was last looked.
    pub(crate) metrics: Metrics,
    /// When it was last looked.
    pub(crate) at: Instant,
}

/// A client for control calls.
pub(crate) fn client(timeout: Duration) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(timeout))
        .max_idle_connections_per_host(1);
    config.build().new_agent()
}

impl Server {
    /// The plan's server.
    ///
    /// # Errors
    /// When the URL is none that the driver speaks, or its name means no address.
    pub(crate) fn new(plan: &Plan) -> Result<Server> {
        let peer = peer(&plan.url)?;
        let url = plan.url.trim_end_matches('/').to_owned();
        Ok(Server { url, token: plan.token.clone(), agent: client(CALL_MAX), peer })
    }

    /// Where the load goes.
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Makes sure that it answers, and defines the agent that the load needs.
    pub(crate) fn prepare(&self, agent: Option<&Agent>) -> Result<()> {
        self.agent.get(format!("{}/health/live", self.url)).call().map_err(|why| {
            let url = &self.url;
            Error::Server(format!("nothing answers at {url} ({why}); start nO, or use --serve"))
        })?;
        let Some(agent) = agent else { return Ok(()) };
        let Some(definition) = agent.definition() else { return Ok(()) };
        let name = agent.name();
        let mut call = self
            .agent
            .put(format!("{}/v1/agents/{name}", self.url))
            .content_type("application/json");
        if let Some(token) = &self.token {
            call = call.header("Authorization", format!("Bearer {token}"));
        }
        let answer = call.send(definition.to_string());
        let mut answer = answer.map_err(|why| Error::Server(format!("PUT agent {name}: {why}")))?;
        if answer.status().is_success() {
            return Ok(());
        }
        let text = answer.body_mut().read_to_string().unwrap_or_default();
        let mut hint = String::new();
        if let Some(model) = agent.model() {
            hint = format!("; use --serve, or put into its configuration's models: \"{name}\": ");
            hint.push_str(&shortened(&model.to_string()));
        }
        let status = answer.status();
        Err(Error::Server(format!("the server refused agent {name}: {status} {text}{hint}")))
    }

    /// The counters now; `None` when the server has none to read.
    pub(crate) fn metrics(&self) -> Option<Metrics> {
        let mut answer = self.agent.get(format!("{}/metrics", self.url)).call().ok()?;
        if answer.status() != 200 {
            return None;
        }
        Some(Metrics::parse(&answer.body_mut().read_to_string().ok()?))
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut call = self.agent.get(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            call = call.header("Authorization", format!("Bearer {token}"));
        }
        let failed = |why: ureq::Error| Error::Server(format!("GET {path}: {why}"));
        let mut answer = call.call().map_err(failed)?;
        let text = answer.body_mut().read_to_string().map_err(failed)?;
        if answer.status() != 200 {
            return Err(Error::Server(format!("GET {path}: {} {text}", answer.status())));
        }
        Ok(text)
    }

    /// All tasks of the caller, page by page: `on_page` gets their ids, and whether each succeeded.
    /// One that has not ended is waited for, as long as a call may take.
    pub(crate) fn tasks(&self, mut on_page: impl FnMut(&[(u128, bool)])) -> Result<()> {
        let mut cursor = String::new();
        loop {
            let text = self.get(&format!("/v1/tasks?limit=500{cursor}"))?;
            let page: Page = parse(&text)?;
            let mut rows = Vec::with_capacity(page.items.len());
            for mut task in page.items {
                if !task.has_ended() {
                    let wait_ms = (CALL_MAX / 2).as_millis();
                    let path = format!("/v1/tasks/{}?wait_ms={wait_ms}", task.id);
                    task = parse(&self.get(&path)?)?;
                }
                let no_id = || Error::Server(format!("a task's id is no UUID: {}", task.id));
                rows.push((parse_id(&task.id).ok_or_else(no_id)?, task.state == "succeeded"));
            }
            on_page(&rows);
            match page.next_cursor {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(()),
            }
        }
    }

    /// Waits until so many of the agent's tasks have ended since `before`, at most so long.
    pub(crate) fn settle(
        &self,
        agent: &str,
        before: &Metrics,
        tasks: u64,
        longest: Duration,
    ) -> Option<Settled> {
        let deadline = Instant::now() + longest;
        loop {
            let metrics = self.metrics()?;
            let at = Instant::now();
            let (was, is) = (before.ended(agent), metrics.ended(agent));
            let ended = Ended {
                succeeded: is.succeeded.saturating_sub(was.succeeded),
                failed: is.failed.saturating_sub(was.failed),
                cancelled: is.cancelled.saturating_sub(was.cancelled),
            };
            if tasks <= ended.total() || deadline <= at {
                return Some(Settled { ended, metrics, at });
            }
            std::thread::sleep(POLL_EVERY);
        }
    }
}

fn shortened(text: &str) -> String {
    let end = text.floor_char_boundary(400);
    let dots = if end < text.len() { "…" } else { "" };
    format!("{}{dots}", &text[..end])
}

/// Where a URL leads.
pub(crate) fn peer(url: &str) -> Result<Peer> {
    let refuse = |why: &str| Error::Plan(format!("--url {url}: {why}"));
    let uri: Uri = url.parse().map_err(|_| refuse("must look like http://127.0.0.1:3000"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(refuse("TLS is not spoken; point it behind the proxy")),
        _ => return Err(refuse("must begin with http://")),
    }
    if !matches!(uri.path_and_query().map(|path| path.as_str()), None | Some("/")) {
        return Err(refuse("must have no path"));
    }
    let host = uri.host().ok_or_else(|| refuse("has no host"))?;
    let port = uri.port_u16().unwrap_or(80);
    let mut addresses = (host.trim_matches(['[', ']']), port)
        .to_socket_addrs()
        .map_err(|why| refuse(&format!("the host is unknown ({why})")))?;
    let address = addresses.next().ok_or_else(|| refuse("the host has no address"))?;
    Ok(Peer { address, host: format!("{host}:{port}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_plain_http_without_path() {
        let peer = peer("http://127.0.0.1:3000/").expect("a peer");
        assert_eq!(
            (peer.address.to_string(), peer.host),
            ("127.0.0.1:3000".into(), "127.0.0.1:3000".into())
        );
        assert_eq!(super::peer("http://[::1]:8").expect("a peer").address.to_string(), "[::1]:8");
        for (url, part) in [
            ("https://x", "TLS"),
            ("http://127.0.0.1/v1", "no path"),
            ("127.0.0.1:3000", "must"),
            ("ftp://x", "http://"),
            ("", "must"),
        ] {
            match super::peer(url) {
                Err(Error::Plan(text)) => assert!(text.contains(part), "{text}"),
                other => panic!("{url}: {other:?}"),
            }
        }
    }
}
