//! Permissions, sets of them, and the roles that are built in. One bit each, so that a check is one
//! `and`. What the configuration adds stands in `roles`.

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
}

/// A set of permissions.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct PermissionSet(u32);

impl PermissionSet {
    /// None.
    pub const NONE: PermissionSet = PermissionSet(0);
    /// All, also those that a later version adds.
    pub const ALL: PermissionSet = PermissionSet(u32::MAX);

    /// The set of these.
    #[must_use]
    pub const fn of(permissions: &[Permission]) -> PermissionSet {
        let (mut bits, mut i) = (0, 0);
        while i < permissions.len() {
            bits |= 1 << permissions[i] as u8;
            i += 1;
        }
        PermissionSet(bits)
    }

    /// What is in either.
    #[must_use]
    pub const fn and(self, more: PermissionSet) -> PermissionSet {
        PermissionSet(self.0 | more.0)
    }

    /// Whether it is in the set.
    #[must_use]
    pub const fn has(self, permission: Permission) -> bool {
        self.0 & 1 << permission as u8 != 0
    }

    /// Whether nothing is.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in the set, in the order of [`PERMISSIONS`].
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        PERMISSIONS.into_iter().filter(move |permission| self.has(*permission))
    }
}

impl FromIterator<Permission> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> PermissionSet {
        let one = |permission| PermissionSet::of(&[permission]);
        permissions.into_iter().map(one).fold(PermissionSet::NONE, PermissionSet::and)
    }
}

impl std::fmt::Debug for PermissionSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(Permission::name)).finish()
    }
}

/// A named set of permissions that is always there.
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

/// All roles that are built in.
pub const ROLES: [Role; 5] =
    [Role::Viewer, Role::Submitter, Role::Worker, Role::Operator, Role::Admin];

const VIEWER: PermissionSet =
    PermissionSet::of(&[Permission::TasksRead, Permission::AgentsRead, Permission::OpsRead]);
const SUBMITTER: PermissionSet = VIEWER.and(PermissionSet::of(&[Permission::TasksSubmit]));
const WORKER: PermissionSet = PermissionSet::of(&[Permission::WorkerLease]);
const OPERATOR: PermissionSet =
    SUBMITTER.and(PermissionSet::of(&[Permission::TasksControl, Permission::AgentsWrite]));

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

    /// What it may, unless the configuration says otherwise.
    #[must_use]
    pub const fn permissions(self) -> PermissionSet {
        match self {
            Role::Viewer => VIEWER,
            Role::Submitter => SUBMITTER,
            Role::Worker => WORKER,
            Role::Operator => OPERATOR,
            Role::Admin => PermissionSet::ALL,
        }
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
            let names: Vec<_> = role.permissions().iter().map(Permission::name).collect();
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

    #[test]
    fn sets_add_up() {
        let both = VIEWER.and(WORKER);
        assert!(both.has(Permission::TasksRead) && both.has(Permission::WorkerLease));
        assert!(!both.has(Permission::TasksSubmit));
        assert!(PermissionSet::NONE.is_empty() && !both.is_empty());
        assert_eq!(both.iter().collect::<PermissionSet>(), both);
        assert_eq!(format!("{WORKER:?}"), r#"["worker:lease"]"#);
    }
}
