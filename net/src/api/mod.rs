//! The HTTP API: one table of routes, and a file for each noun that parses, asks and renders.

mod agents;
mod batch;
mod control;
mod dead_letters;
mod events;
mod list;
mod login;
mod steps;
mod tasks;
mod worker;

use crate::route::{Access, Handler, Router, handler};
use hyper::Method;
use no_auth::Permission::{
    self, AgentsRead, AgentsWrite, TasksControl, TasksRead, TasksSubmit, WorkerLease,
};

/// Mounts the whole API.
pub(crate) fn mount(router: &mut Router) {
    let table: [(Method, &str, Permission, Handler); 21] = [
        (Method::POST, "/v1/tasks", TasksSubmit, handler(tasks::submit)),
        (Method::GET, "/v1/tasks", TasksRead, handler(list::list)),
        (Method::POST, "/v1/tasks/batch", TasksSubmit, handler(batch::submit)),
        (Method::GET, "/v1/tasks/{id}", TasksRead, handler(tasks::get)),
        (Method::GET, "/v1/tasks/{id}/steps", TasksRead, handler(steps::list)),
        (Method::GET, "/v1/tasks/{id}/events", TasksRead, handler(events::stream)),
        (Method::POST, "/v1/tasks/{id}/cancel", TasksControl, handler(control::cancel)),
        (Method::POST, "/v1/tasks/{id}/retry", TasksControl, handler(control::retry)),
        (Method::POST, "/v1/tasks/{id}/resolve", TasksControl, handler(control::resolve)),
        (Method::POST, "/v1/dead-letters/redrive", TasksControl, handler(dead_letters::redrive)),
        (Method::GET, "/v1/agents", AgentsRead, handler(agents::list)),
        (Method::GET, "/v1/agents/{name}", AgentsRead, handler(agents::get)),
        (Method::PUT, "/v1/agents/{name}", AgentsWrite, handler(agents::put)),
        (Method::DELETE, "/v1/agents/{name}", AgentsWrite, handler(agents::delete)),
        (Method::POST, "/v1/agents/{name}/pause", AgentsWrite, handler(agents::pause)),
        (Method::POST, "/v1/agents/{name}/resume", AgentsWrite, handler(agents::resume)),
        (Method::POST, "/v1/worker/lease", WorkerLease, handler(worker::lease)),
        (Method::POST, "/v1/worker/heartbeat", WorkerLease, handler(worker::heartbeat)),
        (Method::POST, "/v1/worker/step", WorkerLease, handler(worker::step)),
        (Method::POST, "/v1/worker/complete", WorkerLease, handler(worker::complete)),
        (Method::POST, "/v1/worker/fail", WorkerLease, handler(worker::fail)),
    ];
    for (method, pattern, permission, handler) in table {
        router.mount(method, pattern, Access::Needs(permission), handler);
    }
    // What asks for a proof of identity cannot ask for a permission.
    let open: [(Method, &str, Handler); 5] = [
        (Method::GET, "/auth/login", handler(login::login)),
        (Method::POST, "/auth/login", handler(login::login)),
        (Method::GET, "/auth/callback", handler(login::callback)),
        (Method::POST, "/auth/logout", handler(login::logout)),
        (Method::GET, "/auth/me", handler(login::me)),
    ];
    for (method, pattern, handler) in open {
        router.mount(method, pattern, Access::Open, handler);
    }
}

#[cfg(test)]
mod tests;
