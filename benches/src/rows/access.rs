//! What access control costs: single submissions with it and without, by turns.

use crate::bench::{Bench, CLIENTS, median};
use crate::error::Result;
use crate::figure::{Figure, Goal, short};
use crate::server::Server;
use no_loadtest::Plan;
use no_loadtest::plan::{Pace, Tasks};
use serde_json::json;

/// How often each has its turn.
const ROUNDS: u32 = 3;

pub(super) fn access(bench: &mut Bench) -> Result<Vec<Figure>> {
    let on = bench.server()?;
    let config = json!({"security": {"rbac": {"enabled": false}}});
    let off = Server::start(&bench.binary, &bench.place, &config)?;
    let plan = |server: &Server| {
        let plan = bench.plan(server, Tasks::default());
        let pace = Pace::Max { duration: bench.load() / ROUNDS };
        Plan { pace, warmup: plan.warmup / ROUNDS, connections: CLIENTS, ..plan }
    };
    let (with, without) = (plan(&on), Plan { token: None, ..plan(&off) });
    let (mut rates, mut shares) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let open = bench.run(&without)?.requests.accepted_per_second;
        let checked = bench.run(&with)?.requests.accepted_per_second;
        rates.push(checked);
        shares.push(100.0 * checked / open);
    }
    let turns: Vec<String> = shares.iter().map(|share| format!("{} %", short(*share))).collect();
    let what = "token and role checked, of the rate without";
    let note = format!("{}/s; by turns: {}", short(median(rates)), turns.join(", "));
    let share = median(shares);
    Ok(vec![Figure::new("access", what, share, "%").goal(Goal::at_least(85.0)).note(note)])
}
