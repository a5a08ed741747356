//! The configured database as the store's own options.

use crate::config::checked::Database;
use crate::error::{Error, Result};
use no_storage::postgres::PgOptions;
use std::sync::Arc;

/// How the store reaches it.
///
/// # Errors
/// [`Error::Outbound`] when TLS cannot be set up.
pub fn options(database: &Database) -> Result<PgOptions> {
    let why = |error: String| Error::Outbound { why: format!("database.tls: {error}") };
    let tls = match database.is_tls {
        true => {
            let config = no_net::out::connect::tls_config();
            Some(Arc::new(config.map_err(|error| why(error.to_string()))?))
        }
        false => None,
    };
    Ok(PgOptions {
        host: database.host.clone(),
        port: database.port,
        name: database.name.clone(),
        user: database.user.clone(),
        password: database.password.as_ref().map(|secret| secret.reveal().to_owned()),
        tls,
        connect_timeout: database.timeout,
        statement_timeout: database.timeout,
        retry: database.retry,
        cluster: database.cluster.clone(),
    })
}
