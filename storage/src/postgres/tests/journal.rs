//! Commit, load, read: what comes back is what was written.

use super::*;
use crate::contract::histories_are_loaded_and_read;
use crate::samples::{any_histories, large, submitted};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

crate::contract::hold!(World::made());

#[test]
fn a_large_payload_is_stored_once_in_each_partition() {
    let Some(mut world) = World::made() else { return };
    for i in [0, u64::from(PARTITIONS_FEW), 1] {
        let (first, task) = submitted(id(i), &large('x'));
        world.commit(&[samples::batch(1, vec![first], &[(&task, true)])]).expect("committed");
    }
    assert_eq!(world.rows("blobs"), 2);
}

#[test]
fn any_histories_committed_in_any_cuts_are_loaded_and_read() {
    let Some(database) = Database::made() else { return };
    let store = PgStore::open(&database.options(), 64).expect("a sound database");
    let mut runner = TestRunner::new(ProptestConfig::with_cases(32));
    let checked = runner.run(&(any_histories(), 1..5_usize), |(histories, cut)| {
        database.server.says(&database.name, "TRUNCATE tasks, events, blobs, keys");
        let journal = journal_of(&store, "a");
        let mut world = World { database: database.clone(), store: store.clone(), journal };
        histories_are_loaded_and_read(&mut world, histories, cut);
        Ok(())
    });
    checked.unwrap_or_else(|failed| panic!("{failed}"));
}
