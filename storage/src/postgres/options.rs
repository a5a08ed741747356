//! Where the database is and how it is asked.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};

/// A dead peer is noticed within this time, where the system can.
const PEER_TIMEOUT: Duration = Duration::from_secs(10);

/// How nO reaches its database. Never shows its password.
#[derive(Clone)]
pub struct PgOptions {
    /// The server's name or address; one that begins with `/` is the folder of its Unix socket.
    pub host: String,
    /// Its port, which names the socket in a folder as well.
    pub port: u16,
    /// The database.
    pub name: String,
    /// The role.
    pub user: String,
    /// Its password, where the server asks for one.
    pub password: Option<String>,
    /// With TLS, and whom to trust: the server's certificate must be for `host`. Without it nothing
    /// is encrypted. There is no encryption without a check, which would only look safe. Not for
    /// sockets in a folder.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The longest that making a connection may take, all of it.
    pub connect_timeout: Duration,
    /// The longest that one answer may take; a commit is one.
    pub statement_timeout: Duration,
    /// How long a journal waits for a database that is away before it fails.
    pub retry: Duration,
    /// The name of the cluster: nodes that share a database have it in common.
    pub cluster: String,
}

impl Default for PgOptions {
    fn default() -> PgOptions {
        PgOptions {
            host: "localhost".into(),
            port: 5_432,
            name: "no".into(),
            user: "no".into(),
            password: None,
            tls: None,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
            retry: Duration::from_secs(30),
            cluster: "no".into(),
        }
    }
}

impl PgOptions {
    /// Who is asked, for messages.
    pub(crate) fn at(&self) -> String {
        format!("PostgreSQL at {}:{}", self.host, self.port)
    }

    /// Whether the connection goes through a socket in a folder.
    pub(crate) fn is_local(&self) -> bool {
        self.host.starts_with('/')
    }

    /// The library's form, for a session of that name. The server must be one that takes writes,
    /// also for reading: another may not have yet what was acknowledged.
    pub(crate) fn config(&self, session: &str) -> Config {
        let mut config = Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .dbname(&self.name)
            .user(&self.user)
            .application_name(session)
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .connect_timeout(self.connect_timeout)
            .tcp_user_timeout(PEER_TIMEOUT)
            .keepalives_idle(PEER_TIMEOUT);
        if let Some(password) = &self.password {
            config.password(password);
        }
        let is_tls = self.tls.is_some() && !self.is_local();
        config.ssl_mode(if is_tls { SslMode::Require } else { SslMode::Disable });
        config
    }
}

impl fmt::Debug for PgOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgOptions")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("name", &self.name)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "[redacted]"))
            .field("tls", &self.tls.is_some())
            .field("connect_timeout", &self.connect_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("retry", &self.retry)
            .field("cluster", &self.cluster)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let options = PgOptions { password: Some("s3cret".into()), ..PgOptions::default() };
        let shown = format!("{options:?} {:?}", options.config("no journal"));
        assert!(shown.contains("[redacted]") && !shown.contains("s3cret"), "{shown}");
    }
}
