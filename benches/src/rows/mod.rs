//! The rows of DESIGN §12, each a function from a run to its figures.

mod access;
mod clients;
mod idle;
mod latency;
mod link;
mod overload;
mod parked;
mod slow;
mod soak;
mod steps;
mod throughput;

use crate::bench::Bench;
use crate::error::{Error, Result};
use crate::figure::Figure;

/// A row of the table.
#[derive(Clone, Copy)]
pub struct Row {
    /// Its name, as in `ROWS=`.
    pub name: &'static str,
    /// What it measures.
    pub about: &'static str,
    run: fn(&mut Bench) -> Result<Vec<Figure>>,
}

/// All rows, in the order of the table.
pub const ROWS: &[Row] = &[
    Row { name: "single", about: "single submissions", run: throughput::single },
    Row { name: "batched", about: "submissions by 100", run: throughput::batched },
    Row { name: "share", about: "share of bare hyper", run: throughput::share },
    Row { name: "latency", about: "submit to success at 1,000/s", run: latency::latency },
    Row { name: "clients", about: "500 clients at 80 % of the peak", run: clients::clients },
    Row { name: "three_steps", about: "three journaled steps a task", run: steps::three_steps },
    Row { name: "long_loop", about: "step 10,000 ÷ step 10", run: steps::long_loop },
    Row { name: "parked", about: "a million parked tasks", run: parked::parked },
    Row { name: "restart", about: "start with those after kill -9", run: parked::restart },
    Row { name: "idle", about: "CPU and memory at rest", run: idle::idle },
    Row { name: "overload", about: "2, 5 and 10 times the peak of echo", run: overload::echo },
    Row { name: "loops", about: "the same for loops of model calls", run: overload::loops },
    Row { name: "access", about: "what access control costs", run: access::access },
    Row { name: "slow", about: "others' latency beside slow clients", run: slow::slow },
    Row { name: "live", about: "GET /health/live", run: throughput::live },
    Row { name: "soak", about: "half the peak for ten minutes", run: soak::soak },
    Row { name: "link", about: "the ring between two cores", run: link::link },
];

/// The rows of these names; all when there are none.
///
/// # Errors
/// [`Error::Usage`] for a name that is none.
pub fn chosen(names: &[String]) -> Result<Vec<Row>> {
    if names.is_empty() {
        return Ok(ROWS.to_vec());
    }
    let find = |name: &String| {
        ROWS.iter().find(|row| row.name == name).copied().ok_or_else(|| {
            let known: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
            Error::Usage(format!("there is no row {name}; there are {}", known.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

impl Row {
    /// Measures it.
    ///
    /// # Errors
    /// When something fails; a goal that is missed is not an error.
    pub fn run(&self, bench: &mut Bench) -> Result<Vec<Figure>> {
        let mut figures = (self.run)(bench)?;
        figures.iter_mut().for_each(|figure| self.name.clone_into(&mut figure.row));
        Ok(figures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_their_names() {
        assert_eq!(chosen(&[]).expect("all").len(), ROWS.len());
        let names =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let rows = chosen(&names(&["idle", "single"])).expect("two rows");
        assert_eq!(rows.iter().map(|row| row.name).collect::<Vec<_>>(), ["idle", "single"]);
        let error = chosen(&names(&["x"])).err().expect("no such row").to_string();
        assert!(error.contains("no row x") && error.contains("three_steps"), "{error}");
    }
}
