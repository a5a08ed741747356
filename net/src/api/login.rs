//! `/auth/*`: a browser logs in at the issuer and comes back with a session.
//!
//! ```text
//! browser ─ GET /auth/login ─▶ nO ─ 302 with state, nonce, challenge ─▶ browser ─▶ issuer
//! issuer ─ 302 with code, state, iss ─▶ browser ─ GET /auth/callback ─▶ nO
//! nO ─ code, verifier ─▶ issuer
//! issuer ─ ID token, access token ─▶ nO
//! nO ─ access token ─▶ issuer's UserInfo, if the ID token leaves out name, roles or tenant
//! nO ─ 303 with the session's cookie ─▶ browser
//! ```

use crate::authorise::{bearer, identify};
use crate::body::OutBody;
use crate::browser::{Browsers, SESSION_COOKIE, is_ours, login_cookie, random};
use crate::core::Core;
use crate::extract::Request;
use crate::gate::Asking;
use crate::oidc::{Metadata, Provider, ProviderError, is_code};
use crate::problem::{Code, Problem};
use crate::render::json;
use crate::route::{Outcome, Response};
use crate::stats::{LoginEnd, Violation};
use crate::time;
use hyper::StatusCode;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, HeaderMap, HeaderValue, LOCATION, SET_COOKIE,
};
use no_auth::cookie::Cookie;
use no_auth::login::{Begun, LOGIN_S_MAX, Mismatch, check_issuer, is_own_path};
use no_auth::role::PERMISSIONS;
use no_auth::session::{Secret, Session};
use no_auth::{Denied, IdClaims, Permission, Principal};
use no_engine::time::Millis;
use std::rc::Rc;
use std::sync::Arc;
use url::Url;

/// Longest code that is taken from the issuer, in bytes.
const CODE_BYTES_MAX: usize = 4_096;

/// `GET|POST /auth/login[?return_to=/path]`: to the issuer. Who asks for JSON gets the URL instead.
pub(super) async fn login(request: Request) -> Outcome {
    let mut query = request.query()?;
    let return_to = query.take("return_to").unwrap_or_else(|| "/auth/me".to_owned());
    query.done()?;
    if !is_own_path(&return_to) {
        return Err(Problem::invalid("?return_to", "must be a path here, such as /console/"));
    }
    let (provider, browsers) = parts(&request.core)?;
    let metadata = provider.metadata().await.map_err(|why| unavailable(&why))?;
    let begun = begin(&browsers, &return_to)?;
    browsers.share_login(&begun.state).await;
    let url = authorization_url(&metadata.authorization_endpoint, &browsers, &begun)?;
    let headers = &request.parts.headers;
    let mut response = if wants_json(headers) {
        let body = serde_json::json!({"url": url.as_str()});
        json(StatusCode::OK, body.to_string().into_bytes())
    } else {
        redirect(StatusCode::FOUND, url.as_str())
    };
    for oldest in browsers.logins_too_many(headers) {
        set_cookie(&mut response, &browsers, &oldest, "", 0);
    }
    let (name, value) = (login_cookie(&begun.state), begun.browser.text());
    set_cookie(&mut response, &browsers, &name, &value, LOGIN_S_MAX);
    Ok(response)
}

/// `GET /auth/callback`: from the issuer, with a code or a refusal.
pub(super) async fn callback(request: Request) -> Outcome {
    let (core, peer) = (Rc::clone(&request.core), request.peer);
    // What the query says is the proof here.
    let asking = Asking::of(&request.parts, peer);
    core.gate.proof(&core.stats, asking, || request.parts.uri.query())?;
    let outcome = returned(request).await;
    if outcome.as_ref().is_err_and(|problem| problem.code == Code::Unauthenticated) {
        core.gate.failed(&core.stats, peer);
    }
    core.stats.security.login_ended(match outcome.as_ref().map_err(|problem| problem.code) {
        Ok(_) => LoginEnd::Done,
        Err(Code::BadRequest | Code::Invalid) => LoginEnd::Mismatch,
        Err(Code::Unauthenticated) => LoginEnd::Refused,
        Err(Code::IssuerUnavailable) => LoginEnd::IssuerUnavailable,
        Err(_) => LoginEnd::Failed,
    });
    outcome
}

async fn returned(request: Request) -> Outcome {
    let (provider, browsers) = parts(&request.core)?;
    let mut query = request.query()?;
    let headers = &request.parts.headers;
    let now_s = time::wall().0 / 1_000;
    let state = query.take("state").unwrap_or_default();
    let login = browsers.answer(&state, headers).await;
    let login = login.map_err(|why| mismatch(&request, why))?;
    let metadata = provider.metadata().await.map_err(|why| unavailable(&why))?;
    let named = query.take("iss");
    check_issuer(named.as_deref(), &metadata.issuer, metadata.names_itself)
        .map_err(|why| mismatch(&request, why))?;
    if let Some(error) = query.take("error") {
        let error = if is_code(&error) { &*error } else { "unknown" };
        tracing::info!(target: "auth", error, "the issuer refused a login");
        return Err(told(error));
    }
    let code = query.take("code").filter(|code| code.len() <= CODE_BYTES_MAX);
    let code = code.ok_or_else(|| Problem::invalid("?code", "is missing"))?;
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", &browsers.config.redirect_uri),
        ("code_verifier", &login.verifier),
    ];
    let answer = provider.form(&metadata.token_endpoint, &fields).await;
    let answer = answer.map_err(|why| not_exchanged(&why))?;
    let text = |name: &str| answer.get(name).and_then(serde_json::Value::as_str);
    let id_token = text("id_token").unwrap_or_default();
    let claims = provider.id_token(id_token, &login.nonce, now_s).await.map_err(not_accepted)?;
    let claims = complete(&provider, &metadata, claims, text("access_token")).await?;
    let secret = Secret::new(random()?);
    let before = browsers.secret(headers, SESSION_COOKIE);
    let principal = provider.principal(&claims);
    keep(&request, &principal, ("auth.login", "id_token")).await?;
    tracing::info!(target: "auth", subject = %principal.subject, "logged in");
    let profile = claims.profile(&provider.config().rules.roles);
    browsers.begin(&secret, before.as_ref(), (principal, profile, id_token.to_owned())).await;
    let mut response = redirect(StatusCode::SEE_OTHER, &login.return_to);
    let age_s = browsers.config.lifetime.absolute_s;
    set_cookie(&mut response, &browsers, SESSION_COOKIE, &secret.text(), age_s);
    if let Some(state) = Secret::parse(&state) {
        set_cookie(&mut response, &browsers, &login_cookie(&state), "", 0);
    }
    Ok(response)
}

/// Asks the issuer for what its ID token left out. One that will not say it to this token has said
/// all; one that does not answer might have, and then a login without roles would only puzzle.
async fn complete(
    provider: &Provider,
    metadata: &Metadata,
    mut claims: IdClaims,
    access_token: Option<&str>,
) -> Result<IdClaims, Problem> {
    let (Some(url), Some(access_token)) = (&metadata.userinfo_endpoint, access_token) else {
        return Ok(claims);
    };
    if !claims.is_partial() {
        return Ok(claims);
    }
    match provider.userinfo(url, access_token).await {
        Ok(told) => provider.config().rules.complete(&mut claims, &told).map_err(not_accepted)?,
        Err(why @ ProviderError::Unavailable { .. }) => return Err(unavailable(&why)),
        Err(why) => tracing::info!(target: "auth", %why, "the issuer tells no more of a login"),
    }
    Ok(claims)
}

/// `POST /auth/logout`: ends the session here, and says where it is ended at the issuer.
pub(super) async fn logout(request: Request) -> Outcome {
    request.no_query()?;
    let (provider, browsers) = parts(&request.core)?;
    let headers = &request.parts.headers;
    let Some((secret, session)) = browsers.session(headers).await else {
        return Err(Problem::new(Code::Unauthenticated, "there is no session"));
    };
    if !is_ours(headers, &secret) {
        return Err(Problem::new(Code::Forbidden, "X-CSRF-Token is missing or wrong"));
    }
    keep(&request, &session.principal, ("auth.logout", "session")).await?;
    browsers.end(&secret).await;
    tracing::info!(target: "auth", subject = %session.principal.subject, "logged out");
    // Here it is over also while the issuer cannot be reached.
    let metadata = provider.metadata().await.ok();
    let end = metadata.and_then(|metadata| metadata.end_session_endpoint.clone());
    let url = end.and_then(|end| logout_url(&end, &browsers, &session));
    let body = serde_json::json!({"logout_url": url.as_ref().map(Url::as_str)});
    let mut response = match &url {
        Some(url) if !wants_json(headers) => redirect(StatusCode::SEE_OTHER, url.as_str()),
        _ => json(StatusCode::OK, body.to_string().into_bytes()),
    };
    set_cookie(&mut response, &browsers, SESSION_COOKIE, "", 0);
    Ok(no_store(response))
}

/// `GET /auth/me`: who asks, by session or by token.
pub(super) async fn me(request: Request) -> Outcome {
    request.no_query()?;
    let headers = &request.parts.headers;
    let session = match (&request.core.browsers, headers.contains_key(AUTHORIZATION)) {
        (Some(browsers), false) => browsers.session(headers).await,
        _ => None,
    };
    let body = match session {
        Some((secret, session)) => {
            let mut body = shown(&session.principal, "session");
            body["name"] = session.profile.name.into();
            body["roles"] = session.profile.roles.into();
            body["expires_at"] = rfc3339(session.until_s).into();
            body["csrf_token"] = secret.csrf().into();
            body
        }
        None => shown(&by_token(&request).await?, "bearer"),
    };
    Ok(no_store(json(StatusCode::OK, body.to_string().into_bytes())))
}

/// Has the audit log keep a login or a logout before it takes place.
async fn keep(
    request: &Request,
    principal: &Principal,
    (what, reason): (&'static str, &'static str),
) -> Result<(), Problem> {
    let asking = Asking::of(&request.parts, request.peer);
    request.core.gate.keep(asking, principal, "session", (what, reason, "")).await
}

/// The principal of a request's token.
async fn by_token(request: &Request) -> Result<Principal, Problem> {
    let (core, head) = (&request.core, &request.parts);
    let asking = Asking::of(head, request.peer);
    core.gate.proof(&core.stats, asking, || bearer(&head.headers))?;
    let proven = identify(core, &head.headers).await;
    proven.map_err(|why| core.gate.refused(&core.stats, asking, "bearer", why))
}

/// An instant in s since 1970 as text.
fn rfc3339(at_s: u64) -> String {
    let mut quoted = Vec::with_capacity(26);
    time::push_time(&mut quoted, Millis(at_s.saturating_mul(1_000)));
    String::from_utf8_lossy(&quoted).trim_matches('"').to_owned()
}

fn shown(principal: &Principal, method: &str) -> serde_json::Value {
    let held = PERMISSIONS.into_iter().filter(|held| principal.may(*held));
    let permissions: Vec<&str> = held.map(Permission::name).collect();
    serde_json::json!({
        "subject": &*principal.subject,
        "tenant": &*principal.tenant,
        "permissions": permissions,
        "method": method,
    })
}

fn parts(core: &Core) -> Result<(Rc<Provider>, Arc<Browsers>), Problem> {
    let none = || Problem::new(Code::NotFound, "no browser login: set oauth.issuer and a client");
    let provider = core.provider.clone().ok_or_else(none)?;
    Ok((provider, core.browsers.clone().ok_or_else(none)?))
}

fn begin(browsers: &Browsers, return_to: &str) -> Result<Begun, Problem> {
    // All at once: what the kernel refuses must not leave half a login.
    let mut parts = Vec::with_capacity(4);
    for _ in 0..4 {
        parts.push(random()?);
    }
    let random = || parts.pop().expect("a login takes four");
    Ok(browsers.logins().begin(return_to, time::wall().0 / 1_000, random))
}

fn authorization_url(endpoint: &str, browsers: &Browsers, begun: &Begun) -> Result<Url, Problem> {
    let mut url = Url::parse(endpoint).map_err(|why| Problem::internal(&why.to_string()))?;
    let config = &browsers.config;
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", &config.client_id)
        .append_pair("redirect_uri", &config.redirect_uri)
        .append_pair("scope", &config.scopes)
        .append_pair("state", &begun.state.text())
        .append_pair("nonce", &begun.nonce)
        .append_pair("code_challenge", &begun.challenge)
        .append_pair("code_challenge_method", "S256");
    Ok(url)
}

/// Where the issuer ends its own session (OpenID Connect RP-Initiated Logout 1.0).
fn logout_url(endpoint: &str, browsers: &Browsers, session: &Session) -> Option<Url> {
    let mut url = Url::parse(endpoint).ok()?;
    url.query_pairs_mut()
        .append_pair("id_token_hint", &session.id_token)
        .append_pair("client_id", &browsers.config.client_id);
    if let Some(back) = &browsers.config.post_logout_redirect_uri {
        url.query_pairs_mut().append_pair("post_logout_redirect_uri", back);
    }
    Some(url)
}

fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.contains("application/json") && !accept.contains("text/html")
}

fn redirect(status: StatusCode, to: &str) -> Response {
    let mut response = Response::new(OutBody::full(Vec::new()));
    *response.status_mut() = status;
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    no_store(response)
}

fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn set_cookie(
    response: &mut Response,
    browsers: &Browsers,
    name: &str,
    value: &str,
    max_age_s: u64,
) {
    let path = if name == SESSION_COOKIE { "/" } else { "/auth" };
    let cookie = Cookie { name, value, path, max_age_s, is_secure: browsers.is_secure() };
    if let Ok(header) = HeaderValue::from_str(&cookie.header()) {
        response.headers_mut().append(SET_COOKIE, header);
    }
}

fn mismatch(request: &Request, why: Mismatch) -> Problem {
    tracing::warn!(target: "auth", %why, from = %request.peer, "a login came back wrong");
    let (core, stats) = (&request.core, &request.core.stats);
    stats.security.violated(Violation::ForgedLogin);
    core.gate.failed(stats, request.peer);
    Problem::new(Code::BadRequest, format!("{why}: begin at /auth/login again"))
}

/// What an issuer's error comes to for who stands before the browser (RFC 6749, section 4.1.2.1).
fn told(error: &str) -> Problem {
    let detail = match error {
        "access_denied" => "the issuer refused the login, or it was cancelled there".to_owned(),
        "temporarily_unavailable" | "server_error" => {
            let detail = format!("the issuer cannot log anybody in now: {error}; try again");
            return Problem::new(Code::IssuerUnavailable, detail);
        }
        "invalid_request"
        | "unauthorized_client"
        | "unsupported_response_type"
        | "invalid_scope" => {
            format!("the issuer does not take nO's client as it is configured there: {error}")
        }
        _ => format!("the issuer refused the login: {error}"),
    };
    Problem::new(Code::Unauthenticated, detail)
}

fn not_accepted(why: Denied) -> Problem {
    tracing::info!(target: "auth", %why, "what the issuer says of a login was refused");
    match why {
        Denied::IssuerUnavailable => {
            Problem::new(Code::IssuerUnavailable, "the issuer's keys cannot be fetched; try again")
        }
        _ => Problem::new(Code::Unauthenticated, "the issuer's token was not accepted"),
    }
}

/// Why a code gave no tokens. A code that is spent or made up is the browser's affair; anything
/// else that the issuer refuses is for whoever configured our client.
fn not_exchanged(why: &ProviderError) -> Problem {
    match why {
        ProviderError::Refused { code, .. } if code == "invalid_grant" => {
            tracing::info!(target: "auth", %why, "a login's code was refused");
            let detail = "the issuer does not take the code: begin at /auth/login again";
            Problem::new(Code::Unauthenticated, detail)
        }
        ProviderError::Refused { code, .. } => {
            tracing::warn!(
                target: "auth", %why,
                "the issuer refuses our client: see oauth.clientId and oauth.clientSecretFile"
            );
            let detail =
                format!("the issuer does not take nO's client: {code}; the log of nO says more");
            Problem::new(Code::IssuerUnavailable, detail)
        }
        _ => unavailable(why),
    }
}

fn unavailable(why: &ProviderError) -> Problem {
    tracing::warn!(target: "auth", %why, "the issuer did not do its part");
    Problem::new(Code::IssuerUnavailable, "the issuer does not answer as it should; try again")
}
