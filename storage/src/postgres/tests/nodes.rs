//! Nodes that share a database: who lives, and how partitions pass between them.

use super::*;
use crate::samples::submitted;
use no_engine::control::nodes::PartitionRow;
use no_engine::payload::Payload;
use std::sync::mpsc;

fn row(shared: &Shared, id: u16) -> PartitionRow {
    shared.partitions[usize::from(id)].clone()
}

fn batch_in(partition: u64) -> Batch {
    let (record, task) = submitted(id(partition), &Payload::text("x"));
    samples::batch(1, vec![record], &[(&task, true)])
}

#[test]
fn a_node_counts_until_its_name_is_taken() {
    let Some(database) = Database::made() else { return };
    let store = database.open();
    let mut first = store.join("a", "http://a:3000").expect("joined");
    assert!(first.beat().expect("counted") && first.beat().expect("counted"));
    let shared = first.look().expect("readable");
    assert_eq!((shared.nodes[0].beat, shared.nodes[0].incarnation), (2, 1));
    assert_eq!(shared.addresses["a"], "http://a:3000");
    let mut second = store.join("a", "http://a:3001").expect("joined");
    assert!(!first.beat().expect("asked") && !first.drain().expect("asked"));
    assert!(!first.leave().expect("asked"), "an old start does not take the new one's row away");
    let seen = second.look().expect("readable").nodes[0].clone();
    assert!(second.beat().expect("counted"));
    first.bury(&seen).expect("asked");
    assert_eq!(second.look().expect("readable").nodes.len(), 1, "it came back to life");
    let seen = second.look().expect("readable").nodes[0].clone();
    first.bury(&seen).expect("asked");
    assert!(second.look().expect("readable").nodes.is_empty());
}

#[test]
fn of_two_that_take_one_partition_one_gets_it() {
    let Some(database) = Database::made() else { return };
    let store = database.open();
    let mut a = store.join("a", "http://a").expect("joined");
    let mut b = store.join("b", "http://b").expect("joined");
    let seen = a.look().expect("readable");
    let taken = a.take(&seen.partitions).expect("asked");
    assert_eq!(taken.len(), usize::from(PARTITIONS_FEW));
    assert_eq!(taken[3], (PartitionId(3), Fence(1)));
    assert!(b.take(&seen.partitions).expect("asked").is_empty(), "the fences have moved");

    assert!(a.give(PartitionId(3), Fence(1), Some("b")).expect("asked"));
    assert!(!a.give(PartitionId(3), Fence(1), Some("b")).expect("asked"), "it is given already");
    let now = b.look().expect("readable");
    assert_eq!(
        (now.given.clone(), row(&now, 3).owner.as_deref()),
        (vec![PartitionId(3)], Some("b"))
    );
    assert_eq!(b.take(&[row(&now, 3)]).expect("asked"), [(PartitionId(3), Fence(3))]);
    assert!(b.look().expect("readable").given.is_empty());
    assert!(b.give(PartitionId(3), Fence(3), None).expect("asked"));
    let now = b.look().expect("readable");
    assert_eq!((row(&now, 3).owner, now.given), (None, Vec::new()));
}

#[test]
fn a_journal_writes_what_it_owns_as_it_comes_and_goes() {
    let Some(database) = Database::made() else { return };
    let store = database.open();
    let mut node = store.join("a", "http://a").expect("joined");
    let journal = JournalOptions {
        owner: "a".into(),
        shard: ShardId(0),
        owned: Vec::new(),
        retention_ms: 1_000,
    };
    let mut journal = store.journal(&journal).expect("a journal");
    let owned = journal.owned();
    // Of agents there may be changes whatever the journal owns.
    let agent =
        no_engine::agent::definition::Agent::of_kind(no_engine::agent::definition::Kind::Worker);
    let kept = AgentRow { name: "w".into(), agent: Arc::new(agent), paused: false };
    commit(&mut journal, Batch { agents: vec![kept], ..Batch::default() });
    assert_eq!(node.look().expect("readable").agents_version, 1);

    let seen = node.look().expect("readable");
    for (id, fence) in node.take(&seen.partitions[..2]).expect("asked") {
        owned.put(id, fence);
    }
    commit(&mut journal, batch_in(0));
    commit(&mut journal, batch_in(1));
    let fence = owned.remove(PartitionId(1)).expect("it was ours");
    assert!(node.give(PartitionId(1), fence, None).expect("asked"));
    commit(&mut journal, batch_in(u64::from(PARTITIONS_FEW)));
    let why = journal.commit(&[batch_in(1)]).expect_err("not ours any more");
    assert!(
        matches!(&why, CommitError::Failed(why) if why.contains("not this journal's")),
        "{why}"
    );
}

#[test]
fn a_commit_under_a_fence_that_moved_is_refused() {
    let Some(database) = Database::made() else { return };
    let store = database.open();
    let mut journal = journal_of(&store, "a");
    commit(&mut journal, batch_in(0));
    let mut b = store.join("b", "http://b").expect("joined");
    let seen = b.look().expect("readable");
    assert_eq!(b.take(&[row(&seen, 0)]).expect("asked").len(), 1);
    commit(&mut journal, batch_in(1));
    let why = journal.commit(&[batch_in(u64::from(PARTITIONS_FEW))]).expect_err("its fence moved");
    assert!(matches!(&why, CommitError::Failed(why) if why.contains("fence is stale")), "{why}");
}

#[test]
fn a_partition_is_taken_out_only_between_commits() {
    let owned = Owned::new(&[(PartitionId(0), Fence(1))]);
    let (told, tells) = mpsc::channel();
    let during = owned.hold();
    let theirs = owned.clone();
    let thread = std::thread::spawn(move || {
        let fence = theirs.remove(PartitionId(0));
        let _ = told.send(());
        fence
    });
    assert!(tells.try_recv().is_err(), "a commit is under way");
    drop(during);
    tells.recv().expect("it goes on");
    assert_eq!(thread.join().expect("no panic"), Some(Fence(1)));
}

#[test]
fn a_database_is_one_clusters() {
    let Some(database) = Database::made() else { return };
    let store = database.open();
    let key = store.node_key().expect("a key");
    assert!(key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
    assert_eq!(database.open().node_key().expect("a key"), key, "it stays");
    let other = PgOptions { cluster: "staging".into(), ..database.options() };
    let why = PgStore::open(&other, PARTITIONS_FEW).expect_err("of others").to_string();
    assert!(why.contains("holds the store of the cluster \"no\", not of \"staging\""), "{why}");
}
