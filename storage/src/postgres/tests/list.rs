//! Lists: newest first, filtered, in pages.

use super::*;
use crate::samples::{dead_lettered, next};
use no_engine::payload::Payload;
use no_engine::port::{Filter, Page};
use no_engine::task::State;

/// 60 tasks; every tenth is a dead letter, every seventh has a tag.
fn filled(database: &Database) -> (PgStore, BTreeMap<TaskId, Task>) {
    let store = database.open();
    let mut journal = journal_of(&store, "a");
    let mut tasks = BTreeMap::new();
    for i in 0..60 {
        let (first, mut task) = samples::submitted(id(i), &Payload::null());
        let mut records = vec![first];
        if i % 10 == 0 {
            records.push(next(&mut task, dead_lettered()));
        }
        if i % 7 == 0 {
            task.change(|task| task.tags = Some(Arc::from(["say \"hi".into(), "red".into()])));
        }
        commit(&mut journal, samples::batch(i, records, &[(&task, true)]));
        tasks.insert(task.id, task);
    }
    (store, tasks)
}

fn check(
    store: &PgStore,
    tasks: &BTreeMap<TaskId, Task>,
    filter: &Filter,
    limit: usize,
    fits: impl Fn(&Task) -> bool,
) {
    let mut reader = store.reader().expect("a reader");
    let (mut got, mut before) = (Vec::new(), None);
    loop {
        let Page { tasks, next } = reader.list(filter, before, limit).expect("readable");
        assert!(tasks.len() <= limit);
        assert!(next.is_none_or(|next| before.is_none_or(|before| next < before)), "progress");
        got.extend(tasks);
        before = next;
        if before.is_none() {
            break;
        }
    }
    let expected: Vec<Task> = tasks.values().rev().filter(|task| fits(task)).cloned().collect();
    assert_eq!(got, expected);
}

#[test]
fn lists_are_newest_first_whatever_the_page() {
    let Some(database) = Database::made() else { return };
    let (store, tasks) = filled(&database);
    for limit in [1, 2, 7, 59, 60, 500] {
        check(&store, &tasks, &Filter::default(), limit, |_| true);
        let failed = Filter { state: Some(State::Failed), ..Filter::default() };
        check(&store, &tasks, &failed, limit, |task| task.state == State::Failed);
        let queued = Filter { state: Some(State::Queued), ..Filter::default() };
        check(&store, &tasks, &queued, limit, |task| task.state == State::Queued);
        let red = Filter { tag: Some("red".into()), ..Filter::default() };
        check(&store, &tasks, &red, limit, |task| !task.tags().is_empty());
        let done = Filter { state: Some(State::Succeeded), ..Filter::default() };
        check(&store, &tasks, &done, limit, |_| false);
        let other = Filter { tenant: Some("other".into()), ..Filter::default() };
        check(&store, &tasks, &other, limit, |_| false);
        let own = Filter {
            tenant: Some("default".into()),
            agent: Some("echo".into()),
            ..Filter::default()
        };
        check(&store, &tasks, &own, limit, |_| true);
        let keyed = Filter { fairness_key: Some("k".into()), ..Filter::default() };
        check(&store, &tasks, &keyed, limit, |_| false);
    }
}

#[test]
fn a_list_that_looked_at_enough_says_where_to_go_on() {
    let Some(database) = Database::made() else { return };
    let (store, tasks) = filled(&database);
    let mut reader = store.reader().expect("a reader");
    let nothing = Filter { tenant: Some("other".into()), ..Filter::default() };
    let (mut before, mut pages) = (None, 0);
    loop {
        let page = reader.page_within(&nothing, before, 10, 4).expect("readable");
        assert!(page.tasks.is_empty());
        (before, pages) = (page.next, pages + 1);
        if before.is_none() {
            break;
        }
    }
    assert!(5 <= pages, "{pages}");
    let (mut before, mut got) = (None, 0);
    loop {
        let page = reader.page_within(&Filter::default(), before, 10, 4).expect("readable");
        (before, got) = (page.next, got + page.tasks.len());
        if before.is_none() {
            break;
        }
    }
    assert_eq!(got, tasks.len());
}
