//! Who asks: where every proof of identity ends.

use crate::role::{Permission, Role};
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
    /// Their roles; never more than there are.
    pub roles: Arc<[Role]>,
}

impl Principal {
    /// Whoever asks while access control is off, which the configuration allows on loopback only.
    #[must_use]
    pub fn unchecked() -> Principal {
        Principal {
            subject: "anonymous".into(),
            tenant: TENANT_DEFAULT.into(),
            roles: [Role::Admin].into(),
        }
    }

    /// Whether any of their roles has the permission.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        self.roles.iter().any(|role| role.may(permission))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_add_up() {
        let mut principal = Principal::unchecked();
        principal.roles = [Role::Viewer, Role::Worker].into();
        assert!(principal.may(Permission::TasksRead));
        assert!(principal.may(Permission::WorkerLease));
        assert!(!principal.may(Permission::TasksSubmit));
        principal.roles = [].into();
        assert!(!principal.may(Permission::TasksRead));
    }
}
