//! What the database or the way to it said, by what is to be done about it.
//!
//! | said | what is known | done |
//! | --- | --- | --- |
//! | no answer: broken off, timed out | nothing | read whether the commit is in, then again |
//! | serialization, deadlock, resources, a time-out of a statement | rolled back | again |
//! | `53100`, disk full | rolled back | told to the engine, which waits for room |
//! | all else | rolled back | the journal fails |

use crate::error::Error;
use crate::postgres::options::PgOptions;
use std::error::Error as _;
use tokio_postgres::error::{Severity, SqlState};

/// Why something asked of the database did not come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The connection is gone, and with it what was under way: it may have happened.
    Lost(String),
    /// Nothing happened, and the same may be asked again.
    Again(String),
    /// There is no room. Nothing happened.
    Full,
    /// A check inside the statement did not hold (it divides by zero). Nothing happened.
    Unmet,
    /// It will not get better by itself. Nothing happened.
    Refused(String),
}

impl Fault {
    /// Of an answer, or of none.
    pub(crate) fn of(error: &tokio_postgres::Error) -> Fault {
        let why = said(error);
        let Some(db) = error.as_db_error() else { return Fault::Lost(why) };
        if matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic)) {
            return Fault::Lost(why);
        }
        match db.code() {
            code if *code == SqlState::DISK_FULL => Fault::Full,
            code if *code == SqlState::DIVISION_BY_ZERO => Fault::Unmet,
            code if *code == SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN => Fault::Lost(why),
            code => match code.code().get(..2) {
                // Rolled back for others' sake; no resources; locks and time-outs; a standby.
                Some("40" | "53" | "55") => Fault::Again(why),
                Some("57") | Some("08") => Fault::Again(why),
                _ if *code == SqlState::READ_ONLY_SQL_TRANSACTION => Fault::Lost(why),
                _ => Fault::Refused(why),
            },
        }
    }

    /// What it says.
    pub(crate) fn why(self) -> String {
        match self {
            Fault::Lost(why) | Fault::Again(why) | Fault::Refused(why) => why,
            Fault::Full => "no room on the database's disk".into(),
            Fault::Unmet => "a check did not hold".into(),
        }
    }
}

/// All that an error says, without the statement's text.
pub(crate) fn said(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        let detail = db.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
        return format!("{}{detail} (SQLSTATE {})", db.message(), db.code().code());
    }
    let mut why = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !why.contains(&text) {
            why = format!("{why}: {text}");
        }
        source = cause.source();
    }
    why
}

/// Why there is no connection, for whoever set it up.
pub(crate) fn not_connected(options: &PgOptions, error: &tokio_postgres::Error) -> Error {
    let (at, why) = (options.at(), said(error));
    let refused = |why| Error::DatabaseRefused { at: at.clone(), user: options.user.clone(), why };
    match error.as_db_error().map(|db| db.code()) {
        Some(code) if code.code().starts_with("28") => refused(why),
        Some(code) if *code == SqlState::INVALID_CATALOG_NAME => {
            Error::DatabaseMissing { at, name: options.name.clone() }
        }
        Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => refused(why),
        // The library says so before it asks the server.
        None if why.contains("password missing") => refused("it asks for a password".into()),
        _ => Error::DatabaseAway { at, why },
    }
}

/// Why something else could not be done.
pub(crate) fn not_done(options: &PgOptions, error: &tokio_postgres::Error) -> Error {
    let at = options.at();
    match (error.as_db_error().map(|db| db.code().clone()), Fault::of(error)) {
        (Some(code), _) if code == SqlState::UNDEFINED_TABLE => Error::SchemaMissing { at },
        (Some(code), _) if code == SqlState::INSUFFICIENT_PRIVILEGE => {
            Error::DatabaseRefused { at, user: options.user.clone(), why: said(error) }
        }
        (_, Fault::Full) => Error::DatabaseFull { at },
        (_, Fault::Lost(why)) => Error::DatabaseAway { at, why },
        (_, fault) => Error::Database { at, why: fault.why() },
    }
}
