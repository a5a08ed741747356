//! The roles in force: those that are built in, as the configuration changes them, and its own.
//!
//! A role of a local token is found by its name. A value of an issuer's token is found among the
//! values that a role names in `claims`; a role that names none is found by its own name. So
//! whoever lists `claims` decides alone who gets the role, and a group of the directory that
//! happens to be called like a role opens nothing by accident.

use crate::role::{Permission, PermissionSet, ROLES, Role};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Longest name of a role and longest value of a claim, in bytes.
pub const ROLE_BYTES_MAX: usize = 128;
/// Roles, at most.
pub const ROLES_LEN_MAX: usize = 1_000;

/// What the configuration says of one role.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RoleRules {
    /// Names of permissions; `None` keeps those of the role that is built in.
    pub permissions: Option<Vec<String>>,
    /// Values of the roles claim that give the role; `None` for the role's own name.
    pub claims: Option<Vec<String>>,
}

/// What is wrong with a role: where, below `roles`, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoleFault {
    /// The names below `roles`.
    pub path: Vec<String>,
    /// What is wrong.
    pub problem: String,
}

/// All roles, by name and by what gives them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Roles {
    by_name: BTreeMap<Box<str>, PermissionSet>,
    by_claim: HashMap<Box<str>, PermissionSet>,
}

impl Default for Roles {
    /// The roles that are built in, each given by its name.
    fn default() -> Roles {
        Roles::of(ROLES.map(|role| (role.name().into(), role.permissions(), None)).into())
    }
}

type Named = (Box<str>, PermissionSet, Option<Vec<String>>);

impl Roles {
    /// The roles that are built in, changed and added to as configured.
    ///
    /// # Errors
    /// Every fault: an unknown permission, a role of one's own without `permissions`, another
    /// `admin`, a name or value that is empty or too long.
    pub fn new(rules: &BTreeMap<String, RoleRules>) -> Result<Roles, Vec<RoleFault>> {
        let mut faults = Vec::new();
        let mut all: Vec<Named> = Vec::new();
        for role in ROLES.into_iter().filter(|role| !rules.contains_key(role.name())) {
            all.push((role.name().into(), role.permissions(), None));
        }
        if ROLES_LEN_MAX < rules.len() {
            let problem = format!("there may be at most {ROLES_LEN_MAX} roles");
            faults.push(RoleFault { path: Vec::new(), problem });
        }
        for (name, rules) in rules {
            let permissions = permissions_of(name, rules, &mut faults);
            let values = rules.claims.iter().flatten().enumerate();
            for (place, _) in values.filter(|(_, value)| !is_name(value)) {
                let path = vec![name.clone(), "claims".to_owned(), place.to_string()];
                let problem = format!("must have 1 to {ROLE_BYTES_MAX} bytes of plain text");
                faults.push(RoleFault { path, problem });
            }
            all.push((name.as_str().into(), permissions, rules.claims.clone()));
        }
        if faults.is_empty() { Ok(Roles::of(all)) } else { Err(faults) }
    }

    fn of(all: Vec<Named>) -> Roles {
        let (mut by_name, mut by_claim) = (BTreeMap::new(), HashMap::<Box<str>, _>::new());
        for (name, permissions, claims) in all {
            for value in claims.unwrap_or_else(|| vec![name.to_string()]) {
                let given: &mut PermissionSet = by_claim.entry(value.into()).or_default();
                *given = given.and(permissions);
            }
            by_name.insert(name, permissions);
        }
        Roles { by_name, by_claim }
    }

    /// What the role of that name may; `None` when there is none.
    #[must_use]
    pub fn of_name(&self, name: &str) -> Option<PermissionSet> {
        self.by_name.get(name).copied()
    }

    /// What these values of an issuer's claim give together; values that give no role are ignored.
    pub fn of_claims<'v>(&self, values: impl IntoIterator<Item = &'v str>) -> PermissionSet {
        let given = values.into_iter().filter_map(|value| self.by_claim.get(value));
        given.copied().fold(PermissionSet::NONE, PermissionSet::and)
    }

    /// Those of a claim's values that give a role, each once, in order.
    pub fn giving<'v>(&self, values: impl IntoIterator<Item = &'v str>) -> Vec<String> {
        let given = values.into_iter().filter(|value| self.by_claim.contains_key(*value));
        let given: BTreeSet<&str> = given.collect();
        given.into_iter().map(str::to_owned).collect()
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(|name| &**name)
    }
}

fn permissions_of(name: &str, rules: &RoleRules, faults: &mut Vec<RoleFault>) -> PermissionSet {
    let mut fault = |below: &[&str], problem: String| {
        let path = std::iter::once(name).chain(below.iter().copied());
        faults.push(RoleFault { path: path.map(str::to_owned).collect(), problem });
    };
    if !is_name(name) || name.contains(char::is_whitespace) {
        fault(&[], format!("must have a name of 1 to {ROLE_BYTES_MAX} bytes without blanks"));
    }
    let built_in = Role::of_name(name);
    let Some(wanted) = &rules.permissions else {
        if built_in.is_none() {
            let names = ROLES.map(Role::name).join(", ");
            let problem = format!("needs permissions: only {names} are built in");
            fault(&[], problem);
        }
        return built_in.map_or(PermissionSet::NONE, Role::permissions);
    };
    if built_in == Some(Role::Admin) {
        let problem = "admin may everything, always; make a role of another name".to_owned();
        fault(&["permissions"], problem);
    }
    let mut permissions = PermissionSet::NONE;
    for (place, wanted) in wanted.iter().enumerate() {
        match Permission::of_name(wanted) {
            Some(permission) => permissions = permissions.and(PermissionSet::of(&[permission])),
            None => {
                let names = crate::role::PERMISSIONS.map(Permission::name).join(", ");
                let place = place.to_string();
                fault(&["permissions", &place], format!("must be one of {names}"));
            }
        }
    }
    permissions
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= ROLE_BYTES_MAX && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn rules(text: &str) -> BTreeMap<String, RoleRules> {
        let all: BTreeMap<String, BTreeMap<String, Vec<String>>> =
            serde_json::from_str(text).expect("roles");
        let rules = |mut role: BTreeMap<String, Vec<String>>| RoleRules {
            permissions: role.remove("permissions"),
            claims: role.remove("claims"),
        };
        all.into_iter().map(|(name, role)| (name, rules(role))).collect()
    }

    #[track_caller]
    fn refused(text: &str, expected: Expect) {
        let faults = Roles::new(&rules(text)).expect_err("refused");
        let line = |fault: &RoleFault| format!("{}: {}\n", fault.path.join("."), fault.problem);
        expected.assert_eq(&faults.iter().map(line).collect::<String>());
    }

    #[test]
    fn roles_are_found_by_name_and_by_claim() {
        let text = r#"{
            "operator": {"claims": ["ops-team", "operator"]},
            "admin": {"claims": ["no-admins"]},
            "worker": {"claims": []},
            "auditor": {"permissions": ["tasks:read", "ops:read"], "claims": ["ops-team"]},
            "viewer": {"permissions": ["tasks:read"]}
        }"#;
        let roles = Roles::new(&rules(text)).expect("accepted");
        assert_eq!(roles.of_name("admin"), Some(PermissionSet::ALL));
        assert_eq!(roles.of_name("submitter"), Some(Role::Submitter.permissions()));
        assert_eq!(roles.of_name("worker"), Some(Role::Worker.permissions()));
        assert_eq!(format!("{:?}", roles.of_name("viewer")), r#"Some(["tasks:read"])"#);
        assert_eq!(roles.of_name("ops-team"), None);
        let given = |values: &[&str]| roles.of_claims(values.iter().copied());
        assert_eq!(given(&["ops-team"]), Role::Operator.permissions());
        assert_eq!(given(&["no-admins"]), PermissionSet::ALL);
        assert_eq!(given(&["submitter", "stranger"]), Role::Submitter.permissions());
        for nothing in [&["admin"][..], &["worker"], &["auditor"], &["Operator"], &[""], &[]] {
            assert_eq!(given(nothing), PermissionSet::NONE, "{nothing:?}");
        }
        let names: Vec<_> = roles.names().collect();
        assert_eq!(names, ["admin", "auditor", "operator", "submitter", "viewer", "worker"]);
    }

    #[test]
    fn faults_are_named_with_their_place() {
        refused(
            r#"{"admin": {"permissions": ["tasks:read"]}, "a b": {"permissions": []},
                "own": {"claims": ["x", ""]}, "viewer": {"permissions": ["tasks:red"]}}"#,
            expect![[r#"
                a b: must have a name of 1 to 128 bytes without blanks
                admin.permissions: admin may everything, always; make a role of another name
                own: needs permissions: only viewer, submitter, worker, operator, admin are built in
                own.claims.1: must have 1 to 128 bytes of plain text
                viewer.permissions.0: must be one of tasks:submit, tasks:read, tasks:control, agents:write, agents:read, worker:lease, ops:read, admin:shutdown
            "#]],
        );
    }
}
