//! Who asks: where every proof of identity ends.

use crate::role::{Permission, PermissionSet};
use std::sync::Arc;

/// The tenant of those who name none.
pub const TENANT_DEFAULT: &str = "default";

/// Somebody whose proof was accepted. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Principal {
    /// The name in the proof; for logs and limits.
    pub subject: Arc<str>,
    /// Whose tasks they see; another tenant's do not exist for them.
    pub tenant: Arc<str>,
    /// What all their roles allow together; without a role nothing.
    pub permissions: PermissionSet,
}

impl Principal {
    /// Whoever asks while access control is off, which the configuration allows on loopback only.
    #[must_use]
    pub fn unchecked() -> Principal {
        Principal {
            subject: "anonymous".into(),
            tenant: TENANT_DEFAULT.into(),
            permissions: PermissionSet::ALL,
        }
    }

    /// Whether any of their roles has the permission.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.has(permission)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_role_may_nothing() {
        let mut principal = Principal::unchecked();
        assert!(principal.may(Permission::AdminShutdown));
        principal.permissions = PermissionSet::NONE;
        assert!(crate::role::PERMISSIONS.into_iter().all(|permission| !principal.may(permission)));
    }
}
