//! Databases and commits that are refused, each with what to do about it.

use super::*;
use crate::samples::{next, started, submitted};
use no_engine::payload::Payload;
use no_engine::port::{CommitError, Filter};

#[track_caller]
fn check<T: std::fmt::Debug>(done: Result<T>, expected: &str) {
    let text = done.expect_err("it is to be refused").to_string();
    assert!(text.contains(expected), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn a_database_that_cannot_be_used_is_named_with_what_to_do() {
    let Some(server) = Server::shared() else { return };
    let name = server.database();
    let good = options(&server, &name);
    let at = format!("PostgreSQL at {}:{}", good.host, good.port);
    let tables = format!("{at} has no tables of nO in this database: run `no db migrate`");
    check(PgStore::open(&good, 7), &tables);
    check(super::check(&good), &tables);

    let other = PgOptions { name: "nowhere".into(), ..good.clone() };
    check(migrate(&other), &format!("{at} has no database nowhere: create it"));
    let other = PgOptions { host: "/nowhere".into(), ..good.clone() };
    check(super::check(&other), "cannot reach PostgreSQL at /nowhere:5432: ");

    server.says("postgres", "CREATE ROLE with_password LOGIN PASSWORD 's3cret-1'");
    server.says("postgres", &format!("GRANT ALL ON DATABASE {name} TO with_password"));
    let role = |password: Option<&str>| PgOptions {
        user: "with_password".into(),
        password: password.map(str::to_owned),
        ..good.clone()
    };
    check(super::check(&role(Some("s3cret-2"))), "refuses the role with_password: password");
    check(super::check(&role(None)), "check user, password and rights");
    // Who may not make tables is told so, too.
    check(migrate(&role(Some("s3cret-1"))), "permission denied");

    assert_eq!(migrate(&good).expect("migrated"), Migrated { from: None, to: known() });
    assert_eq!(migrate(&good).expect("again"), Migrated { from: Some(known()), to: known() });
    let found = super::check(&good).expect("a sound database");
    assert_eq!((found.schema, found.warnings), (known(), Vec::<String>::new()));
    assert!(Duration::ZERO < found.commit && found.server.starts_with(char::is_numeric));

    PgStore::open(&good, 7).expect("new");
    check(PgStore::open(&good, 8), "was created with 7 partitions, not 8");
    server.says(&name, "UPDATE refinery_schema_history SET version = version + 41");
    let newer = format!("has schema version {}, this nO knows up to", known() + 41);
    check(PgStore::open(&good, 7), &newer);
    check(migrate(&good), &newer);
    let back = known() + 41;
    server.says(&name, &format!("UPDATE refinery_schema_history SET version = version - {back}"));
    check(PgStore::open(&good, 7), "has schema version 0, this nO needs");
}

#[test]
fn a_server_that_would_lose_commits_is_refused() {
    let Some(server) = Server::started() else { return };
    let name = server.database();
    migrate(&options(&server, &name)).expect("migrated");
    server.kill();
    server.start(&["fsync=off"]);
    check(PgStore::open(&options(&server, &name), 7), "set `fsync = on`");
    server.kill();
    // What the server says of commits is for each session to say anew.
    server.start(&["synchronous_commit=off", "full_page_writes=off"]);
    PgStore::open(&options(&server, &name), 7).expect("set by the session");
    let found = super::check(&options(&server, &name)).expect("likewise");
    assert_eq!(found.warnings.len(), 1, "{found:?}");
    let other = "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'";
    server.says("postgres", other);
    check(migrate(&options(&server, "latin")), "the database's encoding is not UTF8");
}

#[test]
fn with_tls_the_server_must_be_the_one_that_was_asked_for() {
    let Some(server) = Server::started() else { return };
    let name = server.database();
    server.says("postgres", "ALTER ROLE no PASSWORD 's3cret-1'");
    server.kill();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("made");
    server.listen_with_tls(&made.cert.pem(), &made.signing_key.serialize_pem());
    server.start(&["listen_addresses=127.0.0.1", "ssl=on"]);
    let trusting = |certificate: &rcgen::Certificate| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.der().clone()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().expect("there are some");
        let config = config.with_root_certificates(roots).with_no_client_auth();
        PgOptions {
            host: "127.0.0.1".into(),
            port: server.port(),
            password: Some("s3cret-1".into()),
            tls: Some(Arc::new(config)),
            ..options(&server, &name)
        }
    };
    let good = trusting(&made.cert);
    migrate(&good).expect("migrated");
    let store = PgStore::open(&good, PARTITIONS_FEW).expect("sound");
    commit(&mut journal_of(&store, "a"), submit(0));
    assert_eq!(loaded(&store).0.len(), 1);

    let another = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("made");
    check(super::check(&trusting(&another.cert)), "certificate");
    check(super::check(&PgOptions { host: "localhost".into(), ..good.clone() }), "certificate");
    // The server takes none without TLS, and none with a wrong password.
    check(super::check(&PgOptions { tls: None, ..good.clone() }), "refuses the role no: ");
    let wrong = Some("s3cret-2".to_owned());
    check(super::check(&PgOptions { password: wrong, ..good }), "refuses the role no: password");
}

#[test]
fn two_migrations_at_once_make_the_tables_once() {
    let Some(server) = Server::shared() else { return };
    for _ in 0..3 {
        let options = options(&server, &server.database());
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| migrate(&options))).collect();
            for thread in threads {
                assert_eq!(thread.join().expect("no panic").expect("migrated").to, known());
            }
        });
        PgStore::open(&options, PARTITIONS_FEW).expect("sound");
    }
}

fn submit(i: u64) -> Batch {
    let (first, task) = submitted(id(i), &Payload::null());
    samples::batch(i, vec![first], &[(&task, true)])
}

/// What the commit says; and that neither it nor any after it wrote anything.
#[track_caller]
fn refused(database: &Database, journal: &mut PgJournal, batch: Batch) -> String {
    let before = (database.count("tasks"), database.count("events"), database.count("keys"));
    let Err(CommitError::Failed(why)) = journal.commit(&[batch]) else { panic!("it was taken") };
    assert!(matches!(journal.commit(&[Batch::default()]), Err(CommitError::Failed(_))));
    let after = (database.count("tasks"), database.count("events"), database.count("keys"));
    assert_eq!(after, before, "{why}");
    why
}

#[test]
fn a_stale_fence_commits_nothing() {
    let Some(database) = Database::made() else { return };
    let store = database.open();
    let mut old = journal_of(&store, "a");
    commit(&mut old, submit(0));
    // One of its partitions goes to another node; the others stay.
    let taken = store.take("b", &[PartitionId(3)]).expect("taken");
    assert_eq!(taken, [(PartitionId(3), Fence(2))]);
    commit(&mut old, submit(1));
    let mut batch = submit(2);
    batch.records.extend(submit(3).records);
    batch.tasks.extend(submit(3).tasks);
    let why = refused(&database, &mut old, batch);
    assert!(why.contains("its fence is stale"), "{why}");
    let unknown = store.take("b", &[PartitionId(6), PartitionId(7)]);
    check(unknown, "the store has no partition 7");
    // Nor does it leave in order, or write what is of no partition.
    let mut old = journal_of(&store, "a");
    let _ = store.take("b", &[PartitionId(6)]).expect("taken");
    let gone = Batch { agents_gone: vec!["x".into()], ..Batch::default() };
    assert!(refused(&database, &mut old, gone).contains("its fence is stale"));
    let mut old = journal_of(&store, "a");
    let _ = store.take("b", &[PartitionId(6)]).expect("taken");
    assert!(matches!(crate::writer::Finish::finish(&mut old), Err(CommitError::Failed(_))));
}

#[test]
fn a_taker_waits_for_the_commit_under_way() {
    let Some(database) = Database::made() else { return };
    let store = database.open();
    let mut old = journal_of(&store, "a");
    // A lock on another row of the commit holds it up after its fences were compared.
    let hold = "BEGIN; SELECT 1 FROM tasks WHERE agent = 'echo' FOR UPDATE; SELECT pg_sleep(1); \
                COMMIT";
    commit(&mut old, submit(0));
    let (second, batch) = {
        let (_, mut task) = submitted(id(0), &Payload::null());
        let second = next(&mut task, started());
        (second.clone(), samples::batch(2, vec![second], &[(&task, false)]))
    };
    std::thread::scope(|scope| {
        scope.spawn(|| database.server.says(&database.name, hold));
        until(&database, "pg_sleep", 1);
        let committing = scope.spawn(|| old.commit(&[batch]));
        until(&database, "UPDATE tasks", 1);
        // The takeover comes second, and so it sees what was committed.
        store.take("b", &[PartitionId(0)]).expect("taken");
        assert_eq!(history(&mut store.reader().expect("a reader"), id(0)).pop(), Some(second));
        assert_eq!(committing.join().expect("no panic"), Ok(()));
    });
}

/// Waits until so many statements like that are under way.
fn until(database: &Database, part: &str, count: u64) {
    let deadline = std::time::Instant::now() + server::PATIENCE;
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%{part}%' \
         AND pid <> pg_backend_pid() AND datname = current_database()"
    );
    while database.server.says(&database.name, &sql).parse::<u64>().expect("a count") < count {
        assert!(std::time::Instant::now() < deadline, "never: {part}");
    }
}

#[test]
fn what_would_not_be_whole_is_not_there_at_all() {
    let Some(database) = Database::made() else { return };
    let store = database.open();
    // A task that changed and has no row, beside one that came.
    let mut journal = journal_of(&store, "a");
    let (_, mut task) = submitted(id(1), &Payload::null());
    let second = next(&mut task, started());
    let mut batch = samples::batch(1, vec![second], &[(&task, false)]);
    batch.records.extend(submit(0).records);
    batch.tasks.extend(submit(0).tasks);
    assert!(refused(&database, &mut journal, batch).contains("has no row"));
    // A partition that is not the journal's.
    let owned = store.take("a", &[PartitionId(0)]).expect("taken");
    let own = JournalOptions { owner: "a".into(), shard: ShardId(0), owned, retention_ms: 1_000 };
    let mut journal = store.journal(&own).expect("a journal");
    commit(&mut journal, submit(7));
    let why = refused(&database, &mut journal, submit(8));
    assert!(why.contains("writes partition 1, which is not this journal's"), "{why}");
    // A number that the table has no room for is refused before anything is sent.
    let mut journal = journal_of(&store, "a");
    let mut batch = submit(14);
    batch.records[0].n = 1;
    let (mut far, _) = submitted(id(14), &Payload::null());
    far.n = u32::MAX;
    far.event = Arc::new(no_engine::event::Event::Woken);
    let mut other = submit(21);
    other.records.push(Record { task: id(21), ..far });
    other.records.remove(0);
    batch.records.extend(other.records);
    batch.tasks.extend(other.tasks);
    refused(&database, &mut journal, batch);
    // A journal that was opened again elsewhere.
    let mut journal = journal_of(&store, "a");
    let mut again = store.journal(&own).expect("opened again");
    let why = refused(&database, &mut journal, submit(28));
    assert!(why.contains("another nO opened this journal"), "{why}");
    let why = refused(&database, &mut again, submit(28));
    assert!(why.contains("its fence is stale"), "{why}");
}

#[test]
fn a_nul_in_a_name_harms_nobody() {
    let Some(database) = Database::made() else { return };
    let store = database.open();
    let mut journal = journal_of(&store, "a");
    let input = Payload::inline(br#""\u0000""#);
    let (first, mut task) = submitted(id(0), &input);
    task.agent = "e\0cho".into();
    task.tenant = "\u{1}0".into();
    task.change(|task| {
        task.fairness_key = Some("\0".into());
        task.tags = Some(Arc::from(["\0".into(), "b".into()]));
    });
    commit(&mut journal, samples::batch(1, vec![first], &[(&task, true)]));
    commit(&mut journal, submit(1));
    assert_eq!(loaded(&store).0[&task.id], task);
    let mut reader = store.reader().expect("a reader");
    for filter in [
        Filter { agent: Some("e\0cho".into()), ..Filter::default() },
        Filter { tenant: Some("\u{1}0".into()), ..Filter::default() },
        Filter { fairness_key: Some("\0".into()), ..Filter::default() },
        Filter { tag: Some("\0".into()), ..Filter::default() },
    ] {
        let page = reader.list(&filter, None, 10).expect("readable");
        assert_eq!(page.tasks, std::slice::from_ref(&task), "{filter:?}");
    }
}
