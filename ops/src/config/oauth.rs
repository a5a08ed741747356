//! Who may ask: the issuer of tokens and the roles, as accepted.

use super::checked::{text, texts, whole};
use super::raw::{Raw, parts};
use no_auth::Secret;
use no_auth::roles::{RoleRules, Roles};
use no_auth::session::Lifetime;
use no_net::browser::BrowserConfig;
use no_net::oidc::{Issuer, IssuerConfig};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The issuer of tokens and our client there.
#[derive(Clone, Debug)]
pub struct OAuth {
    /// Its name, a URL.
    pub issuer: String,
    /// The audience of access tokens.
    pub audience: String,
    /// Our client.
    pub client_id: Option<String>,
    /// Its secret.
    pub client_secret: Option<Secret>,
    /// The file with its secret; read at the start.
    pub client_secret_file: Option<PathBuf>,
    /// Where browsers are sent back to.
    pub redirect_uri: Option<String>,
    /// Where they are sent after a logout at the issuer.
    pub post_logout_redirect_uri: Option<String>,
    /// What their login asks for.
    pub scopes: Vec<String>,
    /// How long their sessions live.
    pub session: Lifetime,
    /// What their sessions are sealed with for other nodes.
    pub session_key: Option<Secret>,
    /// The claim that names roles.
    pub roles_claim: String,
    /// The claim that names the tenant.
    pub tenant_claim: String,
    /// Types of access tokens.
    pub token_types: Vec<String>,
}

/// The issuer; `None` when none is configured.
pub(super) fn oauth(raw: &mut Raw) -> Option<OAuth> {
    let some = |path: &str| Some(text(raw, path)).filter(|text| !text.is_empty());
    let Some(issuer) = some("oauth.issuer") else {
        check_alone(raw);
        return None;
    };
    let oauth = OAuth {
        issuer,
        audience: text(raw, "oauth.audience"),
        client_id: some("oauth.clientId"),
        client_secret: raw.secret("oauth.clientSecret"),
        client_secret_file: some("oauth.clientSecretFile").map(PathBuf::from),
        redirect_uri: some("oauth.redirectUri"),
        post_logout_redirect_uri: some("oauth.postLogoutRedirectUri"),
        scopes: texts(raw, "oauth.scopes"),
        session: Lifetime {
            idle_s: whole(raw, "security.session.idle") / 1_000,
            absolute_s: whole(raw, "security.session.absolute") / 1_000,
        },
        session_key: raw.secret("security.session.key"),
        roles_claim: text(raw, "oauth.rolesClaim"),
        tenant_claim: text(raw, "oauth.tenantClaim"),
        token_types: texts(raw, "oauth.tokenTypes"),
    };
    check(&oauth, raw);
    Some(oauth)
}

impl OAuth {
    /// As the net cores take it, with the secret that was read.
    #[must_use]
    pub fn issuer_config(&self, client_secret: Option<Secret>, roles: &Arc<Roles>) -> IssuerConfig {
        let rules = no_auth::IssuerRules {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            client_id: self.client_id.clone(),
            token_types: self.token_types.clone(),
            roles_claim: self.roles_claim.clone(),
            tenant_claim: self.tenant_claim.clone(),
            roles: Arc::clone(roles),
        };
        let redirect_uri = self.redirect_uri.clone();
        IssuerConfig { rules: Arc::new(rules), client_secret, redirect_uri }
    }
}

impl OAuth {
    /// How browsers log in; `None` without a client, or without a way back.
    #[must_use]
    pub fn browser_config(&self) -> Option<BrowserConfig> {
        let mut scopes = self.scopes.clone();
        if !scopes.iter().any(|scope| scope == "openid") {
            scopes.insert(0, "openid".to_owned());
        }
        Some(BrowserConfig {
            client_id: self.client_id.clone()?,
            redirect_uri: self.redirect_uri.clone()?,
            scopes: scopes.join(" "),
            post_logout_redirect_uri: self.post_logout_redirect_uri.clone(),
            lifetime: self.session,
        })
    }
}

fn check(oauth: &OAuth, raw: &mut Raw) {
    if let Err(error) = Issuer::new(oauth.issuer_config(None, &Arc::default())) {
        raw.fault(&parts("oauth.issuer"), error.to_string(), None);
    }
    for (path, value) in [
        ("oauth.audience", &oauth.audience),
        ("oauth.rolesClaim", &oauth.roles_claim),
        ("oauth.tenantClaim", &oauth.tenant_claim),
    ] {
        if value.is_empty() {
            raw.fault(&parts(path), "must not be empty", None);
        }
    }
    if oauth.token_types.iter().all(String::is_empty) {
        raw.fault(&parts("oauth.tokenTypes"), "must name a type, such as at+jwt", None);
    }
    if oauth.is_audience_client() {
        let problem = "must not be clientId while oauth.tokenTypes takes others than at+jwt";
        let hint = "an ID token could not be told from an access token".to_owned();
        raw.fault(&parts("oauth.audience"), problem, Some(hint));
    }
    let secret = raw.get("oauth.clientSecret");
    if let (Some(secret), Some(_)) = (&secret, &oauth.client_secret_file) {
        let problem = format!("is set beside {}: only one may be", secret.place);
        let hint = format!("remove {}", secret.place);
        raw.fault(&parts("oauth.clientSecretFile"), problem, Some(hint));
    }
    if oauth.client_id.is_none() && (secret.is_some() || oauth.client_secret_file.is_some()) {
        let hint = "set oauth.clientId (NO_OAUTH_CLIENT_ID)".to_owned();
        raw.fault(&parts("oauth.clientId"), "is missing: there is a secret for it", Some(hint));
    }
    for (path, seconds) in [
        ("security.session.idle", oauth.session.idle_s),
        ("security.session.absolute", oauth.session.absolute_s),
    ] {
        if seconds == 0 {
            raw.fault(&parts(path), "must be a second or more", None);
        }
    }
    if oauth.redirect_uri.is_some() && oauth.client_id.is_none() {
        let hint = "set oauth.clientId (NO_OAUTH_CLIENT_ID)".to_owned();
        raw.fault(&parts("oauth.redirectUri"), "is for a client, and there is none", Some(hint));
    }
    let after_logout = &oauth.post_logout_redirect_uri;
    if after_logout.is_some() && oauth.redirect_uri.is_none() {
        let hint = "set oauth.redirectUri (NO_OAUTH_REDIRECT_URI)".to_owned();
        let problem = "is for browsers, and none can log in";
        raw.fault(&parts("oauth.postLogoutRedirectUri"), problem, Some(hint));
    }
    for (path, url) in
        [("oauth.redirectUri", &oauth.redirect_uri), ("oauth.postLogoutRedirectUri", after_logout)]
    {
        if let Some(Err(problem)) = url.as_deref().map(no_net::oidc::check_url) {
            raw.fault(&parts(path), problem, None);
        }
    }
}

impl OAuth {
    /// Whether ID tokens and access tokens would have the same type and audience.
    fn is_audience_client(&self) -> bool {
        let is_access = |typ: &String| {
            let typ = typ.to_ascii_lowercase();
            typ == "at+jwt" || typ == "application/at+jwt"
        };
        !self.token_types.iter().all(is_access) && self.client_id.as_ref() == Some(&self.audience)
    }
}

/// Keys that mean nothing without an issuer.
fn check_alone(raw: &mut Raw) {
    for path in ["oauth.clientId", "oauth.clientSecret", "oauth.clientSecretFile"] {
        if raw.get(path).is_some() {
            let hint = "set oauth.issuer (NO_OAUTH_ISSUER), or remove it".to_owned();
            raw.fault(&parts(path), "means nothing without an issuer", Some(hint));
        }
    }
}

/// The roles in force.
pub fn roles(raw: &mut Raw) -> Arc<Roles> {
    let mut rules = BTreeMap::new();
    for name in raw.names("roles") {
        let object = raw.object("roles", &name);
        let list = |key: &str| {
            let items = object.get(key)?.as_array()?.iter();
            Some(items.filter_map(|item| item.as_str().map(str::to_owned)).collect())
        };
        rules.insert(name, RoleRules { permissions: list("permissions"), claims: list("claims") });
    }
    match Roles::new(&rules) {
        Ok(roles) => Arc::new(roles),
        Err(faults) => {
            for fault in faults {
                let path = [vec!["roles".to_owned()], fault.path].concat();
                raw.fault(&path, fault.problem, None);
            }
            Arc::default()
        }
    }
}

#[cfg(test)]
#[path = "oauth/tests.rs"]
mod tests;
