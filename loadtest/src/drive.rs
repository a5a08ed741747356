//! The event loop: one thread, one poll set, all connections.
//!
//! A turn sends what is due on connections that are free, sleeps until something comes or the next
//! request is due, and reads what came. Nothing is allocated for a request. In an open loop the
//! schedule says what is due, and a request keeps its intended time while it waits for a
//! connection: the backlog is only the difference between two counters, so it costs nothing.

use crate::connection::{Connection, Standing};
use crate::error::{Error, Result};
use crate::outcome::{Failure, Outcome, Rule, Sent};
use crate::parse::Bodies;
use crate::plan::{Plan, Target};
use crate::schedule::Schedule;
use crate::template::Template;
use crate::timeline::Second;
use crate::timer::Timer;
use mio::{Events, Poll, Token};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Bytes read at once.
const SCRATCH_BYTES: usize = 256 * 1024;
/// Events taken at once.
const EVENTS_MAX: usize = 1_024;
/// How often time-outs are looked for, and lost connections made anew.
const HOUSEKEEPING: Duration = Duration::from_millis(50);
/// How long opening all connections may take.
const OPENING_MAX: Duration = Duration::from_secs(10);
/// How long answers are waited for after the last request, beside the plan's time-out.
const DRAIN_EXTRA: Duration = Duration::from_millis(200);
/// How long a careful client waits before it sends a request again.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// What one load brought.
#[derive(Debug)]
pub(crate) struct Driven {
    /// The counts.
    pub(crate) outcome: Outcome,
    /// The instant that all times count from.
    pub(crate) started_at: Instant,
    /// How much of the time the driving thread computed, 0 to 1: near 1 it was the limit.
    pub(crate) busy_ratio: f64,
    /// CPU time of the driving thread, in seconds.
    pub(crate) cpu_s: f64,
    /// Requests that the schedule held; those sent, in a closed loop.
    pub(crate) scheduled: u64,
}

/// Where a load goes, resolved.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The socket address.
    pub(crate) address: SocketAddr,
    /// What the `Host` header says.
    pub(crate) host: String,
}

struct Driver<'p> {
    plan: &'p Plan,
    peer: &'p Peer,
    template: Template,
    schedule: Option<Schedule>,
    bodies: Bodies,
    poll: Poll,
    timer: Timer,
    connections: Vec<Option<Connection>>,
    /// Connections with room for a request; those in `is_ready`.
    ready: VecDeque<usize>,
    is_ready: Vec<bool>,
    scratch: Vec<u8>,
    /// The next request of the schedule; how many were sent, in a closed loop.
    next: u64,
    /// Requests that are sent again, and when at the earliest, in ns since the start.
    again: VecDeque<(u64, Sent)>,
    started_at: Instant,
    end_ns: u64,
    outcome: Outcome,
}

/// Sends the plan's load (without its warm-up) and waits for the answers. `on_second` is called
/// once for every second.
pub(crate) fn drive(
    plan: &Plan,
    peer: &Peer,
    on_second: &mut dyn FnMut(&Second),
) -> Result<Driven> {
    raise_files_max();
    let mut driver = Driver::new(plan, peer).map_err(Error::system("an event loop"))?;
    driver.open()?;
    let cpu_before = thread_cpu();
    driver.started_at = Instant::now();
    driver.run(on_second).map_err(Error::system("the event loop"))?;
    let wall = driver.started_at.elapsed().as_secs_f64();
    let cpu_s = thread_cpu() - cpu_before;
    let busy_ratio = (cpu_s / wall.max(1e-9)).min(1.0);
    let scheduled = driver.schedule.as_ref().map_or(driver.outcome.sent, Schedule::count);
    let Driver { outcome, started_at, .. } = driver;
    Ok(Driven { outcome, started_at, busy_ratio, cpu_s, scheduled })
}

/// Allows as many open files, connections among them, as the system lets this process have.
pub(crate) fn raise_files_max() {
    let limit = getrlimit(Resource::Nofile);
    // Where it may not be raised, opening the connections says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// CPU time of this thread, in seconds.
fn thread_cpu() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl<'p> Driver<'p> {
    fn new(plan: &'p Plan, peer: &'p Peer) -> io::Result<Driver<'p>> {
        let poll = Poll::new()?;
        let timer = Timer::new(poll.registry(), Token(plan.connections))?;
        let rule = match &plan.target {
            Target::Get(_) => Rule::None,
            Target::Submit(tasks) if 1 < tasks.batch => Rule::Rows,
            Target::Submit(_) => Rule::One,
        };
        let end_ns = ns(plan.pace.duration());
        let mut outcome = Outcome::new(rule, end_ns);
        outcome.ids = plan.is_careful.then(Vec::new);
        Ok(Driver {
            plan,
            peer,
            template: Template::new(&plan.target, &peer.host, plan.token.as_deref()),
            schedule: plan.pace.schedule(),
            bodies: if rule == Rule::Rows || plan.is_careful { Bodies::Keep } else { Bodies::Skip },
            poll,
            timer,
            connections: (0..plan.connections).map(|_| None).collect(),
            ready: VecDeque::with_capacity(plan.connections),
            is_ready: vec![false; plan.connections],
            scratch: vec![0; SCRATCH_BYTES],
            next: 0,
            again: VecDeque::new(),
            started_at: Instant::now(),
            end_ns,
            outcome,
        })
    }

    /// Opens all connections before the clock starts.
    fn open(&mut self) -> Result<()> {
        let deadline = Instant::now() + OPENING_MAX;
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            self.reconnect();
            if self.ready.len() == self.connections.len() {
                return Ok(());
            }
            if deadline <= Instant::now() {
                let (open, all) = (self.ready.len(), self.connections.len());
                let text = format!("only {open} of {all} connections to {} opened", self.plan.url);
                return Err(Error::Server(text));
            }
            let polled = self.poll.poll(&mut events, Some(HOUSEKEEPING));
            interrupted_is_fine(polled).map_err(Error::system("the event loop"))?;
            for event in &events {
                self.opened(event.token().0);
            }
        }
    }

    fn opened(&mut self, place: usize) {
        let Some(connection) = self.connections.get_mut(place).and_then(Option::as_mut) else {
            return;
        };
        if connection.is_open() {
            return;
        }
        match connection.opened() {
            Standing::Open => self.make_ready(place),
            _ => self.connections[place] = None,
        }
    }

    fn make_ready(&mut self, place: usize) {
        let Some(connection) = &self.connections[place] else { return };
        let has_room = connection.is_flushed() && connection.owing() < self.plan.pipeline;
        if has_room && connection.is_open() && !self.is_ready[place] {
            self.is_ready[place] = true;
            self.ready.push_back(place);
        }
    }

    /// Begins to connect wherever there is no connection.
    fn reconnect(&mut self) -> u64 {
        let mut failed = 0;
        let (address, bodies) = (self.peer.address, self.bodies);
        for (place, slot) in self.connections.iter_mut().enumerate() {
            if slot.is_none() {
                let token = Token(place);
                *slot = Connection::connect(address, self.poll.registry(), token, bodies).ok();
                failed += u64::from(slot.is_none());
            }
        }
        failed
    }

    fn now_ns(&self) -> u64 {
        ns(self.started_at.elapsed())
    }

    fn run(&mut self, on_second: &mut dyn FnMut(&Second)) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut housekeeping_ns = 0;
        let mut last_sent_ns = 0;
        loop {
            let now_ns = self.now_ns();
            if housekeeping_ns <= now_ns {
                self.housekeeping(now_ns);
                self.outcome.seconds_over(now_ns).iter().for_each(&mut *on_second);
                housekeeping_ns = now_ns + ns(HOUSEKEEPING);
            }
            let is_sending = self.send_due(now_ns);
            if is_sending {
                last_sent_ns = now_ns;
            } else if self.is_settled(now_ns, last_sent_ns) {
                break;
            }
            let timeout = self.sleep_until_due(now_ns)?;
            interrupted_is_fine(self.poll.poll(&mut events, Some(timeout)))?;
            for event in &events {
                let is_ending = event.is_read_closed() || event.is_error();
                self.handle(event.token().0, is_ending);
                // What waits goes out at once and not after all answers are read: else driver and
                // server would take turns, each idle while the other works.
                if !self.ready.is_empty() {
                    let now_ns = self.now_ns();
                    if self.send_due(now_ns) {
                        last_sent_ns = now_ns;
                    }
                }
            }
        }
        let now_ns = self.now_ns();
        self.give_up_rest(now_ns);
        self.outcome.seconds_over(now_ns).iter().for_each(on_second);
        Ok(())
    }

    /// Whether nothing is owing any more, or has been for too long.
    fn is_settled(&self, now_ns: u64, last_sent_ns: u64) -> bool {
        let is_owing = |connection: &Connection| 0 < connection.owing();
        let patience_ns = ns(self.plan.timeout + DRAIN_EXTRA);
        last_sent_ns.saturating_add(patience_ns) <= now_ns
            || (self.again.is_empty() && !self.connections.iter().flatten().any(is_owing))
    }

    /// Requests to be sent again by now.
    fn due_again(&self, now_ns: u64) -> u64 {
        self.again.iter().take_while(|(not_before_ns, _)| *not_before_ns <= now_ns).count() as u64
    }

    /// Requests due now and not sent.
    fn due(&self, now_ns: u64) -> u64 {
        match &self.schedule {
            Some(schedule) => {
                schedule.count_until(Duration::from_nanos(now_ns)).saturating_sub(self.next)
            }
            None if now_ns < self.end_ns => u64::MAX,
            None => 0,
        }
    }

    /// Sends what is due; false when the schedule is through.
    fn send_due(&mut self, now_ns: u64) -> bool {
        let mut due = self.due(now_ns);
        if self.schedule.is_some() && 0 < due {
            due -= self.give_up_old(now_ns);
        }
        due = due.saturating_add(self.due_again(now_ns));
        while 0 < due {
            let Some(place) = self.ready.pop_front() else { break };
            self.is_ready[place] = false;
            let share = due.div_ceil(self.ready.len() as u64 + 1);
            let Some(count) = self.send_on(place, share, now_ns) else { continue };
            due -= count;
        }
        match &self.schedule {
            Some(schedule) => self.next < schedule.count(),
            None => now_ns < self.end_ns,
        }
    }

    /// Sends up to `share` requests on one connection, as many as it has room for, by one write.
    fn send_on(&mut self, place: usize, share: u64, now_ns: u64) -> Option<u64> {
        let connection =
            self.connections[place].as_mut().filter(|connection| connection.is_open())?;
        let room = self.plan.pipeline.saturating_sub(connection.owing()) as u64;
        let count = share.min(room);
        for _ in 0..count {
            let again = self.again.pop_front_if(|(not_before_ns, _)| *not_before_ns <= now_ns);
            let sent = match again {
                Some((_, sent)) => {
                    self.outcome.sent_again += 1;
                    Sent { sent_ns: now_ns, ..sent }
                }
                None => {
                    let number = self.next;
                    let intended = self.schedule.as_ref().and_then(|schedule| schedule.at(number));
                    self.next += 1;
                    Sent { number, intended_ns: intended.map_or(now_ns, ns), sent_ns: now_ns }
                }
            };
            connection.queue(sent, |out| self.template.push(out, sent.number));
        }
        let standing = connection.flush();
        self.outcome.sent(count, now_ns);
        self.settle(place, standing);
        Some(count)
    }

    /// Gives up the requests that have waited too long for a connection.
    fn give_up_old(&mut self, now_ns: u64) -> u64 {
        let old_ns = now_ns.saturating_sub(ns(self.plan.backlog_max));
        let Some(schedule) = &self.schedule else { return 0 };
        let old = if old_ns == 0 { 0 } else { schedule.count_until(Duration::from_nanos(old_ns)) };
        let count = old.saturating_sub(self.next);
        self.next += count;
        self.outcome.unsent += count;
        count
    }

    /// Counts what is owing at the end as timed out.
    fn give_up_rest(&mut self, now_ns: u64) {
        let owing: usize = self.connections.iter().flatten().map(Connection::owing).sum();
        self.outcome.failed(Failure::Timeout, (owing + self.again.len()) as u64, now_ns);
    }

    /// Sets the timer to the next request when one could be sent; how long to sleep at most.
    fn sleep_until_due(&mut self, now_ns: u64) -> io::Result<Duration> {
        if self.ready.is_empty() {
            return Ok(HOUSEKEEPING);
        }
        let Some(at) = self.schedule.as_ref().and_then(|schedule| schedule.at(self.next)) else {
            return Ok(HOUSEKEEPING);
        };
        let now_ns = now_ns.max(self.now_ns());
        let wait = Duration::from_nanos(ns(at).saturating_sub(now_ns));
        if wait.is_zero() || HOUSEKEEPING <= wait {
            return Ok(wait.min(HOUSEKEEPING));
        }
        self.timer.set(wait)?;
        Ok(HOUSEKEEPING)
    }

    fn handle(&mut self, place: usize, is_ending: bool) {
        let Some(connection) = self.connections.get_mut(place).and_then(Option::as_mut) else {
            return;
        };
        if !connection.is_open() {
            let standing = connection.opened();
            return self.settle(place, standing);
        }
        let (outcome, started_at) = (&mut self.outcome, self.started_at);
        let (again, is_careful) = (&mut self.again, self.plan.is_careful);
        let mut now_ns = 0;
        let mut standing = connection.read(&mut self.scratch, is_ending, |head, body, sent| {
            // One look at the clock serves all answers that came together.
            if now_ns == 0 {
                now_ns = ns(started_at.elapsed());
            }
            outcome.answer(head, body, sent, now_ns);
            if is_careful && matches!(head.status, 429 | 503) {
                again.push_back((now_ns + ns(AGAIN_AFTER), sent));
            }
        });
        if standing == Standing::Open && !connection.is_flushed() {
            standing = connection.flush();
        }
        self.settle(place, standing);
    }

    /// Puts a connection where it belongs: ready, waiting, or made anew.
    fn settle(&mut self, place: usize, standing: Standing) {
        let failure = match standing {
            Standing::Open => return self.make_ready(place),
            Standing::Ended => None,
            Standing::Broken(failure) => Some(failure),
        };
        let Some(connection) = self.connections[place].take() else { return };
        let now_ns = self.now_ns();
        let owing = connection.owing() as u64;
        if self.plan.is_careful {
            let not_before_ns = now_ns + ns(AGAIN_AFTER);
            self.again.extend(connection.into_owing().map(|sent| (not_before_ns, sent)));
        }
        match failure {
            Some(Failure::Connect) => self.outcome.failed(Failure::Connect, 1, now_ns),
            Some(failure) => self.outcome.failed(failure, owing.max(1), now_ns),
            None => {}
        }
        // A connection that could be made is replaced at once; else housekeeping tries again.
        if failure != Some(Failure::Connect) {
            let (address, registry) = (self.peer.address, self.poll.registry());
            self.connections[place] =
                Connection::connect(address, registry, Token(place), self.bodies).ok();
        }
    }

    fn housekeeping(&mut self, now_ns: u64) {
        let late_ns = now_ns.saturating_sub(ns(self.plan.timeout));
        let is_late = |connection: &Connection| {
            connection.oldest().is_some_and(|sent| sent.sent_ns < late_ns)
        };
        for place in 0..self.connections.len() {
            if self.connections[place].as_ref().is_some_and(is_late) {
                self.settle(place, Standing::Broken(Failure::Timeout));
            }
        }
        let failed = self.reconnect();
        self.outcome.failed(Failure::Connect, failed, now_ns);
    }
}

fn interrupted_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(why) if why.kind() == io::ErrorKind::Interrupted => Ok(()),
        result => result,
    }
}
