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

pub(crate) use batch::{lines, push_problem};

use crate::route::{Access, Handler, Router, handler};
use hyper::Method;
use no_auth::Permission::{
    AgentsRead, AgentsWrite, TasksControl, TasksRead, TasksSubmit, WorkerLease,
};

/// Mounts the whole API.
pub(crate) fn mount(router: &mut Router) {
    let needs = Access::Needs;
    let controls = Access::Controls;
    let table: [(Method, &str, Access, Handler); 22] = [
        (Method::POST, "/v1/tasks", needs(TasksSubmit), handler(tasks::submit)),
        (Method::GET, "/v1/tasks", needs(TasksRead), handler(list::list)),
        (Method::POST, "/v1/tasks/batch", needs(TasksSubmit), handler(batch::submit)),
        (Method::GET, "/v1/tasks/{id}", needs(TasksRead), handler(tasks::get)),
        (Method::GET, "/v1/tasks/{id}/steps", needs(TasksRead), handler(steps::list)),
        (Method::GET, "/v1/tasks/{id}/events", needs(TasksRead), handler(events::stream)),
        (
            Method::POST,
            "/v1/tasks/{id}/cancel",
            controls(TasksControl, "task.cancel"),
            handler(control::cancel),
        ),
        (
            Method::POST,
            "/v1/tasks/{id}/retry",
            controls(TasksControl, "task.retry"),
            handler(control::retry),
        ),
        (
            Method::POST,
            "/v1/tasks/{id}/resolve",
            controls(TasksControl, "task.resolve"),
            handler(control::resolve),
        ),
        (
            Method::POST,
            "/v1/tasks/{id}/feedback",
            controls(TasksControl, "task.feedback"),
            handler(control::feedback),
        ),
        (
            Method::POST,
            "/v1/dead-letters/redrive",
            controls(TasksControl, "dead_letters.redrive"),
            handler(dead_letters::redrive),
        ),
        (Method::GET, "/v1/agents", needs(AgentsRead), handler(agents::list)),
        (Method::GET, "/v1/agents/{name}", needs(AgentsRead), handler(agents::get)),
        (
            Method::PUT,
            "/v1/agents/{name}",
            controls(AgentsWrite, "agent.put"),
            handler(agents::put),
        ),
        (
            Method::DELETE,
            "/v1/agents/{name}",
            controls(AgentsWrite, "agent.delete"),
            handler(agents::delete),
        ),
        (
            Method::POST,
            "/v1/agents/{name}/pause",
            controls(AgentsWrite, "agent.pause"),
            handler(agents::pause),
        ),
        (
            Method::POST,
            "/v1/agents/{name}/resume",
            controls(AgentsWrite, "agent.resume"),
            handler(agents::resume),
        ),
        (Method::POST, "/v1/worker/lease", needs(WorkerLease), handler(worker::lease)),
        (Method::POST, "/v1/worker/heartbeat", needs(WorkerLease), handler(worker::heartbeat)),
        (Method::POST, "/v1/worker/step", needs(WorkerLease), handler(worker::step)),
        (Method::POST, "/v1/worker/complete", needs(WorkerLease), handler(worker::complete)),
        (Method::POST, "/v1/worker/fail", needs(WorkerLease), handler(worker::fail)),
    ];
    for (method, pattern, access, handler) in table {
        router.mount(method, pattern, access, handler);
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
