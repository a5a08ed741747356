//! Servers that die and connections that break: what was acknowledged is there, and all is there
//! once.

use super::proxy::{Cut, Proxy};
use super::server::PATIENCE;
use super::*;
use crate::samples::{next, started, submitted};
use crate::writer::Finish;
use no_engine::payload::Payload;
use no_engine::port::CommitError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

/// Task `i` comes, and starts in a commit of its own. Counts both.
fn commit_two(journal: &mut PgJournal, i: u64, acknowledged: &AtomicU64) {
    let (first, mut task) = submitted(id(i), &Payload::null());
    commit(journal, samples::batch(2 * i, vec![first], &[(&task, true)]));
    acknowledged.fetch_add(1, Ordering::Relaxed);
    let second = next(&mut task, started());
    commit(journal, samples::batch(2 * i + 1, vec![second], &[(&task, false)]));
    acknowledged.fetch_add(1, Ordering::Relaxed);
}

/// Checks that there are just the first `tasks` tasks, with two events each.
fn check_all(database: &Database, store: &PgStore, tasks: u64) {
    let ids: Vec<TaskId> = loaded(store).0.into_keys().collect();
    assert_eq!(ids, (0..tasks).map(id).collect::<Vec<_>>());
    assert_eq!(database.count("tasks"), tasks);
    let mut reader = store.reader().expect("a reader");
    for id in ids {
        let names: Vec<_> = history(&mut reader, id).iter().map(|r| r.event.name()).collect();
        assert_eq!(names, ["submitted", "started"]);
    }
}

/// Commits for ever while `disturb` is at work, which may wait until so many are acknowledged.
fn disturbed(database: &Database, disturb: impl FnOnce(&dyn Fn(u64))) {
    let store = database.open();
    let mut journal = journal_of(&store, "a");
    let (acknowledged, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let tasks = std::thread::scope(|scope| {
        let committing = scope.spawn(|| {
            let mut tasks = 0;
            while !is_over.load(Ordering::Relaxed) {
                commit_two(&mut journal, tasks, &acknowledged);
                tasks += 1;
            }
            tasks
        });
        disturb(&|more| {
            let enough = acknowledged.load(Ordering::Relaxed) + more;
            let deadline = Instant::now() + PATIENCE;
            while acknowledged.load(Ordering::Relaxed) < enough && !committing.is_finished() {
                assert!(Instant::now() < deadline, "no commits");
                std::thread::park_timeout(Duration::from_millis(1));
            }
        });
        is_over.store(true, Ordering::Relaxed);
        committing.join().expect("each commit comes in at last")
    });
    assert_eq!(acknowledged.load(Ordering::Relaxed), 2 * tasks);
    check_all(database, &store, tasks);
    assert_eq!(journal.commits(), 2 * tasks);
    journal.finish().expect("in order");
    assert!(journal_of(&store, "a").was_clean());
    assert!(!journal_of(&store, "a").was_clean(), "that one was not");
}

#[test]
fn a_server_that_is_killed_loses_nothing_and_has_nothing_twice() {
    let Some(server) = Server::started() else { return };
    let database = Database::on(Arc::new(server));
    let mut rounds = 0;
    disturbed(&database, |wait| {
        for more in [10, 1, 33, 2, 21, 7] {
            wait(more);
            database.server.kill();
            database.server.start(&[]);
            rounds += 1;
        }
        wait(1);
    });
    assert_eq!(rounds, 6);
}

#[test]
fn sessions_that_are_ended_lose_nothing_and_have_nothing_twice() {
    let Some(database) = Database::made() else { return };
    let mut ended = 0;
    disturbed(&database, |wait| {
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE application_name = 'no journal' AND datname = current_database()";
        for more in (0..20).chain([1]) {
            let said = database.server.says(&database.name, sql);
            ended += said.parse::<u32>().expect("a count");
            wait(more);
        }
    });
    assert!(10 <= ended, "{ended}");
}

#[test]
fn a_read_whose_session_was_ended_is_asked_again() {
    let Some(database) = Database::made() else { return };
    let store = database.open();
    commit_two(&mut journal_of(&store, "a"), 0, &AtomicU64::new(0));
    let mut reader = store.reader().expect("a reader");
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE application_name = 'no reader' AND datname = current_database()";
    for _ in 0..3 {
        assert_eq!(history(&mut reader, id(0)).len(), 2);
        assert_eq!(database.server.says(&database.name, end), "1");
    }
    assert!(reader.task(id(0)).expect("again").is_some());
}

/// A store whose connections go through a proxy, with the tasks so far committed.
struct Cuts {
    database: Database,
    proxy: Proxy,
    store: PgStore,
    journal: PgJournal,
}

impl Cuts {
    fn made() -> Option<Cuts> {
        let database = Database::made()?;
        let proxy = Proxy::before(&database.server);
        let host = proxy.folder().to_str().expect("plain").to_owned();
        let options = PgOptions { host, ..database.options() };
        let store = PgStore::open(&options, PARTITIONS_FEW).expect("a sound database");
        let mut journal = journal_of(&store, "a");
        commit_two(&mut journal, 0, &AtomicU64::new(0));
        Some(Cuts { database, proxy, store, journal })
    }
}

#[test]
fn a_commit_that_never_reached_the_server_is_sent_again() {
    let Some(Cuts { database, proxy, store, mut journal }) = Cuts::made() else { return };
    for i in 1..4 {
        proxy.cut(Cut::Before);
        commit_two(&mut journal, i, &AtomicU64::new(0));
        proxy.wait();
    }
    check_all(&database, &store, 4);
}

#[test]
fn a_commit_whose_answer_is_lost_is_not_sent_again() {
    let Some(Cuts { database, proxy, store, mut journal }) = Cuts::made() else { return };
    for i in 1..4 {
        proxy.cut(Cut::After);
        commit_two(&mut journal, i, &AtomicU64::new(0));
        proxy.wait();
    }
    check_all(&database, &store, 4);
    // Had it been sent again, the number would have been refused and the row been there twice.
    assert_eq!(journal.commits(), 8);
}

#[test]
fn a_commit_that_comes_in_late_is_in_once() {
    let Some(Cuts { database, proxy, store, mut journal }) = Cuts::made() else { return };
    let (late, let_go) = mpsc::channel();
    proxy.cut(Cut::Late(let_go));
    std::thread::scope(|scope| {
        let committing = scope.spawn(|| commit_two(&mut journal, 1, &AtomicU64::new(0)));
        proxy.wait();
        // The second try reads the number of before, and waits for the first one's lock.
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                     AND query LIKE '%UPDATE journals%'";
        let deadline = Instant::now() + PATIENCE;
        while database.server.says(&database.name, waits) != "1" {
            assert!(Instant::now() < deadline, "nobody waits");
        }
        drop(late);
        committing.join().expect("it is in");
    });
    check_all(&database, &store, 2);
}

#[test]
fn a_server_that_hangs_is_waited_for_no_longer_than_asked_and_has_nothing_twice() {
    let Some(server) = Server::started() else { return };
    let database = Database::on(Arc::new(server));
    let proxy = Proxy::before(&database.server);
    let host = proxy.folder().to_str().expect("plain").to_owned();
    let options = PgOptions { host, connect_timeout: PATIENCE, ..database.options() };
    let options = PgOptions { statement_timeout: Duration::from_secs(1), ..options };
    let store = PgStore::open(&options, PARTITIONS_FEW).expect("a sound database");
    let mut journal = journal_of(&store, "a");
    commit_two(&mut journal, 0, &AtomicU64::new(0));
    database.server.hang();
    std::thread::scope(|scope| {
        let committing = scope.spawn(|| commit_two(&mut journal, 1, &AtomicU64::new(0)));
        // It gave up on the answer, and asks again from the beginning.
        let (before, deadline) = (proxy.connections(), Instant::now() + PATIENCE);
        while proxy.connections() == before {
            assert!(Instant::now() < deadline, "it waits for ever");
            std::thread::park_timeout(Duration::from_millis(1));
        }
        database.server.go_on();
        committing.join().expect("it is in");
    });
    check_all(&database, &store, 2);
}

#[test]
fn what_the_server_rolls_back_for_others_sake_is_sent_again() {
    let Some(database) = Database::made() else { return };
    let store = database.open();
    let mut journal = journal_of(&store, "a");
    // Fails now and then: at once, at the end, for a lock.
    let fail = |at: &str, code: &str| {
        format!(
            "CREATE SEQUENCE {at}_tries; CREATE FUNCTION {at}() RETURNS trigger AS $$ BEGIN \
             IF nextval('{at}_tries') % 2 = 1 THEN RAISE 'again' USING ERRCODE = '{code}'; END IF; \
             RETURN NEW; END $$ LANGUAGE plpgsql;"
        )
    };
    let triggers = [
        fail("at_once", "40001"),
        fail("at_end", "40001"),
        fail("for_lock", "55P03"),
        "CREATE TRIGGER at_once BEFORE INSERT ON tasks FOR EACH ROW EXECUTE FUNCTION at_once();
         CREATE CONSTRAINT TRIGGER at_end AFTER INSERT ON tasks DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION at_end();
         CREATE TRIGGER for_lock BEFORE UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION for_lock();"
            .to_owned(),
    ];
    database.server.says(&database.name, &triggers.join(" "));
    for i in 0..3 {
        commit_two(&mut journal, i, &AtomicU64::new(0));
    }
    check_all(&database, &store, 3);
}

#[test]
fn a_full_disk_leaves_no_trace_and_goes_on_with_room() {
    let Some(database) = Database::made() else { return };
    let store = database.open();
    let mut journal = journal_of(&store, "a");
    let full = "CREATE FUNCTION full_disk() RETURNS trigger AS $$ BEGIN \
                RAISE 'no space' USING ERRCODE = '53100'; END $$ LANGUAGE plpgsql; \
                CREATE TRIGGER full_disk BEFORE INSERT ON events EXECUTE FUNCTION full_disk()";
    database.server.says(&database.name, full);
    let (first, mut task) = submitted(id(0), &Payload::null());
    let records = vec![first, next(&mut task, started())];
    let mut batch = samples::batch(1, records, &[(&task, true)]);
    // More than the task's own row takes.
    let more = no_engine::event::Event::Woken;
    batch.records.extend((0..100).map(|_| next(&mut task, more.clone())));
    batch.tasks[0].task = task.clone();
    for _ in 0..2 {
        assert_eq!(journal.commit(std::slice::from_ref(&batch)), Err(CommitError::Full));
        assert_eq!(database.count("tasks"), 0);
    }
    database.server.says(&database.name, "DROP TRIGGER full_disk ON events");
    journal.commit(std::slice::from_ref(&batch)).expect("the very same batch");
    assert_eq!(loaded(&store).0[&task.id], task);
    assert_eq!(journal.commits(), 1);
}

#[test]
fn a_database_that_stays_away_or_goes_back_in_time_fails_the_journal() {
    let Some(server) = Server::started() else { return };
    let database = Database::on(Arc::new(server));
    let impatient = PgOptions { retry: Duration::ZERO, ..database.options() };
    let store = PgStore::open(&impatient, PARTITIONS_FEW).expect("a sound database");
    let mut journal = journal_of(&store, "a");
    commit_two(&mut journal, 0, &AtomicU64::new(0));
    database.server.kill();
    let (first, task) = submitted(id(1), &Payload::null());
    let batch = samples::batch(3, vec![first], &[(&task, true)]);
    let Err(CommitError::Failed(why)) = journal.commit(&[batch]) else { panic!("none is there") };
    assert!(why.contains("no commit for 0 s"), "{why}");
    let mut reader = store.reader().expect("it is made all the same");
    assert!(reader.task(id(0)).expect_err("away").contains("cannot reach PostgreSQL at"));
    database.server.start(&[]);
    assert!(reader.task(id(0)).expect("back").is_some());
    assert!(matches!(journal.commit(&[]), Err(CommitError::Failed(_))), "in doubt for good");

    // As a standby would be that took over and had not got all.
    let store = database.open();
    let mut journal = journal_of(&store, "a");
    commit_two(&mut journal, 1, &AtomicU64::new(0));
    database.server.says(&database.name, "UPDATE journals SET seq = 1");
    let (first, task) = submitted(id(2), &Payload::null());
    let batch = samples::batch(3, vec![first], &[(&task, true)]);
    let Err(CommitError::Failed(why)) = journal.commit(&[batch]) else { panic!("it went on") };
    assert!(
        why.contains("lost commits: it has commit 1 as the last, and had acknowledged 2"),
        "{why}"
    );
    check_all(&database, &store, 2);
}
