//! What every store must do, whichever: commit, load, read, list, let go. Each store's tests run
//! all of it, by [`hold`].

use crate::samples::{self, Histories, dead_lettered, large, next, started, submitted};
use no_engine::agent::definition::{Agent, Kind};
use no_engine::event::{AgentRow, Batch, Event, FeedbackRow, KeyRow, Record, TaskImage};
use no_engine::id::{PartitionId, TaskId};
use no_engine::payload::Payload;
use no_engine::port::{CommitError, Filter, Page, Reader};
use no_engine::task::{State, Task};
use no_engine::time::Millis;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Few partitions, so that they are shared unevenly.
pub(crate) const PARTITIONS_FEW: u16 = 7;

/// A store of a test's own, empty, with [`PARTITIONS_FEW`] partitions unless it says otherwise; it
/// keeps ended tasks for a second.
pub(crate) trait Kept {
    /// Commits batches, all of one partition.
    fn commit(&mut self, batches: &[Batch]) -> Result<(), CommitError>;
    /// A piece of retention.
    fn tidy(&mut self, now: Millis) -> Result<bool, CommitError>;
    /// All that it loads: open tasks by id, keys by hash.
    fn loaded(&self) -> Loaded;
    /// All agents.
    fn agents(&self) -> Vec<AgentRow>;
    /// What was said of results since then.
    fn feedback(&self, since: Millis) -> Vec<FeedbackRow>;
    /// A reader.
    fn reader(&self) -> Box<dyn Reader>;
    /// A page, after a look at so many rows at most.
    fn page_within(&self, filter: &Filter, before: Option<TaskId>, rows_max: usize) -> Page;
    /// Rows of a table.
    fn rows(&self, table: &str) -> u64;
}

/// Open tasks by id, keys by hash.
pub(crate) type Loaded = (BTreeMap<TaskId, Task>, BTreeMap<u128, KeyRow>);

/// Makes a test of each part of the contract, for the store that an expression makes; it is `None`
/// where there can be none.
macro_rules! hold {
    ($made:expr) => {
        crate::contract::hold!($made;
            what_is_committed_is_loaded_and_read
            a_task_that_changed_often_in_one_commit_is_written_as_it_is_last
            agents_and_keys_come_change_and_go
            the_last_score_of_a_task_counts_and_goes_with_it
            large_payloads_are_stored_once_and_go_with_the_last_that_names_them
            what_cannot_be_read_back_is_not_acknowledged
            one_event_twice_is_refused
            finished_tasks_go_after_their_retention
            a_long_history_goes_in_slices
            lists_are_newest_first_whatever_the_page
            a_list_that_looked_at_enough_says_where_to_go_on
        );
    };
    ($made:expr; $($part:ident)*) => {
        $(
            #[test]
            fn $part() {
                if let Some(mut made) = $made {
                    crate::contract::$part(&mut made);
                }
            }
        )*
    };
}
pub(crate) use hold;

/// The id of the `i`th task: ids grow, partitions take turns.
pub(crate) fn id(i: u64) -> TaskId {
    TaskId::new(1_000_000 + i * 10, i, PartitionId((i % u64::from(PARTITIONS_FEW)) as u16))
}

/// The whole history of a task.
pub(crate) fn history(reader: &mut (impl Reader + ?Sized), id: TaskId) -> Vec<Record> {
    reader.events(id, 0, usize::MAX).expect("readable")
}

fn commit(kept: &mut impl Kept, batch: Batch) {
    kept.commit(&[batch]).expect("committed");
}

pub(crate) fn what_is_committed_is_loaded_and_read(kept: &mut impl Kept) {
    let (first, mut task) = submitted(id(1), &Payload::inline(br#"{"say": "hi"}"#));
    let second = next(&mut task, started());
    commit(kept, samples::batch(1, vec![first.clone(), second.clone()], &[(&task, true)]));
    assert_eq!(kept.loaded().0, BTreeMap::from([(task.id, task.clone())]));

    let third = next(&mut task, Event::Succeeded { output: Payload::inline(b"[1]") });
    commit(kept, samples::batch(2, vec![third.clone()], &[(&task, false)]));
    assert_eq!(kept.loaded().0, BTreeMap::new(), "it ended");

    let mut reader = kept.reader();
    assert_eq!(reader.task(task.id).expect("readable"), Some(task.clone()));
    assert_eq!(history(&mut *reader, task.id), [first, second.clone(), third]);
    assert_eq!(reader.events(task.id, 1, 1).expect("readable"), [second]);
    assert_eq!(reader.task(id(2)).expect("readable"), None);
    let nowhere = TaskId::new(1, 1, PartitionId(9_999));
    assert_eq!(reader.task(nowhere).expect("readable"), None);
}

pub(crate) fn a_task_that_changed_often_in_one_commit_is_written_as_it_is_last(
    kept: &mut impl Kept,
) {
    let (first, mut task) = submitted(id(1), &Payload::null());
    let one = samples::batch(1, vec![first], &[(&task, true)]);
    let second = next(&mut task, started());
    let two = samples::batch(2, vec![second], &[(&task, false)]);
    let third = next(&mut task, dead_lettered());
    let three = samples::batch(3, vec![third], &[(&task, false)]);
    kept.commit(&[one, two, three]).expect("committed");
    assert_eq!(kept.loaded().0, BTreeMap::from([(task.id, task.clone())]), "a dead letter");
    assert_eq!(history(&mut *kept.reader(), task.id).len(), 3);

    commit(kept, Batch { tasks_gone: vec![task.id], ..Batch::default() });
    assert_eq!(kept.loaded().0, BTreeMap::new());
    assert_eq!((kept.rows("tasks"), kept.rows("events")), (0, 0));
}

pub(crate) fn agents_and_keys_come_change_and_go(kept: &mut impl Kept) {
    let agent = |paused| AgentRow {
        name: "a".into(),
        agent: Arc::new(Agent::of_kind(Kind::Worker)),
        paused,
    };
    let key = |expires_at| KeyRow {
        partition: PartitionId(3),
        hash: 1 << 100,
        fingerprint: u64::MAX,
        task: id(3),
        expires_at,
    };
    commit(kept, Batch { agents: vec![agent(false)], keys: vec![key(None)], ..Batch::default() });
    assert_eq!(kept.agents(), [agent(false)]);
    let later = key(Some(Millis(5)));
    commit(kept, Batch { agents: vec![agent(true)], keys: vec![later], ..Batch::default() });
    assert_eq!(kept.agents(), [agent(true)]);
    assert_eq!(kept.loaded().1, BTreeMap::from([(later.hash, later)]));
    let gone = Batch {
        agents_gone: vec!["a".into()],
        keys_gone: vec![(later.partition, later.hash)],
        ..Batch::default()
    };
    commit(kept, gone);
    assert_eq!((kept.agents(), kept.loaded().1), (Vec::new(), BTreeMap::new()));
}

pub(crate) fn large_payloads_are_stored_once_and_go_with_the_last_that_names_them(
    kept: &mut impl Kept,
) {
    let payload = large('x');
    // Two of one partition: where they are kept for each, others have their own.
    let both = [id(0), id(u64::from(PARTITIONS_FEW))];
    for id in both {
        let (first, mut task) = submitted(id, &payload);
        commit(kept, samples::batch(1, vec![first], &[(&task, true)]));
        // As an echo gives it back: by name only.
        let last = next(&mut task, Event::Succeeded { output: payload.stored() });
        commit(kept, samples::batch(2, vec![last], &[(&task, false)]));
    }
    assert_eq!(kept.rows("blobs"), 1);
    let mut reader = kept.reader();
    let task = reader.task(both[0]).expect("readable").expect("there");
    let bytes = reader.resolve(task.id, &task.input).expect("stored");
    assert_eq!(Some(&*bytes), payload.bytes());

    commit(kept, Batch { tasks_gone: vec![both[0]], ..Batch::default() });
    assert_eq!(kept.rows("blobs"), 1);
    assert!(reader.resolve(both[1], &task.input).is_ok());
    commit(kept, Batch { tasks_gone: vec![both[1]], ..Batch::default() });
    assert_eq!(kept.rows("blobs"), 0);
    assert!(reader.resolve(task.id, &task.input).is_err(), "gone");
}

pub(crate) fn what_cannot_be_read_back_is_not_acknowledged(kept: &mut impl Kept) {
    let (first, task) = submitted(id(0), &large('x').stored());
    let batch = samples::batch(1, vec![first], &[(&task, true)]);
    let Err(CommitError::Failed(why)) = kept.commit(&[batch]) else { panic!("it has no bytes") };
    assert!(why.contains("a large payload ") && why.contains(" has no bytes"), "{why}");
    // And nothing ever after.
    assert!(matches!(kept.commit(&[Batch::default()]), Err(CommitError::Failed(_))));
    assert!(matches!(kept.tidy(Millis(1)), Err(CommitError::Failed(_))));
    assert_eq!(kept.rows("tasks"), 0);
}

pub(crate) fn one_event_twice_is_refused(kept: &mut impl Kept) {
    let (first, task) = submitted(id(0), &Payload::null());
    let batch = samples::batch(1, vec![first], &[(&task, true)]);
    kept.commit(std::slice::from_ref(&batch)).expect("committed");
    assert!(matches!(kept.commit(&[batch]), Err(CommitError::Failed(_))));
}

pub(crate) fn finished_tasks_go_after_their_retention(kept: &mut impl Kept) {
    let tasks = 3_000;
    let mut open = Vec::new();
    let mut batch = Batch::default();
    for i in 0..tasks {
        let (first, mut task) = submitted(id(i), &Payload::null());
        let event = match i % 100 {
            0 => started(),
            1 => dead_lettered(),
            2 => Event::Cancelled,
            _ => Event::Succeeded { output: Payload::null() },
        };
        let last = next(&mut task, event);
        if task.state == State::Running || task.state == State::Failed {
            open.push(task.id);
        }
        batch.records.extend([first, last]);
        batch.tasks.push(TaskImage { task, is_new: true });
    }
    commit(kept, batch);
    let half = Millis(id(tasks / 2).made_ms() + 1_000);
    while kept.tidy(half).expect("tidied") {}
    let left = kept.rows("tasks");
    assert!((1_500..=1_550).contains(&left), "{left}");
    assert_eq!(kept.tidy(half), Ok(false), "the next pass is later");

    let all = half + 1_000_000;
    while kept.tidy(all).expect("tidied") {}
    assert_eq!(kept.loaded().0.into_keys().collect::<Vec<_>>(), open);
    assert_eq!(kept.rows("tasks"), open.len() as u64);
    assert_eq!(kept.rows("events"), 0, "short histories stand in the task's row");
}

pub(crate) fn the_last_score_of_a_task_counts_and_goes_with_it(kept: &mut impl Kept) {
    let (first, mut task) = submitted(id(1), &Payload::null());
    let last = next(&mut task, Event::Succeeded { output: Payload::null() });
    commit(kept, samples::batch(1, vec![first, last], &[(&task, true)]));
    let said = |score, at| FeedbackRow { task: id(1), agent: "a".into(), score, at: Millis(at) };
    let of = |rows: Vec<FeedbackRow>| Batch { feedback: rows, ..Batch::default() };
    commit(kept, of(vec![said(1, 10)]));
    assert_eq!(kept.feedback(Millis(10)), [said(1, 10)]);
    commit(kept, of(vec![said(2, 20), said(5, 30)]));
    assert_eq!(kept.feedback(Millis(0)), [said(5, 30)]);
    assert_eq!(kept.feedback(Millis(31)), []);
    let late = Millis(task.ended_at().expect("it ended").0 + 1_000);
    while kept.tidy(late).expect("tidied") {}
    assert_eq!((kept.rows("tasks"), kept.rows("feedback")), (0, 0));
}

pub(crate) fn a_long_history_goes_in_slices(kept: &mut impl Kept) {
    let (first, mut task) = submitted(id(0), &large('l'));
    let mut records = vec![first];
    records.extend((0..2_998).map(|_| next(&mut task, Event::Woken)));
    records.push(next(&mut task, Event::Cancelled));
    commit(kept, samples::batch(1, records, &[(&task, true)]));
    let late = Millis(task.ended_at().expect("it ended").0 + 1_000);
    // The first 64 stand in the task's row, then 64 in each row: a piece removes 1,024.
    let rows = (3_000_u64 - 64).div_euclid(64) + 1;
    for left in [rows - 16, rows - 32] {
        assert_eq!(kept.tidy(late), Ok(true));
        assert_eq!((kept.rows("tasks"), kept.rows("events")), (1, left));
    }
    assert_eq!(kept.tidy(late), Ok(false));
    assert_eq!((kept.rows("tasks"), kept.rows("events"), kept.rows("blobs")), (0, 0, 0));
}

/// 60 tasks; every tenth is a dead letter, every seventh has tags.
fn fill(kept: &mut impl Kept) -> BTreeMap<TaskId, Task> {
    let mut tasks = BTreeMap::new();
    for i in 0..60 {
        let (first, mut task) = submitted(id(i), &Payload::null());
        let mut records = vec![first];
        if i % 10 == 0 {
            records.push(next(&mut task, dead_lettered()));
        }
        if i % 7 == 0 {
            task.change(|task| task.tags = Some(Arc::from(["say \"hi".into(), "red".into()])));
        }
        commit(kept, samples::batch(i, records, &[(&task, true)]));
        tasks.insert(task.id, task);
    }
    tasks
}

pub(crate) fn lists_are_newest_first_whatever_the_page(kept: &mut impl Kept) {
    let tasks = fill(kept);
    let any = Filter::default();
    let of_state = |state| Filter { state: Some(state), ..Filter::default() };
    let tagged = |tag: &str| Filter { tag: Some(tag.into()), ..Filter::default() };
    let other = Filter { tenant: Some("other".into()), ..Filter::default() };
    let own =
        Filter { tenant: Some("default".into()), agent: Some("echo".into()), ..Filter::default() };
    let keyed = Filter { fairness_key: Some("k".into()), ..Filter::default() };
    type Fits = fn(&Task) -> bool;
    let filters: [(&Filter, Fits); 9] = [
        (&any, |_| true),
        (&own, |_| true),
        (&other, |_| false),
        (&keyed, |_| false),
        (&tagged("red"), |task| !task.tags().is_empty()),
        (&tagged("say \"hi"), |task| !task.tags().is_empty()),
        (&of_state(State::Failed), |task| task.state == State::Failed),
        (&of_state(State::Queued), |task| task.state == State::Queued),
        (&of_state(State::Succeeded), |_| false),
    ];
    for (filter, fits) in filters {
        let expected: Vec<&Task> = tasks.values().rev().filter(|task| fits(task)).collect();
        for limit in [1, 2, 7, 59, 60, 500] {
            let listed = listed(&mut *kept.reader(), filter, limit);
            assert!(listed.iter().eq(expected.iter().copied()), "{filter:?}, {limit} a page");
        }
    }
}

/// All pages of a list.
fn listed(reader: &mut dyn Reader, filter: &Filter, limit: usize) -> Vec<Task> {
    let (mut got, mut before) = (Vec::new(), None);
    loop {
        let Page { tasks, next } = reader.list(filter, before, limit).expect("readable");
        assert!(tasks.len() <= limit);
        assert!(next.is_none_or(|next| before.is_none_or(|before| next < before)), "progress");
        got.extend(tasks);
        before = next;
        if before.is_none() {
            return got;
        }
    }
}

pub(crate) fn a_list_that_looked_at_enough_says_where_to_go_on(kept: &mut impl Kept) {
    let tasks = fill(kept);
    let pages = |filter: &Filter| {
        let (mut before, mut pages, mut got) = (None, 0, 0);
        loop {
            let page = kept.page_within(filter, before, 4);
            (before, pages, got) = (page.next, pages + 1, got + page.tasks.len());
            if before.is_none() {
                return (pages, got);
            }
        }
    };
    let nothing = Filter { tenant: Some("other".into()), ..Filter::default() };
    let (walked, found) = pages(&nothing);
    assert!(5 <= walked && found == 0, "{walked} pages, {found} tasks");
    assert_eq!(pages(&Filter::default()).1, tasks.len());
}

/// Commits histories in groups of so many batches: they are loaded and read as they were made.
pub(crate) fn histories_are_loaded_and_read(
    kept: &mut impl Kept,
    histories: Histories,
    group: usize,
) {
    let Histories { batches, live, read, keys } = histories;
    for group in batches.chunks(group) {
        kept.commit(group).expect("committed");
    }
    assert_eq!(kept.tidy(Millis(0)), Ok(false), "and what waited is taken over");
    assert_eq!(kept.loaded(), (live, keys));
    let mut reader = kept.reader();
    for (id, (task, records)) in read {
        assert_eq!(reader.task(id).expect("readable"), Some(task));
        assert_eq!(history(&mut *reader, id), records);
    }
}
