//! What is accepted of issuer and roles, and what is not although each value alone is.

use super::super::checked::{Config, check};
use super::super::fault::Fault;
use super::super::raw::{File, Raw};
use expect_test::{Expect, expect};
use no_auth::{PermissionSet, Role};

fn read(text: &str, env: &[(&str, &str)]) -> Result<Config, Vec<Fault>> {
    let env = |name: &str| {
        let found = env.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let files = |_: &str| Err("no files here".to_owned());
    check(Raw::read(Some(File { name: "c.json", text }), &env, &files, &[]), 4)
}

#[track_caller]
fn refused(text: &str, env: &[(&str, &str)], expected: Expect) {
    let faults = read(text, env).expect_err("refused");
    let faults: Vec<String> = faults.iter().map(Fault::to_string).collect();
    expected.assert_eq(&faults.join("\n"));
}

#[test]
fn an_issuer_is_read_from_file_and_environment() {
    assert!(read("{}", &[]).expect("accepted").oauth.is_none());
    let text = r#"{"oauth":{"rolesClaim":"realm_access.roles","tokenTypes":["at+jwt","JWT"]}}"#;
    let env = [
        ("NO_OAUTH_ISSUER", "https://id.example/realms/a"),
        ("NO_OAUTH_CLIENT_ID", "no-console"),
        ("NO_OAUTH_CLIENT_SECRET", "hush"),
        ("NO_OAUTH_AUDIENCE", "https://no.example"),
    ];
    let config = read(text, &env).expect("accepted");
    let oauth = config.oauth.expect("an issuer");
    assert!(!format!("{oauth:?}").contains("hush"));
    let issuer = oauth.issuer_config(oauth.client_secret.clone(), &config.roles);
    assert_eq!(issuer.rules.issuer, "https://id.example/realms/a");
    assert_eq!(issuer.rules.audience, "https://no.example");
    assert_eq!(issuer.rules.roles_claim, "realm_access.roles");
    assert_eq!(issuer.rules.tenant_claim, "tenant");
    assert_eq!(issuer.rules.token_types, ["at+jwt", "JWT"]);
    assert_eq!(issuer.client_secret.expect("a secret").reveal(), "hush");
    for good in ["http://127.0.0.1:3001", "http://localhost/a", "http://[::1]:1", "https://a.b/"] {
        assert!(read("{}", &[("NO_OAUTH_ISSUER", good)]).is_ok(), "{good}");
    }
}

#[test]
fn what_an_issuer_may_not_be() {
    refused(
        r#"{"oauth":{"issuer":"http://id.example","audience":"","tokenTypes":[]}}"#,
        &[],
        expect![[r#"
            c.json:1: oauth.issuer: must begin with https:// unless its host is loopback
            c.json:1: oauth.audience: must not be empty
            c.json:1: oauth.tokenTypes: must name a type, such as at+jwt"#]],
    );
    refused(
        r#"{"oauth":{"issuer":"https://id.example/?a=1","clientId":"no","tokenTypes":["JWT"]}}"#,
        &[],
        expect![[r#"
            c.json:1: oauth.issuer: must have no query and no fragment
            c.json:1: oauth.audience: must not be clientId while oauth.tokenTypes takes others than at+jwt (an ID token could not be told from an access token)"#]],
    );
    refused(
        r#"{"oauth":{"issuer":"https://id.example",
            "clientSecretFile":"secret","clientSecret":"hush"}}"#,
        &[("NO_OAUTH_CLIENT_SECRET", "hush"), ("NO_OAUTH_REDIRECT_URI", "ftp://x")],
        expect![[r#"
            c.json:2: oauth.clientSecret: a secret does not belong into this file (set NO_OAUTH_CLIENT_SECRET or NO_OAUTH_CLIENT_SECRET_FILE)
            c.json:2: oauth.clientSecretFile: is set beside NO_OAUTH_CLIENT_SECRET: only one may be (remove NO_OAUTH_CLIENT_SECRET)
            c.json:1: oauth.clientId: is missing: there is a secret for it (set oauth.clientId (NO_OAUTH_CLIENT_ID))
            NO_OAUTH_REDIRECT_URI: oauth.redirectUri: is for a client, and there is none (set oauth.clientId (NO_OAUTH_CLIENT_ID))
            NO_OAUTH_REDIRECT_URI: oauth.redirectUri: is refused: the url must start with http:// or https://"#]],
    );
    refused(
        r#"{"oauth":{"clientId":"no"}}"#,
        &[],
        expect![
            "c.json:1: oauth.clientId: means nothing without an issuer (set oauth.issuer (NO_OAUTH_ISSUER), or remove it)"
        ],
    );
}

#[test]
fn roles_are_read_and_their_faults_have_a_line() {
    let text = r#"{"roles":{
        "operator":{"claims":["operator","ops"]},
        "auditor":{"permissions":["tasks:read"],"claims":["audit"]}
    }}"#;
    let roles = read(text, &[]).expect("accepted").roles;
    assert_eq!(roles.of_claims(["ops"]), Role::Operator.permissions());
    assert_eq!(roles.of_claims(["audit"]), PermissionSet::of(&[no_auth::Permission::TasksRead]));
    assert_eq!(roles.of_claims(["auditor"]), PermissionSet::NONE);
    refused(
        r#"{"roles":{
            "admin":{"permissions":["tasks:read"]},
            "own":{"claims":["x"]},
            "viewer":{"permissions":["tasks:read",
                "tasks:reed"],"claim":["v"]}
        }}"#,
        &[],
        expect![[r#"
            c.json:5: roles.viewer.claim: unknown key (did you mean roles.viewer.claims?)
            c.json:2: roles.admin.permissions: admin may everything, always; make a role of another name
            c.json:3: roles.own: needs permissions: only viewer, submitter, worker, operator, admin are built in
            c.json:5: roles.viewer.permissions.1: must be one of tasks:submit, tasks:read, tasks:control, agents:write, agents:read, worker:lease, ops:read, admin:shutdown"#]],
    );
}
