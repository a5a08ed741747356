//! A PostgreSQL of a test's own, on a Unix socket in a temporary folder. It syncs as it always does;
//! where there is a folder in memory it stands there, as tests sync thousands of times.

use rustix::process::{Pid, Signal, kill_process};
use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The longest wait for a server to come up, or to go.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The role that owns everything.
pub(crate) const USER: &str = "no";

/// The port that names a socket in its folder; nobody listens on it.
pub(crate) const PORT: u16 = 5_432;

/// Who PostgreSQL runs as when the tests run as root, whom it refuses.
struct Account {
    uid: u32,
    gid: u32,
}

/// A cluster, and the server that runs on it; ended when dropped.
pub(crate) struct Server {
    dir: TempDir,
    bin: PathBuf,
    account: Option<Account>,
    child: Mutex<Option<Child>>,
    /// The port that names its socket; only one with TLS listens on it.
    port: AtomicU16,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Shared by the tests of one program that run at a time.
static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());

impl Server {
    /// The one that the tests of this program share, each with a database of its own.
    pub(crate) fn shared() -> Option<Arc<Server>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return Some(server);
        }
        let server = Arc::new(Server::started()?);
        *shared = Arc::downgrade(&server);
        Some(server)
    }

    /// One that runs; `None`, and a word about it, when PostgreSQL is not installed.
    pub(crate) fn started() -> Option<Server> {
        let Some(bin) = programs() else {
            let text = "SKIPPED: PostgreSQL is missing: run `make test`";
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{text}");
            eprintln!("{text}");
            return None;
        };
        let prefix = "no-postgres-";
        let dir = TempDir::with_prefix_in(prefix, "/dev/shm");
        let dir = dir.or_else(|_| TempDir::with_prefix(prefix)).expect("a folder");
        let account = rustix::process::getuid().is_root().then(other_account);
        if let Some(Account { uid, gid }) = account {
            chown(dir.path(), Some(uid), Some(gid)).expect("root may");
        }
        let server =
            Server { dir, bin, account, child: Mutex::new(None), port: AtomicU16::new(PORT) };
        server.make_cluster();
        server.start(&[]);
        Some(server)
    }

    /// The folder of its socket.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port.load(Ordering::Relaxed)
    }

    /// Has it listen on a port of this machine, with TLS and this certificate, from its next start.
    pub(crate) fn listen_with_tls(&self, certificate: &str, key: &str) {
        let file = |name: &str, text: &str| {
            let path = self.data().join(name);
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("its own");
            if let Some(Account { uid, gid }) = &self.account {
                chown(&path, Some(*uid), Some(*gid)).expect("root may");
            }
        };
        file("server.crt", certificate);
        file("server.key", key);
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        self.port.store(free.expect("a port").port(), Ordering::Relaxed);
        let rules = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(self.data().join("pg_hba.conf"), rules).expect("written");
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A program of PostgreSQL's, as whom it runs. The change of account is left to `setpriv`: what
    /// this process has open is then another's for a moment only, locks on files too.
    fn command(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        let mut command = match &self.account {
            None => Command::new(program),
            Some(Account { uid, gid }) => {
                let mut command = Command::new("setpriv");
                let (uid, gid) = (uid.to_string(), gid.to_string());
                command.args(["--clear-groups", "--reuid", &uid, "--regid", &gid]).arg(program);
                command
            }
        };
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    fn make_cluster(&self) {
        let mut command = self.command("initdb");
        command.args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        // Small segments of its log: the first is written whole.
        command.args(["--wal-segsize=1", "--username", USER]).arg("--pgdata").arg(self.data());
        let output = command.output().expect("initdb runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let rules = "local all with_password scram-sha-256\nlocal all all trust\n";
        std::fs::write(self.data().join("pg_hba.conf"), rules).expect("written");
    }

    /// Starts it, with settings.
    pub(crate) fn start(&self, settings: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        // What another server on this cluster left is looked at by the next one, and refused while
        // anything of it is still there.
        while !self.try_start(settings) {
            assert!(Instant::now() < deadline, "PostgreSQL does not come up:\n{}", self.log());
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    fn try_start(&self, settings: &[&str]) -> bool {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(child.is_none(), "it runs");
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(self.dir.path());
        let port = self.port().to_string();
        command.args(["-p", &port, "-c", "listen_addresses=", "-c", "max_connections=40"]);
        command.args(["-c", "shared_buffers=16MB", "-c", "autovacuum=off", "-c", "jit=off"]);
        command.args(["-c", "max_wal_senders=0", "-c", "wal_level=minimal"]);
        settings.iter().for_each(|setting| {
            command.args(["-c", setting]);
        });
        let log = std::fs::File::options().create(true).append(true).open(self.log_path());
        command.stdout(Stdio::null()).stderr(log.expect("a log"));
        let mut started = command.spawn().expect("it runs");
        let deadline = Instant::now() + PATIENCE;
        let is_up = loop {
            if started.try_wait().expect("a child of ours").is_some() {
                return false;
            }
            let listening = self.try_says("postgres", "SELECT 1").is_ok();
            if listening || deadline <= Instant::now() {
                break listening;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        };
        *child = Some(started);
        is_up
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Ends it as a power cut would, but for what the system still has.
    pub(crate) fn kill(&self) {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = child {
            // Its sessions would finish what they have, and end by themselves only then. No new
            // ones come while it is stopped.
            let pid = Pid::from_child(&child);
            let _ = kill_process(pid, Signal::STOP);
            for session in children_of(pid) {
                let _ = kill_process(session, Signal::KILL);
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Has it and its sessions hang.
    pub(crate) fn hang(&self) {
        self.signal(Signal::STOP);
    }

    /// Has them go on.
    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = Pid::from_child(child.as_ref().expect("it runs"));
        kill_process(pid, signal).expect("a child of ours");
        for session in children_of(pid) {
            // It may have ended since.
            let _ = kill_process(session, signal);
        }
    }

    /// Another database, empty; its name.
    pub(crate) fn database(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{number}");
        self.says("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// What it answers to a statement in that database.
    pub(crate) fn says(&self, database: &str, sql: &str) -> String {
        self.try_says(database, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Likewise, or what went wrong: the first value of its last row.
    pub(crate) fn try_says(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.dir.path()).port(self.port()).user(USER).dbname(database);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let answer = runtime.expect("a runtime").block_on(async {
            let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
            let connection = tokio::spawn(connection);
            let answer = client.simple_query(sql).await;
            connection.abort();
            answer
        });
        let answer = answer.map_err(|error| format!("{error:?}"))?;
        let value = answer.iter().rev().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        Ok(value.unwrap_or_default().to_owned())
    }
}

/// The processes that this one started and that still run.
fn children_of(parent: Pid) -> Vec<Pid> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_child = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name before it may hold anything, brackets too.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        after_name.split_whitespace().nth(1) == Some(&parent.as_raw_nonzero().to_string())
    };
    numbers.filter(is_child).filter_map(Pid::from_raw).collect()
}

/// The folder of PostgreSQL's programs, the newest that there is.
fn programs() -> Option<PathBuf> {
    let has_all = |bin: &PathBuf| ["initdb", "postgres"].iter().all(|p| bin.join(p).exists());
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = debian.map(|version| version.path().join("bin")).filter(has_all);
    let number = |bin: &PathBuf| {
        let version = bin.parent()?.file_name()?.to_str()?;
        version.parse::<u32>().ok()
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    debian.max_by_key(number).or_else(|| std::env::split_paths(&path).find(has_all))
}

/// An account that is not root: PostgreSQL's own, or nobody's.
fn other_account() -> Account {
    let accounts = std::fs::read_to_string("/etc/passwd").expect("accounts");
    let account = ["postgres", "nobody"].iter().find_map(|name| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        let mut number = || fields.next()?.parse().ok();
        Some(Account { uid: number()?, gid: number()? })
    });
    account.expect("an account that is not root")
}
