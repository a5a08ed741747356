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

/// The counts of one net core.
#[derive(Debug, Default)]
pub struct SecurityStats {
    allowed: [AtomicU64; PERMISSIONS.len()],
    denied: [AtomicU64; PERMISSIONS.len()],
    violations: [AtomicU64; VIOLATIONS.len()],
    limited: [AtomicU64; LIMITS.len()],
    suspicious: [AtomicU64; SUSPICIONS.len()],
}

/// A copy of the counts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SecurityFigures {
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
        each(&mut sum.allowed, &self.allowed);
        each(&mut sum.denied, &self.denied);
        each(&mut sum.violations, &self.violations);
        each(&mut sum.limited, &self.limited);
        each(&mut sum.suspicious, &self.suspicious);
    }
}
