//! What a request passes beside its token: rate limits by address and principal, the slowing of
//! whoever offers bad proofs, and the audit log.
//!
//! With limits off a request takes no lock here and allocates nothing: an address without proxies
//! is the peer's, and whether anybody is slowed is one atomic load. The limits are shared by the
//! net cores; health endpoints are never limited, nor are scrapes from this machine.

use crate::audit::AuditLink;
use crate::authorise::NotAllowed;
use crate::oidc::RETRY_AFTER_S;
use crate::problem::{Code, Problem};
use crate::proxies::Proxies;
use crate::redis::{self, Redis};
use crate::route::Response;
use crate::stats::{HttpStats, Limit, Suspicion, Violation};
use crate::time;
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::request::Parts;
use no_auth::audit::{Decision, Entry, Who};
use no_auth::limit::{AddressKey, Limiter, Rate};
use no_auth::{Denied, Permission, Principal};
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// 404s on tasks of one address that are not yet a sign of probing: at once, and then a second.
const UNKNOWN_TASKS: (u32, u32) = (1, 100);

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// A principal as limits know it: tenant and subject.
type PrincipalKey = (Arc<str>, Arc<str>);

/// How often one may ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rates {
    /// Of one principal, and of one address before it is known who asks; `None` when limits are
    /// off.
    pub asks: Option<(Rate, Rate)>,
    /// Refused proofs of one address. Always on.
    pub failures: Rate,
}

impl Default for Rates {
    /// As configured by default: no limits but on refused proofs.
    fn default() -> Rates {
        Rates { asks: None, failures: Rate::new(1, 50) }
    }
}

struct Asks {
    principal: Limiter<PrincipalKey>,
    address: Limiter<AddressKey>,
    /// The `RateLimit-Policy` header.
    policy: HeaderValue,
}

/// The limits of a node, shared by its net cores.
pub struct Limits {
    asks: Option<Asks>,
    failures: Limiter<AddressKey>,
    unknown_tasks: Limiter<AddressKey>,
    proxies: Proxies,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::new(Rates::default(), Proxies::default())
    }
}

impl Limits {
    /// Limits that have counted nothing yet.
    #[must_use]
    pub fn new(rates: Rates, proxies: Proxies) -> Limits {
        let asks = rates.asks.map(|(principal, address)| {
            let text = format!("{}, {}", address.policy("address"), principal.policy("principal"));
            let policy = HeaderValue::from_maybe_shared(bytes::Bytes::from(text));
            Asks {
                principal: Limiter::new(principal),
                address: Limiter::new(address),
                policy: policy.unwrap_or(HeaderValue::from_static("")),
            }
        });
        let unknown_tasks = Limiter::new(Rate::new(UNKNOWN_TASKS.0, UNKNOWN_TASKS.1));
        Limits { asks, failures: Limiter::new(rates.failures), unknown_tasks, proxies }
    }

    /// Keeps the limits together with the other nodes, for ever. By one task of the node.
    pub async fn share(&self, redis: &Redis) {
        let address = |key: &AddressKey| blake3::hash(&key.bytes());
        self.failures.share();
        if let Some(asks) = &self.asks {
            asks.principal.share();
            asks.address.share();
        }
        loop {
            tokio::time::sleep(redis::limits::EVERY).await;
            redis::limits::share(redis, "limit:failures", &self.failures, address).await;
            if let Some(asks) = &self.asks {
                redis::limits::share(redis, "limit:address", &asks.address, address).await;
                let name = principal_name;
                redis::limits::share(redis, "limit:principal", &asks.principal, name).await;
            }
        }
    }

    /// Forgets who is at rest. To be called from time to time, by any thread.
    pub fn tidy(&self) {
        self.failures.tidy();
        self.unknown_tasks.tidy();
        if let Some(asks) = &self.asks {
            asks.principal.tidy();
            asks.address.tidy();
        }
    }
}

/// Which requests of a route are limited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Limited {
    /// All.
    Always,
    /// Those that come from elsewhere.
    FromElsewhere,
    /// None.
    Never,
}

impl Limited {
    /// That of a route: health is never limited, a scrape not from this machine.
    pub(crate) fn of_pattern(pattern: &str) -> Limited {
        match pattern {
            "/health" => Limited::Never,
            "/metrics" => Limited::FromElsewhere,
            other if other.starts_with("/health/") => Limited::Never,
            _ => Limited::Always,
        }
    }

    fn is_limited(self, from: IpAddr) -> bool {
        match self {
            Limited::Always => true,
            Limited::FromElsewhere => !from.is_loopback(),
            Limited::Never => false,
        }
    }
}

/// What is left to who asks, for the headers of the answer.
#[derive(Clone, Copy, Default)]
pub(crate) struct Standing {
    address: Option<u32>,
    principal: Option<u32>,
}

/// Whether a token was accepted a short while ago, at a time in seconds since 1970.
pub type Remembers = Box<dyn Fn(&str, u64) -> bool>;

/// The gate of one net core.
#[derive(Default)]
pub struct Gate {
    /// The node's limits.
    pub limits: Arc<Limits>,
    /// The audit log, when there is one.
    pub audit: Option<AuditLink>,
    /// Whether a token is known to be good: its holder does not suffer for others at its address.
    pub remembers: Option<Remembers>,
}

/// One request at the gate.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'r> {
    /// The address that it counts for.
    pub(crate) from: IpAddr,
    /// Its method.
    pub(crate) method: &'r str,
    /// Its path, without the query.
    pub(crate) path: &'r str,
}

impl<'r> Asking<'r> {
    /// That of a request which counts for this address.
    pub(crate) fn of(head: &'r Parts, from: IpAddr) -> Asking<'r> {
        Asking { from, method: head.method.as_str(), path: head.uri.path() }
    }
}

impl Gate {
    /// The address that a request counts for.
    pub(crate) fn client(&self, headers: &hyper::HeaderMap, peer: IpAddr) -> IpAddr {
        self.limits.proxies.client(headers, peer)
    }

    /// Lets an address through, or not.
    ///
    /// # Errors
    /// 429 when it asks too often.
    pub(crate) fn address(
        &self,
        stats: &HttpStats,
        limited: Limited,
        from: IpAddr,
        standing: &mut Standing,
    ) -> Result<(), Problem> {
        let Some(asks) = self.limits.asks.as_ref().filter(|_| limited.is_limited(from)) else {
            return Ok(());
        };
        let left = asks.address.take(&AddressKey::of(from));
        standing.address = Some(left.unwrap_or(0));
        left.map(drop).map_err(|wait| {
            stats.security.limited(Limit::Address);
            over_limit("this address asks too often", wait)
        })
    }

    /// Lets a principal through, or not.
    ///
    /// # Errors
    /// 429 when it asks too often.
    pub(crate) fn principal(
        &self,
        stats: &HttpStats,
        limited: Limited,
        from: IpAddr,
        principal: &Principal,
        standing: &mut Standing,
    ) -> Result<(), Problem> {
        let Some(asks) = self.limits.asks.as_ref().filter(|_| limited.is_limited(from)) else {
            return Ok(());
        };
        let key = (Arc::clone(&principal.tenant), Arc::clone(&principal.subject));
        let left = asks.principal.take(&key);
        standing.principal = Some(left.unwrap_or(0));
        left.map(drop).map_err(|wait| {
            stats.security.limited(Limit::Principal);
            over_limit("this principal asks too often", wait)
        })
    }

    /// Refuses a proof unseen when its address has offered too many bad ones. `bearer` gives the
    /// token, if there is one; one that is known to be good passes.
    ///
    /// # Errors
    /// 429, until the next try is due.
    pub(crate) fn proof<'r>(
        &self,
        stats: &HttpStats,
        asking: Asking<'_>,
        bearer: impl FnOnce() -> Option<&'r str>,
    ) -> Result<(), Problem> {
        let Some(wait) = self.limits.failures.wait(&AddressKey::of(asking.from)) else {
            return Ok(());
        };
        // Without a proof there is nothing to guess with: the answer is 401.
        let Some(bearer) = bearer() else { return Ok(()) };
        let now_s = time::wall().0 / 1_000;
        if self.remembers.as_ref().is_some_and(|remembers| remembers(bearer, now_s)) {
            return Ok(());
        }
        stats.security.limited(Limit::Failures);
        self.deny("auth.limited", None, asking, "too many refused proofs".into());
        Err(over_limit("too many refused proofs from this address", wait))
    }

    /// Counts a refused proof of an address: a token here, a login elsewhere.
    pub fn failed(&self, stats: &HttpStats, from: IpAddr) {
        if self.limits.failures.spend(&AddressKey::of(from)) {
            stats.security.suspicious(Suspicion::FailureBurst);
            tracing::warn!(target: "auth", %from, "many refused proofs: slowed down");
        }
    }

    /// Counts and keeps who was not let in, and why; the problem for them. `method` is how they
    /// proved who they are, if they did.
    pub(crate) fn refused(
        &self,
        stats: &HttpStats,
        asking: Asking<'_>,
        method: &'static str,
        why: NotAllowed,
    ) -> Problem {
        match why {
            NotAllowed::Unproven(denied) => self.unproven(stats, asking, denied),
            NotAllowed::Forbidden { principal, needed } => {
                let (subject, permission) = (&*principal.subject, needed.name());
                tracing::info!(target: "rbac", subject, permission, "denied");
                stats.security.denied(needed);
                self.deny("rbac.denied", Some(who(&principal, method)), asking, permission.into());
                Problem::new(Code::Forbidden, format!("{permission} is needed"))
            }
            NotAllowed::Forged { principal } => {
                let subject = &*principal.subject;
                tracing::warn!(target: "auth", subject, "a cookie without its token");
                stats.security.violated(Violation::ForgedRequest);
                let who = Some(who(&principal, method));
                self.deny("auth.denied", who, asking, "forged_request".into());
                let detail = "X-CSRF-Token is missing or wrong; /auth/me gives it";
                Problem::new(Code::Forbidden, detail)
            }
        }
    }

    /// One answer for every reason but that there was no token: who sends a forged one learns
    /// nothing.
    fn unproven(&self, stats: &HttpStats, asking: Asking<'_>, denied: Denied) -> Problem {
        let (from, why) = (asking.from, denied.reason());
        self.deny("auth.denied", None, asking, why.into());
        if denied == Denied::Missing {
            tracing::debug!(target: "auth", why, %from, "denied");
            return Problem::new(Code::Unauthenticated, "no bearer token");
        }
        tracing::info!(target: "auth", why, %from, "denied");
        let mut problem = Problem::new(Code::Unauthenticated, "the token was not accepted");
        if denied == Denied::IssuerUnavailable {
            // Not the sender's fault, so it does not count against the address.
            problem.retry_after_s = Some(RETRY_AFTER_S);
        } else {
            self.failed(stats, from);
        }
        problem
    }

    /// Keeps a control call, before it is made.
    ///
    /// # Errors
    /// 503 when it cannot be kept.
    pub(crate) async fn control(
        &self,
        asking: Asking<'_>,
        principal: &Principal,
        method: &'static str,
        (what, needed, on): (&'static str, Permission, &str),
    ) -> Result<(), Problem> {
        self.keep(asking, principal, method, (what, needed.name(), on)).await
    }

    /// Keeps what a principal does, and why it may, before it is done.
    ///
    /// # Errors
    /// 503 when it cannot be kept.
    pub(crate) async fn keep(
        &self,
        asking: Asking<'_>,
        principal: &Principal,
        method: &'static str,
        (what, reason, on): (&'static str, &'static str, &str),
    ) -> Result<(), Problem> {
        let Some(audit) = &self.audit else { return Ok(()) };
        let entry = Entry {
            who: Some(who(principal, method)),
            from: Some(asking.from),
            what,
            on: Cow::Owned(if on.is_empty() { asking.path } else { on }.to_owned()),
            decision: Decision::Allowed,
            reason: reason.into(),
        };
        audit.control(entry).await
    }

    fn deny(
        &self,
        what: &'static str,
        who: Option<Who>,
        asking: Asking<'_>,
        reason: Cow<'static, str>,
    ) {
        let Some(audit) = &self.audit else { return };
        let on = Cow::Owned(format!("{} {}", asking.method, asking.path));
        let (from, decision) = (Some(asking.from), Decision::Denied);
        let entry = Entry { who, from, what, on, decision, reason };
        audit.deny(entry, time::wall().0 / 1_000);
    }

    /// Looks at a problem on its way out: somebody who asks for many tasks that are not there may
    /// be looking for those of others.
    pub(crate) fn saw(&self, stats: &HttpStats, from: IpAddr, problem: &Problem) {
        if problem.code == Code::TaskUnknown
            && self.limits.unknown_tasks.take(&AddressKey::of(from)).is_err()
        {
            stats.security.suspicious(Suspicion::TaskProbing);
        }
    }

    /// Adds the headers of the limits, where there are any.
    pub(crate) fn show(&self, response: &mut Response, standing: Standing) {
        let Some(asks) = &self.limits.asks else { return };
        let mut text = String::new();
        let all = [
            (asks.address.rate(), "address", standing.address),
            (asks.principal.rate(), "principal", standing.principal),
        ];
        for (rate, name, left) in all {
            let Some(left) = left else { continue };
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(&rate.standing(name, left));
        }
        if text.is_empty() {
            return;
        }
        let headers = response.headers_mut();
        headers.insert(RATE_LIMIT_POLICY, asks.policy.clone());
        if let Ok(standing) = HeaderValue::from_maybe_shared(bytes::Bytes::from(text)) {
            headers.insert(RATE_LIMIT, standing);
        }
    }
}

/// A hash of a principal that no other has.
fn principal_name((tenant, subject): &PrincipalKey) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(tenant.len() as u64).to_le_bytes());
    hasher.update(tenant.as_bytes()).update(subject.as_bytes()).finalize()
}

fn who(principal: &Principal, method: &'static str) -> Who {
    let (subject, tenant) = (Arc::clone(&principal.subject), Arc::clone(&principal.tenant));
    Who { subject, tenant, method }
}

fn over_limit(detail: &'static str, wait: Duration) -> Problem {
    let after_s = wait.as_secs() + u64::from(0 < wait.subsec_nanos());
    Problem { retry_after_s: Some(after_s.max(1)), ..Problem::new(Code::OverLimit, detail) }
}
