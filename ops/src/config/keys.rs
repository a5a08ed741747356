//! Every key of the configuration, once: its path, what it takes, its default, its variable, its
//! meaning. `raw` refuses what does not stand here, `checked` can read nothing else, and
//! `no config keys` prints it; so a key without documentation cannot exist.
//!
//! A `*` in a path stands for a name that the operator chooses.

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A text.
    Text,
    /// A text that is never shown, and never read from the configuration file itself.
    Secret,
    /// true or false.
    Flag,
    /// A whole number in this range.
    Whole(u64, u64),
    /// A number, zero or more.
    Number,
    /// Milliseconds as a number, or a text such as "30s", "5m", "12h", "7d"; at most this many ms.
    Duration(u64),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A list of texts.
    Texts,
    /// Any JSON.
    Any,
    /// An agent's definition as `PUT /v1/agents/{name}` takes it.
    Agent,
}

/// What the key does in this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It works.
    Works,
    /// It belongs to a feature that is not built yet; accepted, as by itself it turns nothing on.
    Waits,
    /// It would turn on a feature that is not built yet; refused when it does.
    Refused,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Where it stands in the file, with dots.
    pub path: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// The default as JSON; empty when there is none.
    pub default: &'static str,
    /// Variables that set it, the first that is set wins; empty texts count as unset.
    pub env: &'static [&'static str],
    /// What it does in this version.
    pub standing: Standing,
    /// What it means.
    pub about: &'static str,
}

/// Of a limit: a second, or at once.
const RATE: Kind = Whole(1, 1_000_000);
/// Days in ms.
const DAY_MS: u64 = 86_400_000;

const fn works(
    path: &'static str,
    kind: Kind,
    default: &'static str,
    env: &'static [&'static str],
    about: &'static str,
) -> Key {
    Key { path, kind, default, env, standing: Standing::Works, about }
}

const fn waits(
    path: &'static str,
    kind: Kind,
    default: &'static str,
    env: &'static [&'static str],
    about: &'static str,
) -> Key {
    Key { path, kind, default, env, standing: Standing::Waits, about }
}

const fn refused(
    path: &'static str,
    kind: Kind,
    default: &'static str,
    env: &'static [&'static str],
    about: &'static str,
) -> Key {
    Key { path, kind, default, env, standing: Standing::Refused, about }
}

use Kind::{Agent, Any, Duration, Flag, Number, OneOf, Secret, Text, Texts, Whole};

/// All keys, by section.
pub const KEYS: &[Key] = &[
    works("service.host", Text, "\"127.0.0.1\"", &["NO_SERVICE_HOST"], "address to listen on"),
    works(
        "service.port",
        Whole(0, 65_535),
        "3000",
        &["NO_SERVICE_PORT"],
        "port to listen on; 0 takes a free one",
    ),
    works(
        "service.environment",
        Text,
        "\"development\"",
        &["NO_ENV", "NODE_ENV"],
        "name of the environment, shown in status and logs",
    ),
    works(
        "service.tls.certFile",
        Text,
        "",
        &["NO_TLS_CERT_FILE"],
        "certificate with its chain, PEM; with it nO speaks TLS 1.2 and up, HTTP/1.1 and HTTP/2; \
         read anew when it changes",
    ),
    works(
        "service.tls.keyFile",
        Text,
        "",
        &["NO_TLS_KEY_FILE"],
        "the certificate's key, PEM, readable by nO's user alone",
    ),
    works(
        "service.tls.clientCaFile",
        Text,
        "",
        &["NO_TLS_CLIENT_CA_FILE"],
        "authorities whose client certificates are accepted, PEM",
    ),
    works(
        "service.tls.clientCerts",
        OneOf(&["off", "optional", "workers"]),
        "\"off\"",
        &["NO_TLS_CLIENT_CERTS"],
        "workers: the worker protocol needs a client certificate beside the token; optional: one \
         that is shown must be good",
    ),
    works(
        "service.tlsTerminatedUpstream",
        Flag,
        "false",
        &["NO_TLS_TERMINATED_UPSTREAM"],
        "a proxy in front ends TLS, so plain HTTP on an address that is not loopback is meant",
    ),
    works(
        "service.drainTimeout",
        Duration(DAY_MS),
        "30000",
        &[],
        "how long running steps may finish after SIGTERM",
    ),
    works("service.maxConnections", Whole(1, 1_000_000), "10000", &[], "open connections"),
    refused("service.tls.certFile", Text, "", &[], "certificate chain, PEM"),
    refused("service.tls.keyFile", Text, "", &[], "private key, PEM"),
    works(
        "engine.dataDir",
        Text,
        "\"data\"",
        &["NO_DATA_DIR"],
        "folder of the embedded store, the token key and the admin token",
    ),
    works(
        "engine.shards",
        Whole(1, 256),
        "",
        &[],
        "shard threads; by default the cores that netCores leaves, at least 1",
    ),
    works("engine.netCores", Whole(1, 64), "1", &[], "threads that speak HTTP"),
    works("engine.pinCores", Flag, "true", &[], "pin each thread to a core"),
    works(
        "engine.partitions",
        Whole(1, 4_096),
        "64",
        &[],
        "parts of all tasks; fixed when the store is created",
    ),
    works(
        "engine.busyPollUs",
        Whole(0, 1_000_000),
        "0",
        &[],
        "µs that an idle shard looks at its rings before it sleeps; for cores of its own",
    ),
    works(
        "engine.retention",
        Duration(3_660 * DAY_MS),
        "604800000",
        &[],
        "how long ended tasks are kept",
    ),
    works(
        "engine.keyKept",
        Duration(366 * DAY_MS),
        "86400000",
        &[],
        "how long an idempotency key is kept after its task ended",
    ),
    works(
        "engine.ageing",
        Duration(DAY_MS),
        "30000",
        &[],
        "waiting that raises a queued task's priority by one",
    ),
    works(
        "engine.liveTasksMax",
        Whole(1, 100_000_000),
        "1000000",
        &[],
        "tasks of one shard that have not ended, and dead letters; past it 503",
    ),
    works(
        "engine.liveBytesMax",
        Whole(1 << 20, 1 << 40),
        "1073741824",
        &[],
        "bytes of payload that one shard keeps in memory; past it 503",
    ),
    works(
        "engine.memoryMaxBytes",
        Whole(0, 1 << 50),
        "0",
        &[],
        "resident bytes of the process past which new work is refused with 503; \
         0 for 85 % of what the cgroup or the machine allows",
    ),
    works(
        "engine.journalBytes",
        Whole(1 << 20, 1 << 34),
        "67108864",
        &[],
        "bytes of each shard's journal file, rounded down to whole blocks of 4 KiB",
    ),
    works(
        "engine.diskReserveBytes",
        Whole(0, 1 << 50),
        "67108864",
        &[],
        "free disk below which new work is refused with 507",
    ),
    refused("database.host", Text, "", &["NO_DB_HOST"], "PostgreSQL host; the store of many nodes"),
    waits("database.port", Whole(1, 65_535), "5432", &["NO_DB_PORT"], "PostgreSQL port"),
    waits("database.name", Text, "\"no\"", &["NO_DB_NAME"], "PostgreSQL database"),
    waits("database.user", Text, "\"no\"", &["NO_DB_USER"], "PostgreSQL user"),
    waits("database.password", Secret, "", &["NO_DB_PASSWORD"], "PostgreSQL password"),
    refused("redis.host", Text, "", &["NO_REDIS_HOST"], "Redis host; second cache layer"),
    waits("redis.port", Whole(1, 65_535), "6379", &["NO_REDIS_PORT"], "Redis port"),
    waits("redis.password", Secret, "", &["NO_REDIS_PASSWORD"], "Redis password"),
    works(
        "oauth.issuer",
        Text,
        "",
        &["NO_OAUTH_ISSUER"],
        "OIDC issuer whose tokens are accepted beside local ones: its URL exactly as in iss, https \
         unless its host is loopback; nO starts though it cannot be reached, and goes on trying",
    ),
    works(
        "oauth.audience",
        Text,
        "\"no\"",
        &["NO_OAUTH_AUDIENCE"],
        "audience (aud) that access tokens must carry",
    ),
    works(
        "oauth.clientId",
        Text,
        "",
        &["NO_OAUTH_CLIENT_ID"],
        "nO's client at the issuer: for the browser login and for opaque tokens",
    ),
    works(
        "oauth.clientSecret",
        Secret,
        "",
        &["NO_OAUTH_CLIENT_SECRET"],
        "that client's secret; with it opaque tokens are accepted by introspection (RFC 7662)",
    ),
    works(
        "oauth.clientSecretFile",
        Text,
        "",
        &[],
        "file with that client's secret, instead of the variable",
    ),
    works(
        "oauth.redirectUri",
        Text,
        "",
        &["NO_OAUTH_REDIRECT_URI"],
        "where the issuer sends browsers back to: nO's public URL with /auth/callback",
    ),
    works(
        "oauth.scopes",
        Texts,
        "[\"openid\",\"profile\",\"email\"]",
        &[],
        "scopes that a browser login asks for; openid is among them in any case",
    ),
    works(
        "oauth.rolesClaim",
        Text,
        "\"roles\"",
        &[],
        "claim that names roles, groups or scopes, a list or words in a text; a path such as \
         realm_access.roles is followed",
    ),
    works(
        "oauth.tenantClaim",
        Text,
        "\"tenant\"",
        &[],
        "claim that names the tenant, or the path to it; without it the tenant is default",
    ),
    works(
        "oauth.tokenTypes",
        Texts,
        "[\"at+jwt\"]",
        &[],
        "types (typ) of access tokens; add JWT, which stands for an absent one too, for an issuer \
         that does not follow RFC 9068: audience must then not be clientId",
    ),
    works(
        "security.rbac.enabled",
        Flag,
        "true",
        &["NO_RBAC_ENABLED"],
        "ask for a token and check its roles; false on loopback only",
    ),
    works(
        "security.rateLimit.enabled",
        Flag,
        "false",
        &["NO_RATE_LIMIT_ENABLED"],
        "limit requests per principal and address; refused proofs are limited always",
    ),
    works("security.rateLimit.perPrincipal.perSecond", RATE, "1000", &[], "requests on average"),
    works("security.rateLimit.perPrincipal.burst", RATE, "2000", &[], "requests after a rest"),
    works(
        "security.rateLimit.perAddress.perSecond",
        RATE,
        "2000",
        &[],
        "requests on average, before it is known who asks; IPv6 counts by /64",
    ),
    works("security.rateLimit.perAddress.burst", RATE, "4000", &[], "requests after a rest"),
    works(
        "security.rateLimit.failures.perSecond",
        RATE,
        "1",
        &[],
        "refused proofs of one address, on average; past them 429",
    ),
    works("security.rateLimit.failures.burst", RATE, "50", &[], "refused proofs after a rest"),
    works(
        "security.trustedProxies",
        Texts,
        "[]",
        &[],
        "addresses or CIDR of proxies whose word about the client's address counts",
    ),
    works(
        "security.forwardedHeader",
        OneOf(&["x-forwarded-for", "forwarded"]),
        "\"x-forwarded-for\"",
        &[],
        "the header in which they say it; the other one is not read",
    ),
    works("security.audit.enabled", Flag, "true", &[], "keep an audit log in the data folder"),
    works(
        "security.audit.maxBytes",
        Whole(65_536, 1 << 32),
        "67108864",
        &[],
        "bytes of one of its files, then a new one begins",
    ),
    works("security.audit.files", Whole(1, 512), "16", &[], "files kept, the current among them"),
    works(
        "security.session.idle",
        Duration(30 * DAY_MS),
        "1800000",
        &[],
        "a browser's session ends when it was not used for so long",
    ),
    works(
        "security.session.absolute",
        Duration(30 * DAY_MS),
        "28800000",
        &[],
        "a browser's session ends so long after its login, whatever happens",
    ),
    works(
        "security.metricsOpen",
        Flag,
        "true",
        &[],
        "answer /metrics without a token; false asks for ops:read",
    ),
    works(
        "security.outbound.allow",
        Texts,
        "[]",
        &[],
        "hosts, host:port or CIDR that tools and callbacks may reach though they are private",
    ),
    works("monitoring.logFilter", Text, "\"info\"", &["NO_LOG"], "log level, or target=level,…"),
    works(
        "monitoring.prometheus.enabled",
        Flag,
        "true",
        &["NO_PROMETHEUS_ENABLED"],
        "serve /metrics",
    ),
    works(
        "monitoring.grafana.enabled",
        Flag,
        "false",
        &["NO_GRAFANA_ENABLED"],
        "dashboards read this node; needs monitoring.prometheus.enabled",
    ),
    refused("monitoring.otlp.endpoint", Text, "", &[], "OTLP collector for traces"),
    refused("performance.autoscaling.enabled", Flag, "false", &[], "scale the pool of slots"),
    waits("performance.autoscaling.minAgents", Whole(1, 100_000), "5", &[], "slots, at least"),
    works(
        "performance.autoscaling.maxAgents",
        Whole(1, 100_000),
        "50",
        &[],
        "slots for running work on this node; parked loops take none",
    ),
    waits("performance.autoscaling.targetCpu", Whole(1, 100), "70", &[], "aim, in percent"),
    waits("performance.autoscaling.targetMemory", Whole(1, 100), "80", &[], "aim, in percent"),
    waits(
        "performance.autoscaling.scaleUpCooldown",
        Duration(DAY_MS),
        "180000",
        &[],
        "least time between two growths",
    ),
    waits(
        "performance.autoscaling.scaleDownCooldown",
        Duration(DAY_MS),
        "600000",
        &[],
        "least time between two shrinkings",
    ),
    refused("performance.caching.enabled", Flag, "false", &[], "cache model and tool answers"),
    waits(
        "performance.caching.defaultTtl",
        Duration(366 * DAY_MS),
        "300000",
        &[],
        "life of an entry",
    ),
    waits("performance.caching.maxSize", Whole(1, 100_000_000), "10000", &[], "entries in memory"),
    waits("performance.caching.layers", Texts, "[\"memory\",\"redis\"]", &[], "layers, in order"),
    waits(
        "performance.connectionPool.enabled",
        Flag,
        "true",
        &[],
        "keep connections to the database open",
    ),
    waits("performance.connectionPool.minConnections", Whole(0, 10_000), "10", &[], "at least"),
    waits("performance.connectionPool.maxConnections", Whole(1, 10_000), "100", &[], "at most"),
    waits(
        "performance.connectionPool.acquireTimeout",
        Duration(DAY_MS),
        "30000",
        &[],
        "longest wait for one",
    ),
    waits(
        "performance.connectionPool.idleTimeout",
        Duration(DAY_MS),
        "300000",
        &[],
        "an unused one is closed after",
    ),
    works("models.*.provider", OneOf(&["openai", "scripted"]), "", &[], "who answers"),
    works("models.*.baseUrl", Text, "", &[], "base URL of an OpenAI-compatible server, with /v1"),
    works("models.*.model", Text, "", &[], "the model's name at its provider"),
    works("models.*.apiKeyEnv", Text, "", &[], "variable that holds the API key"),
    works("models.*.apiKeyFile", Text, "", &[], "file that holds the API key"),
    works("models.*.contextWindow", Whole(1, 1 << 32), "", &[], "tokens that the model takes"),
    works("models.*.prices.inputPerMillion", Number, "", &[], "US dollars per million of tokens"),
    works("models.*.prices.outputPerMillion", Number, "", &[], "US dollars per million of tokens"),
    works("models.*.script", Any, "", &[], "answers of provider scripted, in order"),
    refused("models.*.limits", Any, "", &[], "requests and tokens a minute"),
    works("agents.*", Agent, "", &[], "an agent, as PUT /v1/agents/{name} takes it (snake_case)"),
    works(
        "roles.*.permissions",
        Texts,
        "",
        &[],
        "what the role may: tasks:submit, tasks:read, tasks:control, agents:read, agents:write, \
         worker:lease, ops:read, admin:shutdown; may be left out for a role that is built in \
         (viewer, submitter, worker, operator, admin), and admin's are always all",
    ),
    works(
        "roles.*.claims",
        Texts,
        "",
        &[],
        "values of oauth.rolesClaim that give the role; without this key the role's own name does",
    ),
];

impl Kind {
    /// What it takes, in words.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Text => "text".to_owned(),
            Secret => "secret text".to_owned(),
            Flag => "true or false".to_owned(),
            Whole(min, max) => format!("whole number from {min} to {max}"),
            Number => "number, 0 or more".to_owned(),
            Duration(_) => "ms, or text such as \"30s\"".to_owned(),
            OneOf(texts) => texts.join(" or "),
            Texts => "list of texts".to_owned(),
            Any => "any JSON".to_owned(),
            Agent => "agent definition".to_owned(),
        }
    }
}

impl Key {
    /// Whether the path, part by part, is this key's.
    #[must_use]
    pub fn is_at(&self, path: &[String]) -> bool {
        let mut parts = self.path.split('.');
        path.iter().all(|name| parts.next().is_some_and(|part| part == "*" || part == name))
            && parts.next().is_none()
    }

    /// Whether the path leads towards this key.
    #[must_use]
    pub fn is_under(&self, path: &[String]) -> bool {
        let mut parts = self.path.split('.');
        path.iter().all(|name| parts.next().is_some_and(|part| part == "*" || part == name))
            && parts.next().is_some()
    }
}

/// The key at a path.
#[must_use]
pub fn of_path(path: &[String]) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.is_at(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_key_and_variable_stands_once_with_a_meaning() {
        let mut seen = BTreeSet::new();
        for key in KEYS {
            assert!(seen.insert(key.path), "{} twice", key.path);
            assert!(!key.about.is_empty(), "{} has no meaning", key.path);
            for env in key.env {
                assert!(seen.insert(env), "{env} twice");
            }
            assert!(
                key.default.is_empty()
                    || serde_json::from_str::<serde_json::Value>(key.default).is_ok()
            );
        }
    }

    #[test]
    fn paths_are_matched_with_names() {
        let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        assert!(of_path(&path("service.port")).is_some());
        assert!(of_path(&path("models.m.provider")).is_some());
        assert!(of_path(&path("models.m")).is_none());
        assert!(of_path(&path("service.port.x")).is_none());
        assert!(KEYS.iter().any(|key| key.is_under(&path("models.m"))));
        assert!(!KEYS.iter().any(|key| key.is_under(&path("service.port"))));
    }
}
