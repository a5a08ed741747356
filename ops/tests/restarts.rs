//! Rolling restarts beside a client that sends again what was lost: nothing is missing in the end,
//! and nothing is there twice. `make load PROFILE=restarts` does it 200 times at half the peak.

use no_loadtest::Silent;
use no_loadtest::restarts::{RestartsPlan, table};
use no_loadtest::serve::Serve;
use std::time::Duration;

#[test]
fn restarts_under_load_lose_nothing_and_double_nothing() {
    let plan = RestartsPlan {
        restarts: 4,
        every: Duration::from_millis(300),
        rate: Some(1_000.0),
        connections: 8,
        ..RestartsPlan::new(Serve::new(env!("CARGO_BIN_EXE_no")))
    };
    let report = plan.run(&mut Silent).expect("a report");
    assert!(report.is_met(), "{}", table(&report));
    assert_eq!((report.restarts, report.listed), (4, 1_500));
}
