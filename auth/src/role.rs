//! Permissions, and the roles that are sets of them. One bit each, so that a check is one `and`.

/// One right.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Permission {
    /// Submit tasks.
    TasksSubmit,
    /// Read tasks, their steps and events.
    TasksRead,
    /// Cancel, retry, redrive, signal and steer tasks.
    TasksControl,
    /// Define, delete, pause and resume agents.
    AgentsWrite,
    /// Read agents.
    AgentsRead,
    /// Lease tasks and report on them.
    WorkerLease,
    /// Read detailed health and the admin pages.
    OpsRead,
    /// Shut this node down.
    AdminShutdown,
}

/// All permissions.
pub const PERMISSIONS: [Permission; 8] = [
    Permission::TasksSubmit,
    Permission::TasksRead,
    Permission::TasksControl,
    Permission::AgentsWrite,
    Permission::AgentsRead,
    Permission::WorkerLease,
    Permission::OpsRead,
    Permission::AdminShutdown,
];

impl Permission {
    /// The name in configuration, problems and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Permission::TasksSubmit => "tasks:submit",
            Permission::TasksRead => "tasks:read",
            Permission::TasksControl => "tasks:control",
            Permission::AgentsWrite => "agents:write",
            Permission::AgentsRead => "agents:read",
            Permission::WorkerLease => "worker:lease",
            Permission::OpsRead => "ops:read",
            Permission::AdminShutdown => "admin:shutdown",
        }
    }

    /// The permission of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Permission> {
        PERMISSIONS.into_iter().find(|permission| permission.name() == name)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A named set of permissions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Sees tasks, agents and the state of the service.
    Viewer,
    /// Sees, and submits tasks.
    Submitter,
    /// Leases tasks and reports on them; nothing else, as its token lies on many machines.
    Worker,
    /// Sees, submits, steers tasks and writes agents.
    Operator,
    /// Everything.
    Admin,
}

/// All roles.
pub const ROLES: [Role; 5] =
    [Role::Viewer, Role::Submitter, Role::Worker, Role::Operator, Role::Admin];

const VIEWER: u8 =
    Permission::TasksRead.bit() | Permission::AgentsRead.bit() | Permission::OpsRead.bit();
const SUBMITTER: u8 = VIEWER | Permission::TasksSubmit.bit();
const WORKER: u8 = Permission::WorkerLease.bit();
const OPERATOR: u8 = SUBMITTER | Permission::TasksControl.bit() | Permission::AgentsWrite.bit();
const ADMIN: u8 = u8::MAX;

impl Role {
    /// The name in tokens and configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Submitter => "submitter",
            Role::Worker => "worker",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Role> {
        ROLES.into_iter().find(|role| role.name() == name)
    }

    /// Whether the role has the permission.
    #[must_use]
    pub fn may(self, permission: Permission) -> bool {
        let set = match self {
            Role::Viewer => VIEWER,
            Role::Submitter => SUBMITTER,
            Role::Worker => WORKER,
            Role::Operator => OPERATOR,
            Role::Admin => ADMIN,
        };
        set & permission.bit() != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn the_matrix_is_as_documented() {
        let mut text = String::new();
        for role in ROLES {
            let names: Vec<_> =
                PERMISSIONS.into_iter().filter(|p| role.may(*p)).map(Permission::name).collect();
            text += &format!("{}: {}\n", role.name(), names.join(" "));
        }
        expect![[r#"
            viewer: tasks:read agents:read ops:read
            submitter: tasks:submit tasks:read agents:read ops:read
            worker: worker:lease
            operator: tasks:submit tasks:read tasks:control agents:write agents:read ops:read
            admin: tasks:submit tasks:read tasks:control agents:write agents:read worker:lease ops:read admin:shutdown
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn names_go_both_ways() {
        for permission in PERMISSIONS {
            assert_eq!(Permission::of_name(permission.name()), Some(permission));
        }
        for role in ROLES {
            assert_eq!(Role::of_name(role.name()), Some(role));
        }
        assert_eq!(Role::of_name("Admin"), None);
        assert_eq!(Permission::of_name(""), None);
    }
}
