//! The table of routes, and what happens to a request before and after its handler: look-up,
//! method, token, permission; then the count, the latency and the problem body.

use crate::authorise::{NotAllowed, authorise, authorise_asking, bearer, method_of};
use crate::body::{InBody, OutBody};
use crate::cluster::place::{self, Inner, Placed};
use crate::core::Core;
use crate::cost::Layer;
use crate::extract::{Request, caller_of};
use crate::gate::{Asking, Limited, Standing};
use crate::problem::{Code, Problem};
use crate::stats::RouteStats;
use crate::tls::Proven;
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use no_auth::{Permission, Principal};
use no_engine::trace::Caller;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A refused token is answered this long after it came: a forged signature takes some 50 µs to
/// find and a wrong form nothing, and the sender shall not see which it was.
const REFUSAL: Duration = Duration::from_millis(1);

/// A response of ours.
pub type Response = hyper::Response<OutBody>;
/// What a handler gives.
pub type Outcome = Result<Response, Problem>;
/// A handler under way.
pub type LocalFuture = Pin<Box<dyn Future<Output = Outcome>>>;
/// A handler.
pub type Handler = Rc<dyn Fn(Request) -> LocalFuture>;

/// Who may call a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Anybody.
    Open,
    /// A principal with this permission.
    Needs(Permission),
    /// A principal with this permission, for a control call: it is made only once the audit log
    /// has kept it, under this verb.
    Controls(Permission, &'static str),
}

impl Access {
    /// The permission that is needed.
    #[must_use]
    pub fn permission(self) -> Option<Permission> {
        match self {
            Access::Open => None,
            Access::Needs(permission) | Access::Controls(permission, _) => Some(permission),
        }
    }
}

struct Route {
    method: Method,
    access: Access,
    limited: Limited,
    placed: Placed,
    handler: Handler,
    stats: Arc<RouteStats>,
}

#[derive(Default)]
struct Path {
    routes: Vec<Route>,
}

/// All routes of a net core.
pub struct Router {
    core: Rc<Core>,
    paths: matchit::Router<usize>,
    by_path: Vec<Path>,
    patterns: Vec<String>,
    certified: Option<&'static str>,
}

/// Makes a handler of an async function.
pub fn handler<F, Fut>(function: F) -> Handler
where
    F: Fn(Request) -> Fut + 'static,
    Fut: Future<Output = Outcome> + 'static,
{
    Rc::new(move |request| Box::pin(function(request)))
}

impl Router {
    /// A table without routes.
    #[must_use]
    pub fn new(core: Rc<Core>) -> Router {
        Router {
            core,
            paths: matchit::Router::new(),
            by_path: Vec::new(),
            patterns: Vec::new(),
            certified: None,
        }
    }

    /// Adds a route. `pattern` is matchit's: `/v1/tasks/{id}`, `/console/{*rest}`.
    ///
    /// Panics when the route stands already or the pattern is not one: the table is written by us.
    pub fn mount(&mut self, method: Method, pattern: &str, access: Access, handler: Handler) {
        let index = match self.patterns.iter().position(|known| known == pattern) {
            Some(index) => index,
            None => {
                let index = self.by_path.len();
                let inserted = self.paths.insert(pattern, index);
                assert!(inserted.is_ok(), "{pattern} is no pattern, or collides with another");
                self.by_path.push(Path::default());
                self.patterns.push(pattern.to_owned());
                index
            }
        };
        let path = &mut self.by_path[index];
        assert!(path.routes.iter().all(|route| route.method != method), "{method} {pattern} twice");
        let stats = self.core.stats.route(method.as_str(), pattern);
        let (limited, placed) = (Limited::of_pattern(pattern), Placed::of(&method, pattern));
        path.routes.push(Route { method, access, limited, placed, handler, stats });
    }

    /// Method, pattern and access of all routes, in the order in which they were mounted by path.
    pub fn routes(&self) -> impl Iterator<Item = (&Method, &str, Access)> {
        let paths = self.by_path.iter().zip(&self.patterns);
        paths.flat_map(|(path, pattern)| {
            path.routes.iter().map(|route| (&route.method, pattern.as_str(), route.access))
        })
    }

    /// From now on, routes below `prefix` need a client certificate beside the token.
    pub fn need_certificate(&mut self, prefix: &'static str) {
        self.certified = Some(prefix);
    }

    /// The core that the handlers work with.
    #[must_use]
    pub fn core(&self) -> &Rc<Core> {
        &self.core
    }

    /// Answers one request of `peer`, the other end of its connection. Never fails: a problem is an
    /// answer.
    pub async fn serve(&self, parts: Parts, body: InBody, peer: IpAddr) -> Response {
        let begun = Instant::now();
        let _in_flight = self.core.stats.begin();
        // Shares its bytes with the request's head: no copy for a path that only a problem shows.
        let uri = parts.uri.clone();
        let (gate, http) = (&self.core.gate, &*self.core.stats);
        let from = gate.client(&parts.headers, peer);
        let mut standing = Standing::default();
        let caller = caller_of(&parts);
        let method = parts.method.clone();
        let (outcome, stats) = match self.find(&parts.method, uri.path()) {
            Ok((route, params)) => {
                let outcome = self.call(route, parts, params, body, from, &mut standing).await;
                (outcome, &route.stats)
            }
            Err(problem) => {
                let passed = gate.address(http, Limited::Always, from, &mut standing);
                (Err(passed.err().unwrap_or(problem)), http.unmatched())
            }
        };
        let mut response = outcome.unwrap_or_else(|problem| {
            gate.saw(http, from, &problem);
            self.core.costs.part(Layer::Render, || problem.response(uri.path()))
        });
        gate.show(&mut response, standing);
        stats.count(response.status().as_u16());
        if response.status() == StatusCode::INTERNAL_SERVER_ERROR {
            let trace_id = caller.map(|caller| format!("{:032x}", trace_of(caller)));
            tracing::error!(target: "http", %method, path = uri.path(), trace_id, "answered 500");
        }
        let trace_id = caller.filter(|caller| caller.is_sampled).map(trace_of);
        // A client that waits for a task chose how long; its wait would hide how fast we are.
        if !uri.query().is_some_and(|query| query.contains("wait_ms=")) {
            stats.took(begun.elapsed(), trace_id);
        }
        response
    }

    /// Answers a request that no route may see.
    pub fn refuse(&self, problem: &Problem, path: &str) -> Response {
        let response = problem.response(path);
        let stats = self.core.stats.unmatched();
        stats.count(response.status().as_u16());
        stats.took(Duration::ZERO, None);
        response
    }

    async fn call(
        &self,
        route: &Route,
        parts: Parts,
        params: Vec<String>,
        body: InBody,
        peer: IpAddr,
        standing: &mut Standing,
    ) -> Outcome {
        log_trace(&parts);
        if let Some(joined) = &self.core.cluster
            && let Some(passed) = joined.passed(&parts)
        {
            return self.call_passed(route, parts, params, body, (peer, passed)).await;
        }
        self.core.gate.address(&self.core.stats, route.limited, peer, standing)?;
        let principal = match route.access.permission() {
            Some(needed) => Some(self.admit(route.limited, &parts, peer, needed, standing).await?),
            None => None,
        };
        if let Some(prefix) = self.certified
            && route.stats.pattern.starts_with(prefix)
            && parts.extensions.get::<Proven>().is_none()
        {
            return Err(Problem::new(Code::Forbidden, "a client certificate is needed here"));
        }
        if let (Access::Controls(needed, verb), Some(principal)) = (route.access, &principal) {
            let on = params.first().map_or("", String::as_str);
            let (method, asking) =
                (method_of(&self.core, &parts.headers), Asking::of(&parts, peer));
            self.core.gate.control(asking, principal, method, (verb, needed, on)).await?;
        }
        let core = Rc::clone(&self.core);
        let request = Request { core, parts, params, principal, body, peer };
        match &self.core.cluster {
            // Boxed, so that a node by itself does not carry the room for it.
            Some(joined) if route.placed != Placed::Anywhere => {
                Box::pin(place::answer(route.placed, joined, request, &route.handler)).await
            }
            _ => (route.handler)(request).await,
        }
    }

    /// Answers what another node has sent on: it let the principal through, limited and kept it.
    async fn call_passed(
        &self,
        route: &Route,
        mut parts: Parts,
        params: Vec<String>,
        body: InBody,
        (peer, passed): (IpAddr, Result<Principal, &'static str>),
    ) -> Outcome {
        let principal = passed.map_err(|why| {
            tracing::warn!(target: "auth", %peer, why, "a node's pass was not accepted");
            self.core.gate.failed(&self.core.stats, peer);
            Problem::new(Code::Unauthenticated, "the pass was not accepted")
        })?;
        if route.access.permission().is_some_and(|needed| !principal.may(needed)) {
            return Err(Problem::new(Code::Forbidden, "the pass is not for this"));
        }
        parts.extensions.insert(Inner::of(&parts));
        let (core, principal) = (Rc::clone(&self.core), Some(principal));
        (route.handler)(Request { core, parts, params, principal, body, peer }).await
    }

    /// Who asks, when they may and do not ask too often.
    async fn admit(
        &self,
        limited: Limited,
        parts: &Parts,
        from: IpAddr,
        needed: Permission,
        standing: &mut Standing,
    ) -> Result<Principal, Problem> {
        let core = &self.core;
        let (gate, stats, asking) = (&core.gate, &*core.stats, Asking::of(parts, from));
        let refused =
            |why: NotAllowed| gate.refused(stats, asking, method_of(core, &parts.headers), why);
        let quick = || {
            if core.verify.is_some() {
                gate.proof(stats, asking, || bearer(&parts.headers))?;
            }
            authorise(core, parts, needed).map_err(refused)
        };
        let has_token = parts.headers.contains_key(AUTHORIZATION);
        let begun = has_token.then(tokio::time::Instant::now);
        let principal = match core.costs.part(Layer::Auth, quick) {
            Ok(Some(principal)) => Ok(principal),
            // Boxed, so that no other request carries the room for it.
            Ok(None) => {
                let asked = Box::pin(authorise_asking(core, parts, needed)).await;
                asked.map_err(refused)
            }
            Err(problem) => Err(problem),
        };
        let principal = match (principal, begun) {
            (Err(problem), Some(begun)) if problem.code == Code::Unauthenticated => {
                tokio::time::sleep_until(begun + REFUSAL).await;
                return Err(problem);
            }
            (principal, _) => principal?,
        };
        stats.security.allowed(needed);
        gate.principal(stats, limited, from, &principal, standing)?;
        Ok(principal)
    }

    fn find(&self, method: &Method, path: &str) -> Result<(&Route, Vec<String>), Problem> {
        let found = self.paths.at(path).map_err(|_| Problem::new(Code::NotFound, ""))?;
        let routes = &self.by_path[*found.value].routes;
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        let Some(route) = routes.iter().find(|route| route.method == wanted) else {
            let names: Vec<_> = routes.iter().map(|route| route.method.as_str()).collect();
            let mut problem = Problem::new(Code::MethodNotAllowed, "");
            problem.allow = Some(names.join(", ").into());
            return Err(problem);
        };
        let params = found.params.iter().map(|(_, value)| crate::extract::percent_decoded(value));
        let params = params.collect::<Option<Vec<String>>>();
        Ok((route, params.ok_or_else(|| Problem::new(Code::NotFound, ""))?))
    }
}

/// The id of a caller's trace.
fn trace_of(caller: Caller) -> u128 {
    u128::from_be_bytes(caller.trace)
}

/// Logs a W3C trace context, where somebody listens at that level.
fn log_trace(parts: &Parts) {
    if !tracing::enabled!(target: "http", tracing::Level::DEBUG) {
        return;
    }
    let (method, path) = (parts.method.as_str(), parts.uri.path());
    let Some(caller) = caller_of(parts) else {
        return tracing::debug!(target: "http", method, path, "request");
    };
    let trace_id = format!("{:032x}", trace_of(caller));
    let parent_id = format!("{:016x}", caller.span);
    tracing::debug!(target: "http", method, path, trace_id, parent_id, "request");
}
