//! The families about who was let in, and what the gate, the guard and the audit log did. Every
//! label is one of a closed list and shown from the start.

use super::{Family, counter, gauge};
use no_auth::error::DENIED;
use no_auth::role::PERMISSIONS;
use no_auth::{Denied, Permission};
use no_net::audit;
use no_net::redis::{OUTCOMES, PURPOSES, RedisFigures};
use no_net::stats::{self, LIMITS, LOGIN_ENDS, SUSPICIONS, SecurityFigures, Violation};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the access checks, the limits and the audit log counted.
#[derive(Clone, Debug, Default)]
pub struct AuthCounts {
    /// Tokens accepted.
    pub accepted: u64,
    /// Refused, by [`no_auth::Denied::reason`].
    pub denied: BTreeMap<&'static str, u64>,
    /// Requests whose session was accepted.
    pub sessions: u64,
    /// Logins of browsers, in the order of [`LOGIN_ENDS`].
    pub logins: [u64; LOGIN_ENDS.len()],
    /// Allowed and denied, by the permission's name.
    pub by_permission: BTreeMap<&'static str, (u64, u64)>,
    /// Calls to the outside that the guard refused.
    pub outbound_refused: u64,
    /// Refusals by limits, in the order of [`LIMITS`].
    pub limited: [u64; LIMITS.len()],
    /// Signs of an attack, in the order of [`SUSPICIONS`].
    pub suspicious: [u64; SUSPICIONS.len()],
    /// Attempts that no honest client makes, in the order of [`stats::VIOLATIONS`].
    pub violations: [u64; stats::VIOLATIONS.len()],
    /// What the audit log did.
    pub audit: AuditLines,
    /// What Redis was asked.
    pub redis: RedisFigures,
}

/// What the audit log did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditLines {
    /// Lines written.
    pub written: u64,
    /// Denials without room.
    pub suppressed: u64,
    /// Writes and syncs that failed.
    pub errors: u64,
}

impl AuditLines {
    /// The counts now.
    #[must_use]
    pub fn of(counts: &audit::AuditCounts) -> AuditLines {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (written, suppressed) = (load(&counts.lines), load(&counts.suppressed));
        AuditLines { written, suppressed, errors: load(&counts.errors) }
    }
}

impl AuthCounts {
    /// How often a permission was allowed and denied.
    #[must_use]
    pub fn decisions(&self, permission: &str) -> (u64, u64) {
        self.by_permission.get(permission).copied().unwrap_or_default()
    }

    /// Adds what the gates of the net cores counted.
    pub fn add_security(&mut self, figures: &SecurityFigures) {
        for (place, permission) in PERMISSIONS.iter().enumerate() {
            let sum = self.by_permission.entry(permission.name()).or_default();
            sum.0 += figures.allowed[place];
            sum.1 += figures.denied[place];
        }
        (self.sessions, self.logins) = (figures.sessions, figures.logins);
        self.violations = figures.violations;
        self.limited = figures.limited;
        self.suspicious = figures.suspicious;
    }

    fn denied(&self, denied: Denied) -> u64 {
        self.denied.get(denied.reason()).copied().unwrap_or_default()
    }
}

pub(super) const AUTH_ATTEMPTS: Family = counter(
    "no_auth_attempts_total",
    &["method"],
    "Requests that had to prove who asks.",
    |now, out| {
        let forged = now.auth.violations[Violation::ForgedRequest as usize];
        out.count(&["bearer"], now.auth.accepted + now.auth.denied.values().sum::<u64>());
        out.count(&["session"], now.auth.sessions + forged);
        out.count(&["login"], now.auth.logins.iter().sum());
    },
);

pub(super) const AUTH_FAILURES: Family =
    counter("no_auth_failures_total", &["method", "reason"], "Proofs refused.", |now, out| {
        for denied in DENIED {
            out.count(&["bearer", denied.reason()], now.auth.denied(denied));
        }
        let forged = now.auth.violations[Violation::ForgedRequest as usize];
        out.count(&["session", "csrf"], forged);
        for (end, count) in LOGIN_ENDS.iter().zip(now.auth.logins) {
            if let Some(reason) = end.reason() {
                out.count(&["login", reason], count);
            }
        }
    });

pub(super) const TOKEN_VALIDATIONS: Family =
    counter("no_auth_token_validations_total", &["result"], "Tokens checked.", |now, out| {
        let denied = now.auth.denied.values().sum::<u64>() - now.auth.denied(Denied::Missing);
        out.count(&["accepted"], now.auth.accepted);
        out.count(&["denied"], denied);
    });

pub(super) const RBAC_DECISIONS: Family = counter(
    "no_rbac_decisions_total",
    &["permission", "decision"],
    "Permissions asked for.",
    |now, out| {
        for permission in PERMISSIONS.map(Permission::name) {
            let (allowed, denied) = now.auth.decisions(permission);
            out.count(&[permission, "allowed"], allowed);
            out.count(&[permission, "denied"], denied);
        }
    },
);

pub(super) const RBAC_DENIALS: Family =
    counter("no_rbac_denials_total", &["permission"], "Permissions refused.", |now, out| {
        for permission in PERMISSIONS.map(Permission::name) {
            out.count(&[permission], now.auth.decisions(permission).1);
        }
    });

pub(super) const VIOLATIONS: Family = counter(
    "no_security_violations_total",
    &["kind"],
    "Calls out that the guard stopped; what was forged, or used after it was revoked.",
    |now, out| {
        let forged = [Denied::Signature, Denied::Algorithm].map(|denied| now.auth.denied(denied));
        out.count(&["outbound"], now.auth.outbound_refused);
        out.count(&["forged_token"], forged.iter().sum());
        out.count(&["revoked_token"], now.auth.denied(Denied::Revoked));
        for (violation, count) in stats::VIOLATIONS.iter().zip(now.auth.violations) {
            out.count(&[violation.name()], count);
        }
    },
);

pub(super) const SUSPICIOUS: Family = counter(
    "no_suspicious_activity_total",
    &["kind"],
    "Signs of an attack: an address with many refused proofs, or many unknown tasks.",
    |now, out| {
        for (kind, count) in SUSPICIONS.into_iter().zip(now.auth.suspicious) {
            out.count(&[kind.name()], count);
        }
    },
);

pub(super) const RATE_LIMITED: Family = counter(
    "no_rate_limited_total",
    &["limit"],
    "Requests refused with 429, as their address or principal asks too often.",
    |now, out| {
        for (limit, count) in LIMITS.into_iter().zip(now.auth.limited) {
            out.count(&[limit.name()], count);
        }
    },
);

pub(super) const AUDIT_LINES: Family =
    counter("no_audit_lines_total", &[], "Lines of the audit log.", |now, out| {
        out.count(&[], now.auth.audit.written);
    });

pub(super) const AUDIT_SUPPRESSED: Family = counter(
    "no_audit_suppressed_total",
    &[],
    "Denials that the audit log only counted.",
    |now, out| out.count(&[], now.auth.audit.suppressed),
);

pub(super) const AUDIT_ERRORS: Family = counter(
    "no_audit_errors_total",
    &[],
    "Writes and syncs of the audit log that failed.",
    |now, out| out.count(&[], now.auth.audit.errors),
);

pub(super) const REDIS_REQUESTS: Family = counter(
    "no_redis_requests_total",
    &["use", "outcome"],
    "What was asked of Redis for what nodes share; refused while its breaker is open.",
    |now, out| {
        for (purpose, counts) in PURPOSES.into_iter().zip(now.auth.redis.counts) {
            for (outcome, count) in OUTCOMES.into_iter().zip(counts) {
                out.count(&[purpose.name(), outcome.name()], count);
            }
        }
    },
);

pub(super) const REDIS_BREAKER: Family = gauge(
    "no_redis_breaker_open",
    &[],
    "1 while Redis is configured and away, so that it is not asked.",
    |now, out| out.count(&[], u64::from(now.auth.redis.is_open)),
);
