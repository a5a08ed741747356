//! The API through the router, without a socket.

mod agents;
mod bad_input;
mod events;
mod gate;
mod matrix;
mod tasks;
mod worker;

use crate::testing::{Answered, World};

/// The id of the task in a response.
fn id_of(answered: &Answered) -> String {
    answered.json()["id"].as_str().unwrap_or_else(|| panic!("{}", answered.text)).to_owned()
}

/// Submits a task and gives its id.
async fn submit(world: &World, body: &str) -> String {
    let answered = world.call("POST", "/v1/tasks", body).await;
    id_of(&answered)
}
