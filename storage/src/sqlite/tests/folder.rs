//! Folders that are not as they should be.

use super::*;
use crate::samples::next;
use crate::writer::Finish;
use no_engine::event::Event;
use no_engine::payload::Payload;

fn refusal(dir: &Path, options: &OpenOptions) -> String {
    let error = Store::open(dir, options).err().expect("a refusal").to_string();
    error.replace(&dir.display().to_string(), "DIR")
}

#[test]
fn a_clean_stop_is_noted_and_a_crash_is_not() {
    let dir = folder();
    let mut store = open(dir.path(), 2);
    assert!(store.was_clean(), "new");
    let both = journals(&mut store);
    drop((both, store));
    let mut store = open(dir.path(), 2);
    assert!(!store.was_clean(), "it just went away");
    let mut both = journals(&mut store);
    both[0].finish().expect("finished");
    drop((both, store));
    let mut store = open(dir.path(), 2);
    assert!(!store.was_clean(), "one shard is not enough");
    let mut both = journals(&mut store);
    both.iter_mut().for_each(|journal| journal.finish().expect("finished"));
    drop((both, store));
    assert!(open(dir.path(), 2).was_clean());
}

#[test]
fn a_foreign_folder_is_refused_and_left_alone() {
    let dir = folder();
    std::fs::write(dir.path().join("thesis.txt"), "42").expect("written");
    let expected = "DIR holds files but no nO store: name an empty or a new folder";
    assert_eq!(refusal(dir.path(), &options(1)), expected);
    assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 1);
    std::fs::remove_file(dir.path().join("thesis.txt")).expect("removed");
    std::fs::write(dir.path().join("no.json"), r#"{"store":"other","schema":1}"#).expect("written");
    assert_eq!(refusal(dir.path(), &options(1)), expected);
}

#[test]
fn the_folder_of_a_volume_with_a_token_is_no_foreign_one() {
    let dir = folder();
    std::fs::create_dir(dir.path().join("lost+found")).expect("made");
    std::fs::write(dir.path().join("admin.token"), "x").expect("written");
    open(dir.path(), 1);
}

#[test]
fn a_second_one_is_refused_while_the_first_is_there() {
    let dir = folder();
    let store = open(dir.path(), 1);
    let expected = "DIR is in use by another nO: stop it first, or name another folder";
    assert_eq!(refusal(dir.path(), &options(1)), expected);
    drop(store);
    open(dir.path(), 1);
}

#[test]
fn other_partitions_are_refused() {
    let dir = folder();
    drop(open(dir.path(), 1));
    let other = OpenOptions { partitions: 8, ..options(1) };
    let expected = "DIR was created with 7 partitions, not 8: they cannot change, set 7";
    assert_eq!(refusal(dir.path(), &other), expected);
    open(dir.path(), 1);
}

#[test]
fn newer_ones_are_refused() {
    let dir = folder();
    drop(open(dir.path(), 1));
    let file = schema::shard_path(dir.path(), 0);
    let db = Connection::open(&file).expect("opens");
    db.execute_batch("PRAGMA user_version = 4; PRAGMA wal_checkpoint(TRUNCATE)").expect("set");
    drop(db);
    let expected = "DIR/shard-000.db has schema version 4, this nO knows up to 3: run the newer nO";
    assert_eq!(refusal(dir.path(), &options(1)), expected);
    let newer = r#"{"store":"nO","schema":4,"colour":"red"}"#;
    std::fs::write(dir.path().join("no.json"), newer).expect("written");
    let expected = "DIR/no.json has schema version 4, this nO knows up to 3: run the newer nO";
    assert_eq!(refusal(dir.path(), &options(1)), expected);
}

#[test]
fn one_without_feedback_is_moved_on() {
    let dir = folder();
    drop(open(dir.path(), 1));
    let db = Connection::open(schema::shard_path(dir.path(), 0)).expect("opens");
    let before = "DROP TABLE feedback; PRAGMA user_version = 2; PRAGMA wal_checkpoint(TRUNCATE)";
    db.execute_batch(before).expect("set");
    drop(db);
    let marker = dir.path().join("no.json");
    let text = std::fs::read_to_string(&marker).expect("a marker");
    assert!(text.contains(r#""schema":3"#), "{text}");
    std::fs::write(&marker, text.replace(r#""schema":3"#, r#""schema":2"#)).expect("written");
    drop(open(dir.path(), 1));
    let text = std::fs::read_to_string(&marker).expect("a marker");
    assert!(text.contains(r#""schema":3"#), "{text}");
    let db = Connection::open(schema::shard_path(dir.path(), 0)).expect("opens");
    let count = "SELECT count(*) FROM feedback";
    assert_eq!(db.query_row(count, [], |row| row.get::<_, u32>(0)), Ok(0));
}

#[test]
fn files_whose_events_stand_by_task_are_used_as_they_are() {
    let dir = folder();
    drop(open(dir.path(), 1));
    let file = schema::shard_path(dir.path(), 0);
    let db = Connection::open(&file).expect("opens");
    let by_task = "DROP TABLE events; CREATE TABLE events (task BLOB NOT NULL, n INTEGER NOT NULL,
        data TEXT NOT NULL, named BLOB, PRIMARY KEY (task, n)) WITHOUT ROWID;
        PRAGMA wal_checkpoint(TRUNCATE)";
    db.execute_batch(by_task).expect("made");
    drop(db);
    let mut store = open(dir.path(), 1);
    let mut journal = store.journal(ShardId(0)).expect("a journal");
    let (record, mut task) = samples::submitted(id(0), &Payload::null());
    commit(&mut journal, samples::batch(0, vec![record.clone()], &[(&task, true)]));
    let mut records = vec![record];
    for i in 1..40 {
        records.push(next(&mut task, Event::Woken));
        let last = records[records.len() - 1].clone();
        commit(&mut journal, samples::batch(i, vec![last], &[(&task, false)]));
    }
    assert_eq!(history(&mut store.reader().expect("a reader"), task.id), records);
    drop((journal, store));
    // Shards move between files of either kind.
    let store = open(dir.path(), 2);
    assert_eq!(history(&mut store.reader().expect("a reader"), task.id), records);
}

#[test]
fn damaged_files_are_refused_by_name() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage, &str); 5] = [
        ("shard-000.db", Vec::clear, "the file is too short"),
        ("shard-000.db", |bytes| bytes[3] ^= 1, "its header is not SQLite's"),
        ("shard-000.db", |bytes| bytes.truncate(3 * 8_192), "database disk image is malformed"),
        ("shard-000.db", |bytes| bytes[68..72].fill(7), "it is the database of another program"),
        ("no.json", |bytes| bytes.truncate(9), "it is no marker of a store"),
    ];
    for (name, damage, why) in damages {
        let dir = folder();
        let mut store = open(dir.path(), 1);
        let mut all = journals(&mut store);
        submit(&mut store, &mut all, 0..50, &Payload::null());
        all[0].finish().expect("finished");
        drop((all, store));
        let path = dir.path().join(name);
        let mut bytes = std::fs::read(&path).expect("read");
        damage(&mut bytes);
        std::fs::write(&path, bytes).expect("written");
        let expected =
            format!("DIR/{name} is damaged ({why}): bring back a backup with `no backup restore`");
        assert_eq!(refusal(dir.path(), &options(1)), expected);
    }
}

#[test]
fn a_missing_file_is_damage_and_not_a_new_store() {
    let dir = folder();
    drop(open(dir.path(), 2));
    std::fs::remove_file(schema::shard_path(dir.path(), 1)).expect("removed");
    assert!(
        refusal(dir.path(), &options(2)).contains("shard-001.db is damaged (the file is missing)")
    );
}

#[test]
fn a_flipped_page_is_an_error_when_it_is_read() {
    let dir = folder();
    let mut store = open(dir.path(), 1);
    let mut all = journals(&mut store);
    submit(&mut store, &mut all, 0..200, &Payload::inline(b"[1,2,3]"));
    all[0].finish().expect("finished");
    drop((all, store));
    let path = schema::shard_path(dir.path(), 0);
    let mut bytes = std::fs::read(&path).expect("read");
    let pages = bytes.len() / 8_192;
    // All but the first pages, which hold the schema.
    bytes[12 * 8_192..].chunks_mut(8_192).for_each(|page| page[..4_000].fill(0xa5));
    assert!(12 < pages, "{pages}");
    std::fs::write(&path, bytes).expect("written");
    let store = match Store::open(dir.path(), &options(1)) {
        Ok(store) => store,
        Err(error) => {
            assert!(error.to_string().contains("no backup restore"), "{error}");
            return;
        }
    };
    let mut loader = store.loader(ShardId(0)).expect("opens");
    let error = loader.load(PartitionId(0)).expect_err("damaged").to_string();
    assert!(error.contains("shard-000.db is damaged"), "{error}");
    assert!(error.contains("no backup restore"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_written_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = folder();
    let rights = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(dir.path(), rights(0o555)).expect("set");
    // Root may write anywhere; then this shows nothing, and `error.rs` checks the words.
    if std::fs::write(dir.path().join("admin.token"), "x").is_err() {
        let error = Store::open(dir.path(), &options(1)).err().expect("a refusal");
        assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
    }
    std::fs::set_permissions(dir.path(), rights(0o755)).expect("set");
}

#[test]
fn a_creation_that_was_cut_short_is_finished() {
    let dir = folder();
    Marker::new(PARTITIONS_FEW, 2).write(dir.path()).expect("written");
    // As SQLite leaves it before its first transaction.
    std::fs::write(schema::shard_path(dir.path(), 0), "").expect("written");
    let store = open(dir.path(), 2);
    assert!(store.was_clean());
    assert_eq!(loaded(&store), (BTreeMap::new(), BTreeMap::new()));
}

#[test]
fn the_store_of_version_1_opens_for_ever() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    let dir = copy(&fixture);
    let store = Store::open(dir.path(), &fixture_options()).expect("opens");
    assert!(store.was_clean());
    let mut reader = store.reader().expect("a reader");
    let expected = fixture_content();
    let (tasks, keys) = loaded(&store);
    let open: Vec<&Task> = tasks.values().collect();
    let expected_open: Vec<&Task> = expected
        .tasks
        .iter()
        .map(|image| &image.task)
        .filter(|task| !matches!(task.state.name(), "succeeded" | "cancelled"))
        .collect();
    assert_eq!(open, expected_open);
    assert_eq!(keys.into_values().collect::<Vec<_>>(), expected.keys);
    let agents = store.loader(ShardId(0)).expect("a loader").agents().expect("sound");
    assert_eq!(agents, expected.agents);
    let mut records = Vec::new();
    for image in &expected.tasks {
        assert_eq!(reader.task(image.task.id).expect("readable").as_ref(), Some(&image.task));
        reader.resolve(image.task.id, &image.task.input).expect("stored");
        records.extend(history(&mut reader, image.task.id));
    }
    // Who was submitted is read from the task's row, which the fixture set after the fact.
    let mut stored = expected.records;
    for (record, image) in stored.iter_mut().filter(|record| record.n == 1).zip(&expected.tasks) {
        let Event::Submitted { new, .. } = Arc::make_mut(&mut record.event) else { continue };
        let tags = image.task.tags();
        new.tags = (!tags.is_empty()).then(|| Arc::from(tags));
        (new.fairness_key, new.key) = (image.task.fairness_key().cloned(), image.task.key());
    }
    assert_eq!(records, stored);
}

fn fixture_options() -> OpenOptions {
    OpenOptions { partitions: 4, ..few() }
}

/// One task of each kind of end, with all that a version 1 row can hold.
fn fixture_content() -> Batch {
    use no_engine::agent::definition::{Agent, Budget, Kind};
    use no_engine::agent::state::LoopState;
    use no_engine::event::{AgentRow, KeyRow, TaskImage};
    use no_engine::id::{Attempt, Fence, Seq, Step};
    use no_engine::task::{Key, State, Usage, WaitReason, Waiting};
    use no_engine::time::Millis;
    let mut batch = Batch { seq: Seq(1), ..Batch::default() };
    let ends = [
        None,
        Some(Event::Succeeded { output: Payload::inline(b"{\"ok\":true}") }),
        Some(samples::dead_lettered()),
        Some(Event::Cancelled),
    ];
    for (i, end) in ends.into_iter().enumerate() {
        let id = TaskId::new(1_790_000_000_000 + i as u64, i as u64, PartitionId(i as u16));
        let input = if i == 1 { samples::large('f') } else { Payload::inline(b"{\"n\":1}") };
        let (first, mut task) = samples::submitted(id, &input);
        let second = samples::next(&mut task, samples::started());
        batch.records.extend([first, second]);
        match end {
            Some(end) => batch.records.push(samples::next(&mut task, end)),
            None => {
                task.change(|task| {
                    (task.state, task.tags) = (State::Waiting, Some(Arc::from(["a".into()])));
                    (task.fairness_key, task.steps) = (Some("k".into()), 2);
                    task.key = Some(Key { hash: 1 << 90, fingerprint: u64::MAX });
                    task.budget = Budget { max_iterations: Some(9) };
                    task.usage = Usage { iterations: 1, input_tokens: 2, ..Usage::default() };
                    (task.deadline, task.attempt) = (Some(Millis(u64::MAX)), Attempt(1));
                });
                let (name, until) = (Some("t".into()), Some(Millis(9)));
                let waiting = Waiting { reason: WaitReason::Timer, name, until };
                task.set_waiting(Some(&waiting));
                let run = LoopState {
                    calls: vec![u64::MAX].into(),
                    model_step: Step(1),
                    ..LoopState::default()
                };
                task.run = Some(Arc::new(run));
                let event = Event::Waited { waiting: Box::new(waiting) };
                batch.records.push(samples::next(&mut task, event));
                let event = Event::Interrupted { crashes: 1, fence: Fence(2) };
                batch.records.push(samples::next(&mut task, event));
                batch.keys.push(KeyRow {
                    partition: PartitionId(0),
                    hash: 1 << 90,
                    fingerprint: u64::MAX,
                    task: id,
                    expires_at: None,
                });
            }
        }
        batch.tasks.push(TaskImage { task, is_new: true });
    }
    let agent = Arc::new(Agent::of_kind(Kind::Worker));
    batch.agents.push(AgentRow { name: "w".into(), agent, paused: true });
    batch
}

/// Made the fixture, once; kept so that the next version's can be made the same way.
#[test]
fn a_fixture_can_be_made() {
    let dir = folder();
    let keep = std::env::var_os("NO_FIXTURE_DIR").map(PathBuf::from);
    let dir = keep.as_deref().unwrap_or(dir.path());
    let mut store = Store::open(dir, &fixture_options()).expect("a new folder");
    let mut journal = store.journal(ShardId(0)).expect("a journal");
    commit(&mut journal, fixture_content());
    journal.finish().expect("finished");
}
