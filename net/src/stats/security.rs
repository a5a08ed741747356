//! What the gate counts: decisions by permission, violations, refusals by limits, signs of an
//! attack. One writer, as all figures of a net core.

use super::add;
use no_auth::Permission;
use no_auth::role::PERMISSIONS;
use std::sync::atomic::{AtomicU64, Ordering};

/// What limited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// Requests of an address.
    Address,
    /// Requests of a principal.
    Principal,
    /// Refused proofs of an address.
    Failures,
}

/// All limits, in the order of the counts.
pub const LIMITS: [Limit; 3] = [Limit::Address, Limit::Principal, Limit::Failures];

impl Limit {
    /// The stable label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Limit::Address => "address",
            Limit::Principal => "principal",
            Limit::Failures => "failures",
        }
    }
}

/// A sign of an attack that the gate can see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Suspicion {
    /// An address has used up its refused proofs.
    FailureBurst,
    /// An address has asked for many tasks that are not there.
    TaskProbing,
}

/// All signs, in the order of the counts.
pub const SUSPICIONS: [Suspicion; 2] = [Suspicion::FailureBurst, Suspicion::TaskProbing];

impl Suspicion {
    /// The stable label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Suspicion::FailureBurst => "failure_burst",
            Suspicion::TaskProbing => "task_probing",
        }
    }
}

/// Attempts that no honest client makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Violation {
    /// A session's cookie without the proof that our own page sent it.
    ForgedRequest,
    /// A login that came back with what was not asked for, or to another browser.
    ForgedLogin,
}

/// All of them, in the order of their counts.
pub const VIOLATIONS: [Violation; 2] = [Violation::ForgedRequest, Violation::ForgedLogin];

impl Violation {
    /// The label in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Violation::ForgedRequest => "forged_request",
            Violation::ForgedLogin => "forged_login",
        }
    }
}

/// How a login of a browser ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoginEnd {
    /// With a session.
    Done,
    /// It came back with what was not asked for.
    Mismatch,
    /// The issuer refused it, or what the issuer said of it was not accepted.
    Refused,
    /// The issuer did not do its part.
    IssuerUnavailable,
    /// Something failed here.
    Failed,
}

/// All ends, in the order of their counts.
pub const LOGIN_ENDS: [LoginEnd; 5] = [
    LoginEnd::Done,
    LoginEnd::Mismatch,
    LoginEnd::Refused,
    LoginEnd::IssuerUnavailable,
    LoginEnd::Failed,
];

impl LoginEnd {
    /// The label in metrics; `None` for one that was no failure.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            LoginEnd::Done => None,
            LoginEnd::Mismatch => Some("mismatch"),
            LoginEnd::Refused => Some("refused"),
            LoginEnd::IssuerUnavailable => Some("issuer_unavailable"),
            LoginEnd::Failed => Some("failed"),
        }
    }
}

/// The counts of one net core.
#[derive(Debug, Default)]
pub struct SecurityStats {
    sessions: AtomicU64,
    logins: [AtomicU64; LOGIN_ENDS.len()],
    allowed: [AtomicU64; PERMISSIONS.len()],
    denied: [AtomicU64; PERMISSIONS.len()],
    violations: [AtomicU64; VIOLATIONS.len()],
    limited: [AtomicU64; LIMITS.len()],
    suspicious: [AtomicU64; SUSPICIONS.len()],
}

/// A copy of the counts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SecurityFigures {
    /// Requests whose session was accepted.
    pub sessions: u64,
    /// Logins that came back, in the order of [`LOGIN_ENDS`].
    pub logins: [u64; LOGIN_ENDS.len()],
    /// Permissions granted, in the order of [`PERMISSIONS`].
    pub allowed: [u64; PERMISSIONS.len()],
    /// Permissions refused, likewise.
    pub denied: [u64; PERMISSIONS.len()],
    /// Attempts that no honest client makes, in the order of [`VIOLATIONS`].
    pub violations: [u64; VIOLATIONS.len()],
    /// Refusals by limits, in the order of [`LIMITS`].
    pub limited: [u64; LIMITS.len()],
    /// Signs of an attack, in the order of [`SUSPICIONS`].
    pub suspicious: [u64; SUSPICIONS.len()],
}

impl SecurityStats {
    pub(crate) fn session_accepted(&self) {
        add(&self.sessions, 1);
    }

    pub(crate) fn login_ended(&self, end: LoginEnd) {
        add(&self.logins[end as usize], 1);
    }

    pub(crate) fn allowed(&self, permission: Permission) {
        add(&self.allowed[permission as usize], 1);
    }

    pub(crate) fn denied(&self, permission: Permission) {
        add(&self.denied[permission as usize], 1);
    }

    pub(crate) fn violated(&self, violation: Violation) {
        add(&self.violations[violation as usize], 1);
    }

    pub(crate) fn limited(&self, limit: Limit) {
        add(&self.limited[limit as usize], 1);
    }

    pub(crate) fn suspicious(&self, suspicion: Suspicion) {
        add(&self.suspicious[suspicion as usize], 1);
    }

    /// Adds these counts to `sum`.
    pub fn add_to(&self, sum: &mut SecurityFigures) {
        let each = |sums: &mut [u64], counts: &[AtomicU64]| {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count.load(Ordering::Relaxed);
            }
        };
        sum.sessions += self.sessions.load(Ordering::Relaxed);
        each(&mut sum.logins, &self.logins);
        each(&mut sum.allowed, &self.allowed);
        each(&mut sum.denied, &self.denied);
        each(&mut sum.violations, &self.violations);
        each(&mut sum.limited, &self.limited);
        each(&mut sum.suspicious, &self.suspicious);
    }
}
