//! The statements of a commit: one for each kind of row, over arrays that have a place for each.
//!
//! The commit is on its way before the first answer is read. So what must hold is checked by the
//! statements themselves: one that did not touch just what it should divides by zero, which aborts
//! the transaction that it stands in, and the commit behind it rolls back.

use crate::postgres::value::Param;
use crate::rows::{AGENT_COLUMNS, FEEDBACK_COLUMNS, KEY_COLUMNS, TASK_COLUMNS, TASK_FIXED};

/// One statement's place in [`statements`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    /// Moves the journal on from the commit before.
    Advance,
    /// Holds the partitions, whose fences must be ours.
    Hold,
    /// Tasks that came.
    InsertTasks,
    /// Tasks that changed.
    UpdateTasks,
    /// Rows of histories.
    InsertEvents,
    /// Large payloads with their bytes.
    PutBlobs,
    /// Large payloads that are named again.
    NameBlobs,
    /// Histories that go, up to an event.
    DropEvents,
    /// Tasks that go.
    DropTasks,
    /// Large payloads that nobody names any more.
    DropBlobs,
    /// Keys that go.
    DropKeys,
    /// Keys that came or changed.
    PutKeys,
    /// Agents that go.
    DropAgents,
    /// Agents that came or changed.
    PutAgents,
    /// Counts the changes of agents, for the other nodes.
    CountAgents,
    /// What was said of results.
    PutFeedback,
    /// What was said of tasks that go.
    DropFeedback,
}

/// A statement with what it takes.
pub(crate) struct Step<'a> {
    pub(crate) op: Op,
    pub(crate) params: Vec<Param<'a>>,
}

/// Begins a commit. What is locked is looked at anew when another let go of it.
pub(crate) const BEGIN: &str = "START TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE";
/// Ends it.
pub(crate) const COMMIT: &str = "COMMIT";

/// The types of [`TASK_COLUMNS`].
const TASK_TYPES: [&str; TASK_COLUMNS.len()] = [
    "uuid", "int4", "text", "text", "text", "text", "int8", "text", "text", "int8", "text", "text",
    "bytea",
];
/// The types of [`KEY_COLUMNS`].
const KEY_TYPES: [&str; KEY_COLUMNS.len()] = ["int4", "bytea", "int8", "uuid", "int8"];
/// The types of [`AGENT_COLUMNS`].
const AGENT_TYPES: [&str; AGENT_COLUMNS.len()] = ["text", "text", "int4"];

/// The types of [`FEEDBACK_COLUMNS`].
const FEEDBACK_TYPES: [&str; FEEDBACK_COLUMNS.len()] = ["uuid", "int4", "text", "int4", "int8"];

/// All statements of a commit, in the order of [`Op`].
pub(crate) fn statements() -> Vec<String> {
    let mut new = TASK_COLUMNS.to_vec();
    new.extend(["history", "named"]);
    let mut new_types = TASK_TYPES.to_vec();
    new_types.extend(["text", "bytea"]);
    vec![
        "WITH moved AS (UPDATE journals SET seq = $4::int8, clean = $5::bool \
         WHERE owner = $1::text AND shard = $2::int4 AND fence = $3::int8 \
         AND seq = $4::int8 - 1 RETURNING 1) \
         SELECT 1 / count(*) FROM moved"
            .to_owned(),
        format!(
            "SELECT {} FROM (SELECT 1 FROM partitions \
             JOIN {} AS own (id, fence) ON partitions.id = own.id AND partitions.fence = own.fence \
             FOR SHARE OF partitions) AS held",
            is_all(3),
            unnest(&["int4", "int8"])
        ),
        insert("tasks", &new, &new_types),
        update_tasks(),
        insert("events", &["task", "n", "data", "named"], &["uuid", "int4", "text", "bytea"]),
        format!(
            "{} ON CONFLICT (partition, hash) DO UPDATE SET refs = blobs.refs + excluded.refs",
            insert(
                "blobs",
                &["partition", "hash", "bytes", "refs"],
                &["int4", "bytea", "bytea", "int8"]
            )
        ),
        format!(
            "WITH named AS (UPDATE blobs SET refs = blobs.refs + more.refs \
             FROM {} AS more (partition, hash, refs) \
             WHERE blobs.partition = more.partition AND blobs.hash = more.hash RETURNING 1) \
             SELECT {} FROM named",
            unnest(&["int4", "bytea", "int8"]),
            is_all(4)
        ),
        drop_named(&format!(
            "DELETE FROM events USING {} AS old (task, partition, through) \
             WHERE events.task = old.task AND events.n <= old.through \
             RETURNING old.partition, events.named",
            unnest(&["uuid", "int4", "int4"])
        )),
        drop_named("DELETE FROM tasks WHERE id = ANY($1::uuid[]) RETURNING partition, named"),
        "DELETE FROM blobs WHERE partition = ANY($1::int4[]) AND refs <= 0".to_owned(),
        format!(
            "DELETE FROM keys USING {} AS old (partition, hash) \
             WHERE keys.partition = old.partition AND keys.hash = old.hash",
            unnest(&["int4", "bytea"])
        ),
        upsert("keys", &KEY_COLUMNS, &KEY_TYPES, 2),
        "DELETE FROM agents WHERE name = ANY($1::text[])".to_owned(),
        upsert("agents", &AGENT_COLUMNS, &AGENT_TYPES, 1),
        "UPDATE meta SET value = (value::int8 + 1)::text WHERE name = 'agents_version'".to_owned(),
        upsert("feedback", &FEEDBACK_COLUMNS, &FEEDBACK_TYPES, 1),
        "DELETE FROM feedback WHERE task = ANY($1::uuid[])".to_owned(),
    ]
}

/// Divides by zero unless as many rows were counted as that parameter says.
fn is_all(param: usize) -> String {
    format!("1 / (CASE WHEN count(*) = ${param}::int8 THEN 1 ELSE 0 END)")
}

/// The rows of as many arrays as there are types, from the first parameter on.
fn unnest(types: &[&str]) -> String {
    let arrays = types.iter().enumerate().map(|(i, ty)| format!("${}::{ty}[]", i + 1));
    format!("unnest({})", arrays.collect::<Vec<_>>().join(","))
}

fn insert(table: &str, columns: &[&str], types: &[&str]) -> String {
    format!("INSERT INTO {table} ({}) SELECT * FROM {}", columns.join(","), unnest(types))
}

/// Inserts rows, or changes those whose first `named` columns are there already.
fn upsert(table: &str, columns: &[&str], types: &[&str], named: usize) -> String {
    let changes = columns[named..].iter().map(|column| format!("{column} = excluded.{column}"));
    let changes = changes.collect::<Vec<_>>().join(",");
    let name = columns[..named].join(",");
    format!("{} ON CONFLICT ({name}) DO UPDATE SET {changes}", insert(table, columns, types))
}

fn update_tasks() -> String {
    let changing = &TASK_COLUMNS[TASK_FIXED..];
    let changes = changing.iter().map(|column| format!("{column} = new.{column}"));
    let mut types = vec![TASK_TYPES[0]];
    types.extend(&TASK_TYPES[TASK_FIXED..]);
    format!(
        "WITH changed AS (UPDATE tasks SET {} FROM {} AS new (id,{}) \
         WHERE tasks.id = new.id RETURNING 1) SELECT {} FROM changed",
        changes.collect::<Vec<_>>().join(","),
        unnest(&types),
        changing.join(","),
        is_all(types.len() + 1)
    )
}

/// What is deleted, and one event less for each payload that it named.
fn drop_named(delete: &str) -> String {
    format!(
        "WITH gone AS ({delete}), less AS (\
         SELECT partition, substring(named FROM 32 * i + 1 FOR 32) AS hash, count(*) AS refs \
         FROM gone CROSS JOIN LATERAL generate_series(0, length(named) / 32 - 1) AS i \
         GROUP BY 1, 2) \
         UPDATE blobs SET refs = blobs.refs - less.refs FROM less \
         WHERE blobs.partition = less.partition AND blobs.hash = less.hash"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_its_statement() {
        let statements = statements();
        let check = |op: Op, part: &str| {
            let sql = &statements[op as usize];
            assert!(sql.contains(part), "{op:?}: {sql}");
        };
        check(Op::Advance, "UPDATE journals");
        check(Op::Hold, "FOR SHARE OF partitions");
        check(Op::InsertTasks, "INSERT INTO tasks (id,partition,");
        check(Op::UpdateTasks, "SET state = new.state,");
        check(Op::InsertEvents, "INSERT INTO events");
        check(Op::PutBlobs, "INSERT INTO blobs");
        check(Op::NameBlobs, "UPDATE blobs SET refs = blobs.refs + ");
        check(Op::DropEvents, "DELETE FROM events");
        check(Op::DropTasks, "DELETE FROM tasks");
        check(Op::DropBlobs, "DELETE FROM blobs");
        check(Op::DropKeys, "DELETE FROM keys");
        check(Op::PutKeys, "ON CONFLICT (partition,hash) DO UPDATE SET fingerprint =");
        check(Op::DropAgents, "DELETE FROM agents");
        check(Op::PutAgents, "ON CONFLICT (name) DO UPDATE SET definition =");
        assert_eq!(statements.len(), Op::DropFeedback as usize + 1);
    }
}
