//! Taking frames over into the index, behind the commits: a thread that waits a moment for company,
//! so that a task which ends within it costs one row, and the readers' wait for what is durable.
//!
//! The longer frames wait for each other, the less the index costs: of a long loop only its last
//! state is written, and the events that came meanwhile share a row. It is paid for by readers, who
//! wait for what comes late, and by everybody when much is written at a time. So the follower takes
//! its time only while it writes tasks again that it has, and nobody reads.
//!
//! A reader first waits until the index has all that was durable when it asked; the follower then
//! does not linger. So a read sees every task that was acknowledged before it, and only reads pay
//! for that.
//!
//! Frames wait here in memory until they are taken over; the journal's file bounds them, as their
//! blocks are not free before that. When the disk is full the follower tries again and again and
//! commits are refused meanwhile; when it fails, everything is.

use crate::journal::Frame;
use crate::sqlite::index::Index;
use crate::sqlite::write::Written;
use no_engine::port::CommitError;
use no_engine::time::Millis;
use rustix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a frame waits for others before it is taken over, and which part of the journal's file
/// may be full of such frames.
#[derive(Clone, Copy)]
struct Linger {
    time: Duration,
    part: f64,
}

/// While tasks come and end.
const EAGER: Linger = Linger { time: Duration::from_millis(100), part: 0.125 };
/// While loops go on that live longer. The rest of the file is for what comes meanwhile.
const LAZY: Linger = Linger { time: Duration::from_secs(1), part: 0.375 };
/// Somebody reads if the last read was within this time.
const READ_LATELY: Duration = Duration::from_secs(5);
/// Buffers that are kept for frames to come, and the largest that is worth keeping.
const SPARE: (usize, usize) = (4, 4 << 20);
/// A shard without work for this long is quiet.
const REST_AFTER: Duration = Duration::from_secs(1);
/// Pause before a full disk is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(250);
/// How long a reader waits for the index. Far more than a group takes.
const READ_PATIENCE: Duration = Duration::from_secs(20);

/// What a shard's journal, its follower and the readers share.
pub(crate) struct Followed {
    /// Bytes of the journal's file.
    file_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
    /// CPU time of commits, in ns.
    commit_ns: AtomicU64,
    /// CPU time of taking frames over, in ns.
    index_ns: AtomicU64,
}

/// What a shard's journal and its index have done since the start, and how far one is behind the
/// other. CPU time has no wait for the disk in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreReading {
    /// Bytes of frames that are durable in the journal and not yet in the index.
    pub behind_bytes: u64,
    /// CPU time of commits, in ns.
    pub commit_ns: u64,
    /// CPU time of taking frames over into the index, in ns.
    pub index_ns: u64,
    /// Bytes that were written to the journal.
    pub written_bytes: u64,
}

/// Looks at all journals and indexes of a store. Cheap to clone; for any thread.
#[derive(Clone)]
pub struct StoreWatch(pub(crate) Arc<[Arc<Followed>]>);

impl StoreWatch {
    /// Of a store without files: there is nothing to read.
    #[must_use]
    pub fn none() -> StoreWatch {
        StoreWatch(Arc::from([]))
    }

    /// One reading for each shard, in order.
    pub fn read(&self) -> impl Iterator<Item = StoreReading> {
        self.0.iter().map(|followed| {
            let state = followed.lock();
            StoreReading {
                behind_bytes: state.waiting_bytes as u64,
                // ORDER: sums that nothing else depends on; likewise where they are added to.
                commit_ns: followed.commit_ns.load(Ordering::Relaxed),
                index_ns: followed.index_ns.load(Ordering::Relaxed),
                written_bytes: state.written_bytes,
            }
        })
    }
}

#[derive(Default)]
struct State {
    /// Durable in the journal and not yet in the index, in order.
    waiting: VecDeque<Arc<Frame>>,
    waiting_bytes: usize,
    /// Of all frames so far.
    written_bytes: u64,
    /// When the first of them came.
    since: Option<Instant>,
    /// The last frame that is durable in the journal.
    durable: u64,
    /// The last frame that is in the index.
    applied: u64,
    /// Somebody waits for frames up to this one.
    wanted: u64,
    /// When somebody last read.
    read_at: Option<Instant>,
    /// What the last group wrote.
    written: Written,
    /// There is no room on the disk; when that is tried again.
    full_until: Option<Instant>,
    /// When the last group was taken over; `None` once the index has given its caches back.
    busy_at: Option<Instant>,
    failed: Option<String>,
    is_over: bool,
    /// Buffers of frames that were taken over: memory that need not be asked for again.
    spare: Vec<Vec<u8>>,
    /// The wall clock, as the journal thread last told it; until then nothing is too old.
    now: Option<Millis>,
}

/// What the follower is to do next.
enum Next {
    Apply(Vec<Arc<Frame>>),
    Tidy(Millis),
    /// There was nothing to do for [`REST_AFTER`]: give memory back.
    Rest,
    End,
}

impl Followed {
    /// Starts from an index that has all frames up to `applied`, before a journal's file of so many
    /// bytes.
    pub(crate) fn new(applied: u64, file_bytes: u64) -> Arc<Followed> {
        let state = State { durable: applied, applied, ..State::default() };
        Arc::new(Followed {
            file_bytes,
            state: Mutex::new(state),
            changed: Condvar::new(),
            commit_ns: AtomicU64::new(0),
            index_ns: AtomicU64::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nobody panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over a frame that is durable in the journal.
    pub(crate) fn push(&self, frame: Arc<Frame>) {
        let mut state = self.lock();
        assert_eq!(frame.number, state.durable + 1, "frames come in their order");
        state.durable = frame.number;
        state.waiting_bytes += frame.bytes().len();
        state.written_bytes += frame.bytes().len() as u64;
        state.waiting.push_back(frame);
        if state.since.is_none() {
            state.since = Some(Instant::now());
            drop(state);
            self.changed.notify_all();
        } else if self.bytes_max(state.linger()) <= state.waiting_bytes {
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Does a commit, whose CPU time is counted.
    pub(crate) fn time_commit<T>(&self, commit: impl FnOnce() -> T) -> T {
        timed(&self.commit_ns, commit)
    }

    /// Frames that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// The last frame that the index has; or why commits must not go on.
    pub(crate) fn applied(&self) -> Result<u64, CommitError> {
        let state = self.lock();
        state.sound()?;
        Ok(state.applied)
    }

    /// Waits until the index has frames up to `number`, or cannot take them.
    pub(crate) fn wait_for(&self, number: u64) -> Result<u64, CommitError> {
        let mut state = self.lock();
        while state.applied < number {
            state.sound()?;
            state.wanted = state.wanted.max(number);
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(state.applied)
    }

    /// Likewise, also through a full disk.
    pub(crate) fn wait_out(&self, number: u64) -> Result<(), CommitError> {
        loop {
            match self.wait_for(number) {
                Ok(_) => return Ok(()),
                Err(CommitError::Full) => std::thread::sleep(FULL_PAUSE),
                Err(failed) => return Err(failed),
            }
        }
    }

    /// Whether the index finds no room.
    pub(crate) fn is_full(&self) -> bool {
        self.lock().full_until.is_some()
    }

    /// Waits until the index has all that is durable now. Returns whether it has: a full disk, a
    /// failure or a long time keep it from that.
    pub(crate) fn catch_up(&self) -> bool {
        let until = Instant::now() + READ_PATIENCE;
        let mut state = self.lock();
        let number = state.durable;
        state.read_at = Some(Instant::now());
        while state.applied < number {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.is_over || state.sound().is_err() {
                return false;
            }
            state.wanted = state.wanted.max(number);
            self.changed.notify_all();
            let waited = self.changed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// Tells the time, for retention. Seen within a second.
    pub(crate) fn tell(&self, now: Millis) {
        self.lock().now = Some(now);
    }

    /// Nothing is to be taken over any more, be it in a crash that a test plays.
    pub(crate) fn stop(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    /// The journal failed: what waits is left to the next start.
    pub(crate) fn fail(&self, why: &str) {
        let mut state = self.lock();
        state.failed.get_or_insert_with(|| why.to_owned());
        drop(state);
        self.changed.notify_all();
    }

    /// Takes over all that waits, in the caller's thread.
    pub(crate) fn step(&self, index: &mut Index) -> Result<(), CommitError> {
        loop {
            let group = self.group(&self.lock());
            if group.is_empty() {
                return Ok(());
            }
            let done = index.apply(&group);
            self.note(&group, &done);
            done?;
        }
    }

    /// The follower's thread: until it is told to stop, or fails.
    pub(crate) fn run(&self, index: &mut Index) {
        loop {
            match self.next(index) {
                Next::End => return,
                Next::Apply(group) => {
                    let done = timed(&self.index_ns, || index.apply(&group));
                    let mut state = self.lock();
                    (state.written, state.busy_at) = (index.written(), Some(Instant::now()));
                    drop(state);
                    self.note(&group, &done);
                    self.keep_buffers(group);
                }
                Next::Rest => {
                    index.rest();
                    self.lock().busy_at = None;
                }
                Next::Tidy(now) => {
                    if let Err(error @ CommitError::Failed(_)) = index.tidy(now) {
                        self.note(&[], &Err(error));
                    }
                }
            }
        }
    }

    fn next(&self, index: &Index) -> Next {
        let mut state = self.lock();
        loop {
            if state.is_over || state.failed.is_some() {
                return Next::End;
            }
            let mut left = Duration::from_secs(1);
            if state.full_until.is_some_and(|until| Instant::now() < until) {
                left = FULL_PAUSE;
            } else if state.full_until.is_some() {
                return Next::Apply(self.group(&state));
            } else if let Some(since) = state.since {
                let linger = state.linger();
                left = linger.time.saturating_sub(since.elapsed());
                let is_wanted = state.applied < state.wanted;
                let is_much = self.bytes_max(linger) <= state.waiting_bytes;
                if left.is_zero() || is_wanted || is_much {
                    return Next::Apply(self.group(&state));
                }
            } else if let Some(now) = state.now
                && index.is_tidy_due(now)
            {
                return Next::Tidy(now);
            } else if state.busy_at.is_some_and(|at| REST_AFTER <= at.elapsed()) {
                return Next::Rest;
            }
            (state, _) =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn bytes_max(&self, linger: Linger) -> usize {
        (self.file_bytes as f64 * linger.part) as usize
    }

    /// The first frames that wait, as many as one transaction takes: at least one.
    fn group(&self, state: &State) -> Vec<Arc<Frame>> {
        let (mut bytes, bytes_max) = (0, self.bytes_max(LAZY));
        let fits = |frame: &&Arc<Frame>| {
            let is_first = bytes == 0;
            bytes += frame.bytes().len();
            is_first || bytes <= bytes_max
        };
        state.waiting.iter().take_while(fits).map(Arc::clone).collect()
    }

    /// A buffer for the next frame.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        self.lock().spare.pop().unwrap_or_default()
    }

    fn keep_buffers(&self, group: Vec<Arc<Frame>>) {
        let buffers =
            group.into_iter().filter_map(|frame| Some(Arc::into_inner(frame)?.into_bytes()));
        let buffers = buffers.filter(|buffer| buffer.capacity() <= SPARE.1);
        let buffers: Vec<Vec<u8>> = buffers.take(SPARE.0).collect();
        let mut state = self.lock();
        if state.waiting.is_empty() {
            // Nothing is under way: a quiet node gives its memory back.
            state.spare.clear();
        } else {
            state.spare.extend(buffers);
            state.spare.truncate(SPARE.0);
        }
    }

    /// Notes how taking over `group` went, and tells those who wait.
    fn note(&self, group: &[Arc<Frame>], done: &Result<(), CommitError>) {
        let mut state = self.lock();
        match done {
            Ok(()) => {
                state.full_until = None;
                state.drop_applied(group);
            }
            Err(CommitError::Full) => state.full_until = Some(Instant::now() + FULL_PAUSE),
            Err(CommitError::Failed(why)) => {
                tracing::error!(target: "journal", why, "the index failed");
                state.failed = Some(why.clone());
            }
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// Adds the thread's CPU time in `work` to `sum`: two system calls, of about 0.3 µs each.
fn timed<T>(sum: &AtomicU64, work: impl FnOnce() -> T) -> T {
    let begun_ns = thread_cpu_ns();
    let done = work();
    sum.fetch_add(thread_cpu_ns().saturating_sub(begun_ns), Ordering::Relaxed);
    done
}

fn thread_cpu_ns() -> u64 {
    let at = clock_gettime(ClockId::ThreadCPUTime);
    let s = u64::try_from(at.tv_sec).unwrap_or_default();
    s * 1_000_000_000 + u64::try_from(at.tv_nsec).unwrap_or_default()
}

impl State {
    fn sound(&self) -> Result<(), CommitError> {
        match &self.failed {
            Some(why) => Err(CommitError::Failed(why.clone())),
            None if self.full_until.is_some() => Err(CommitError::Full),
            None => Ok(()),
        }
    }

    fn linger(&self) -> Linger {
        let is_read = || self.read_at.is_some_and(|at| at.elapsed() < READ_LATELY);
        let Written { new, known } = self.written;
        if new < 2 * known && !is_read() { LAZY } else { EAGER }
    }

    fn drop_applied(&mut self, group: &[Arc<Frame>]) {
        for frame in group {
            let first = self.waiting.pop_front();
            assert_eq!(first.map(|first| first.number), Some(frame.number), "in order");
            self.waiting_bytes -= frame.bytes().len();
            self.applied = frame.number;
        }
        self.since = if self.waiting.is_empty() { None } else { Some(Instant::now()) };
    }
}
