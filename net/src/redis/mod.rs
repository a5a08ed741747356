//! Redis, where nodes share what makes them faster or fairer: sessions of browsers, rate limits.
//! Redis gone means slower, never wrong, and nothing here is what a task rests on.
//!
//! A node has one connection, on which all its net cores ask at once; net core 0 keeps it. It is
//! also the circuit breaker:
//!
//! ```text
//!            FAILURES_MAX time-outs in a row, or the connection broke
//!   closed ──────────────────────────────────────────────────────────▶ open
//!   (there is a connection)                                  (there is none: asking fails at once)
//!      ▲                                                               │ a pause with jitter
//!      └────────── it connects, logs in and answers PING ──── half open
//! ```
//!
//! Only [`Redis::keep`] connects and probes, so no request ever waits for a Redis that is known to
//! be away, and none is the one that finds out whether it is back. What is asked waits for
//! [`RedisConfig::timeout`] at most; at most [`ASKING_MAX`] are asked at once. An error that Redis
//! answers with counts as an answer: it is there. Values are bounded by the scripts that fetch
//! them.
//!
//! Built here and not in `storage`, as whoever asks is a task on a net core's runtime; shards never
//! do. A second layer of a cache asks like the rest, with a [`Purpose`] of its own.

pub mod limits;
pub mod sessions;

use ::redis::aio::MultiplexedConnection;
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, FromRedisValue,
    IntoConnectionInfo, RedisConnectionInfo, RedisError,
};
use no_auth::Secret;
use no_engine::rng::Rng;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

/// Requests of a node that are under way at once, at most; past it they fail at once.
pub const ASKING_MAX: usize = 256;
/// Time-outs in a row that open the breaker.
pub const FAILURES_MAX: u32 = 3;
/// How long connecting may take, in ms; nobody waits for it.
const CONNECT_MS_MAX: u64 = 2_000;
/// The pause before the first new try is half of this to all of it, in ms; each next one doubles.
const PAUSE_MS: u64 = 250;
/// The longest pause, in ms.
const PAUSE_MS_MAX: u64 = 5_000;
/// A connection is probed this often, in ms, so that a silent end is seen before it is needed.
const PROBE_MS: u64 = 1_000;
/// Longest text about a fault, in characters.
const FAULT_CHARS_MAX: usize = 200;

/// Where Redis is and how it is asked.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// A host name, an address, or the path of a Unix socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its password, when it has one.
    pub password: Option<Secret>,
    /// Whether TLS is spoken.
    pub is_tls: bool,
    /// The longest wait for an answer.
    pub timeout: Duration,
    /// What all our keys begin with.
    pub prefix: String,
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A session of a browser.
    Session,
    /// A login under way.
    Login,
    /// What keys of the rate limits took.
    Limit,
    /// Whether it is there.
    Probe,
}

/// All purposes, in the order of the counts.
pub const PURPOSES: [Purpose; 4] =
    [Purpose::Session, Purpose::Login, Purpose::Limit, Purpose::Probe];

impl Purpose {
    /// The label in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Purpose::Session => "session",
            Purpose::Login => "login",
            Purpose::Limit => "limit",
            Purpose::Probe => "probe",
        }
    }
}

/// What came of asking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// An answer.
    Answered,
    /// An error, or a connection that broke.
    Failed,
    /// No answer in time.
    TimedOut,
    /// It was not asked: the breaker is open, or too much is under way.
    Refused,
}

/// All outcomes, in the order of the counts.
pub const OUTCOMES: [Outcome; 4] =
    [Outcome::Answered, Outcome::Failed, Outcome::TimedOut, Outcome::Refused];

impl Outcome {
    /// The label in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::Failed => "failed",
            Outcome::TimedOut => "timed_out",
            Outcome::Refused => "refused",
        }
    }
}

/// Redis did not answer, for whatever reason; the counts and the log say which.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unanswered;

/// How often what was asked for and came of it: by [`PURPOSES`], then by [`OUTCOMES`].
pub type Counts = [[u64; OUTCOMES.len()]; PURPOSES.len()];

/// What a scrape shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RedisFigures {
    /// Requests.
    pub counts: Counts,
    /// Whether the breaker is open.
    pub is_open: bool,
}

/// The connection and the breaker.
struct Link {
    /// `None` while the breaker is open.
    connection: Option<MultiplexedConnection>,
    /// Counts connections: what an old one still says does not concern the next.
    generation: u64,
    /// Time-outs in a row.
    failures: u32,
    fault: Option<String>,
}

/// A node's Redis. Shared by its net cores.
pub struct Redis {
    config: RedisConfig,
    client: Client,
    link: Mutex<Link>,
    asking: AtomicUsize,
    counts: [[AtomicU64; OUTCOMES.len()]; PURPOSES.len()],
    opened: Notify,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Redis {
    /// Redis as configured; nothing is connected yet.
    ///
    /// # Errors
    /// What is wrong with the address, in words.
    pub fn new(config: RedisConfig) -> Result<Redis, String> {
        let (host, port) = (config.host.clone(), config.port);
        let addr = match (host.starts_with('/'), config.is_tls) {
            (true, _) => ConnectionAddr::Unix(host.into()),
            (false, false) => ConnectionAddr::Tcp(host, port),
            (false, true) => {
                ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
            }
        };
        let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(password) = &config.password {
            settings = settings.set_password(password.reveal());
        }
        let client = addr
            .into_connection_info()
            .map(|info| info.set_redis_settings(settings))
            .and_then(Client::open)
            .map_err(|error| error.to_string())?;
        let fault = Some("it is not connected yet".to_owned());
        let link = Link { connection: None, generation: 0, failures: 0, fault };
        Ok(Redis {
            config,
            client,
            link: Mutex::new(link),
            asking: AtomicUsize::new(0),
            counts: Default::default(),
            opened: Notify::new(),
        })
    }

    /// A key of ours: the prefix, what it is, which one.
    #[must_use]
    pub fn key(&self, what: &str, which: &str) -> String {
        format!("{}{what}:{which}", self.config.prefix)
    }

    /// Whether it would be asked now.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.link().connection.is_some()
    }

    /// What is wrong, if anything is, for the health check: what was last seen, never asked for.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.link().fault.clone()
    }

    /// The counts now.
    #[must_use]
    pub fn figures(&self) -> RedisFigures {
        let row = |row: &[AtomicU64; OUTCOMES.len()]| {
            std::array::from_fn(|place| row[place].load(Ordering::Relaxed))
        };
        let counts = std::array::from_fn(|place| row(&self.counts[place]));
        RedisFigures { counts, is_open: !self.is_there() }
    }

    /// Asks, and waits for the answer within the time-out.
    ///
    /// # Errors
    /// [`Unanswered`], at once where the breaker is open.
    pub async fn ask<T: FromRedisValue>(
        &self,
        purpose: Purpose,
        command: &Cmd,
    ) -> Result<T, Unanswered> {
        let place = Place::take(&self.asking);
        let Some((mut connection, generation, _place)) =
            place.and_then(|place| self.connected().map(|(c, g)| (c, g, place)))
        else {
            return self.came_to(purpose, Outcome::Refused);
        };
        match timeout(self.config.timeout, command.query_async::<T>(&mut connection)).await {
            Ok(Ok(answer)) => {
                self.answered(purpose, generation);
                let _: Result<(), Unanswered> = self.came_to(purpose, Outcome::Answered);
                Ok(answer)
            }
            Ok(Err(error)) => {
                self.failed(generation, &error);
                self.came_to(purpose, Outcome::Failed)
            }
            Err(_) => {
                self.timed_out(generation);
                self.came_to(purpose, Outcome::TimedOut)
            }
        }
    }

    fn came_to<T>(&self, purpose: Purpose, outcome: Outcome) -> Result<T, Unanswered> {
        self.counts[purpose as usize][outcome as usize].fetch_add(1, Ordering::Relaxed);
        Err(Unanswered)
    }

    fn connected(&self) -> Option<(MultiplexedConnection, u64)> {
        let link = self.link();
        Some((link.connection.clone()?, link.generation))
    }

    fn answered(&self, purpose: Purpose, generation: u64) {
        let mut link = self.link();
        if link.generation == generation {
            link.failures = 0;
            // A probe does not show that what is really asked works.
            if purpose != Purpose::Probe {
                link.fault = None;
            }
        }
    }

    fn failed(&self, generation: u64, error: &RedisError) {
        let why = self.words(error);
        if error.is_unrecoverable_error() {
            return self.open(generation, why);
        }
        let mut link = self.link();
        if link.generation == generation {
            link.failures = 0;
            if link.fault.replace(why.clone()).is_none() {
                drop(link);
                tracing::warn!(target: "redis", why, "Redis answers with an error");
            }
        }
    }

    fn timed_out(&self, generation: u64) {
        let mut link = self.link();
        if link.generation == generation {
            link.failures += 1;
            if FAILURES_MAX <= link.failures {
                drop(link);
                let why =
                    format!("it did not answer within {} ms", self.config.timeout.as_millis());
                self.open(generation, why);
            }
        }
    }

    /// Opens the breaker, unless that connection is not the one in use any more.
    fn open(&self, generation: u64, why: String) {
        let mut link = self.link();
        if link.generation != generation || link.connection.take().is_none() {
            return;
        }
        link.fault = Some(why.clone());
        drop(link);
        self.opened.notify_one();
        tracing::warn!(
            target: "redis", why,
            "Redis is away: new sessions and all limits are this node's own until it is back"
        );
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        // Nobody panics in between.
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects, sees when it is away and connects again, for ever. By one task of the node, on the
    /// runtime that shall drive the connection.
    pub async fn keep(&self, mut rng: Rng) {
        let (mut tries, mut is_told) = (0, false);
        loop {
            match self.connect().await {
                Ok(connection) => {
                    (tries, is_told) = (0, true);
                    self.close(connection);
                    self.probe().await;
                }
                Err(why) => {
                    self.link().fault = Some(why.clone());
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(
                            target: "redis", why,
                            "Redis is away: sessions and limits are this node's own; trying on"
                        );
                    }
                }
            }
            tokio::time::sleep(pause(tries, &mut rng)).await;
            tries += 1;
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(ASKING_MAX);
        let connecting = async {
            let connection = self.client.get_multiplexed_async_connection_with_config(&config);
            let mut connection = connection.await?;
            ::redis::cmd("PING").query_async::<()>(&mut connection).await?;
            Ok(connection)
        };
        match timeout(Duration::from_millis(CONNECT_MS_MAX), connecting).await {
            Ok(connected) => connected.map_err(|error| self.words(&error)),
            Err(_) => Err(format!("it does not let us connect within {CONNECT_MS_MAX} ms")),
        }
    }

    /// Closes the breaker.
    fn close(&self, connection: MultiplexedConnection) {
        let mut link = self.link();
        (link.failures, link.fault) = (0, None);
        link.generation += 1;
        link.connection = Some(connection);
        drop(link);
        let (host, port) = (&self.config.host, self.config.port);
        tracing::info!(target: "redis", host, port, "Redis is there");
    }

    /// Probes until the breaker is open.
    async fn probe(&self) {
        while self.is_there() {
            let opened = timeout(Duration::from_millis(PROBE_MS), self.opened.notified()).await;
            if opened.is_err() {
                let _ = self.ask::<()>(Purpose::Probe, &::redis::cmd("PING")).await;
            }
        }
    }

    /// An error in words fit for logs and the health check.
    fn words(&self, error: &RedisError) -> String {
        if error.kind() == ErrorKind::AuthenticationFailed {
            return "it does not take our password: see NO_REDIS_PASSWORD".to_owned();
        }
        if error.code() == Some("NOAUTH") {
            return "it wants a password: set NO_REDIS_PASSWORD".to_owned();
        }
        let text = error.to_string();
        let text = match &self.config.password {
            Some(password) => password.redact(&text),
            None => text,
        };
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        text.chars().map(plain).take(FAULT_CHARS_MAX).collect()
    }
}

/// The pause before the next try after so many in vain.
fn pause(tries: u32, rng: &mut Rng) -> Duration {
    let whole = PAUSE_MS.saturating_mul(1 << tries.min(16)).min(PAUSE_MS_MAX);
    let half = whole / 2;
    Duration::from_millis(half + rng.index(half as usize + 1) as u64)
}

/// One of the places for what is asked at once; given back when dropped.
struct Place<'r>(&'r AtomicUsize);

impl<'r> Place<'r> {
    fn take(asking: &'r AtomicUsize) -> Option<Place<'r>> {
        // ORDER: a count that guards nothing else.
        let before = asking.fetch_add(1, Ordering::Relaxed);
        let place = Place(asking);
        (before < ASKING_MAX).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redis(host: &str) -> Redis {
        let password = Some(Secret::new("hush-hush".to_owned()).expect("a secret"));
        let (timeout, prefix) = (Duration::from_millis(50), "no:".to_owned());
        let host = host.to_owned();
        let config = RedisConfig { host, port: 6_379, password, is_tls: false, timeout, prefix };
        Redis::new(config).expect("an address")
    }

    #[tokio::test]
    async fn who_asks_while_it_is_away_is_refused_at_once() {
        let redis = redis("/nowhere/redis.sock");
        let asked = redis.ask::<()>(Purpose::Session, &::redis::cmd("PING")).await;
        assert_eq!(asked, Err(Unanswered));
        let figures = redis.figures();
        assert!(figures.is_open && redis.fault().is_some());
        assert_eq!(figures.counts[Purpose::Session as usize], [0, 0, 0, 1]);
        assert!(!format!("{redis:?}").contains("hush"));
    }

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        let mut rng = Rng::new(7);
        for (tries, most) in [(0, 250), (1, 500), (4, 4_000), (5, 5_000), (u32::MAX, 5_000)] {
            let pauses: Vec<_> = (0..50).map(|_| pause(tries, &mut rng).as_millis()).collect();
            assert!(pauses.iter().all(|ms| (most / 2..=most).contains(ms)), "{tries}: {pauses:?}");
            assert!(pauses.iter().any(|ms| *ms != pauses[0]));
        }
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let asking = AtomicUsize::new(0);
        let mut held: Vec<_> = (0..ASKING_MAX).map_while(|_| Place::take(&asking)).collect();
        assert_eq!(held.len(), ASKING_MAX);
        assert!(Place::take(&asking).is_none() && Place::take(&asking).is_none());
        held.pop();
        assert!(Place::take(&asking).is_some());
        drop(held);
        assert_eq!(asking.load(Ordering::Relaxed), 0);
    }
}
