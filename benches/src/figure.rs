//! A figure: what was measured, what it should reach, and what stood beside it in the same run.

use serde::{Deserialize, Serialize};

/// Which side of its limit a figure should be on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// The more the better.
    AtLeast,
    /// The less the better.
    AtMost,
}

/// What a figure should reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Goal {
    /// Which side.
    pub relation: Relation,
    /// In the figure's unit.
    pub limit: f64,
}

/// What stood beside it in the same run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// What it is, for people.
    pub what: String,
    /// In the figure's unit.
    pub value: f64,
}

/// One measured number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The row of the table that it belongs to, as in `ROWS=`.
    pub row: String,
    /// Its name; stays the same from run to run.
    pub name: String,
    /// What it is, for people.
    pub what: String,
    /// The number.
    pub value: f64,
    /// Its unit: `/s`, `ms`, `B`, `MiB`, `s`, `%`, `×`, or nothing.
    pub unit: String,
    /// What it should reach; absent where nothing is asked.
    pub goal: Option<Goal>,
    /// What stood beside it; absent where nothing does.
    pub baseline: Option<Baseline>,
    /// What else one must know to read it.
    pub note: String,
}

impl Goal {
    /// So much or more.
    #[must_use]
    pub fn at_least(limit: f64) -> Goal {
        Goal { relation: Relation::AtLeast, limit }
    }

    /// So much or less.
    #[must_use]
    pub fn at_most(limit: f64) -> Goal {
        Goal { relation: Relation::AtMost, limit }
    }
}

impl Figure {
    /// A figure without goal, baseline and note; the row is filled in by whoever runs it.
    #[must_use]
    pub fn new(name: &str, what: &str, value: f64, unit: &str) -> Figure {
        let (name, what, unit) = (name.to_owned(), what.to_owned(), unit.to_owned());
        let (row, note) = (String::new(), String::new());
        Figure { row, name, what, value, unit, goal: None, baseline: None, note }
    }

    /// With a goal.
    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Figure {
        self.goal = Some(goal);
        self
    }

    /// With what stood beside it.
    #[must_use]
    pub fn beside(mut self, what: &str, value: f64) -> Figure {
        self.baseline = Some(Baseline { what: what.to_owned(), value });
        self
    }

    /// With a note.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Figure {
        self.note = note.into();
        self
    }

    /// Whether the goal is reached; `None` where there is none.
    #[must_use]
    pub fn is_reached(&self) -> Option<bool> {
        let goal = self.goal?;
        Some(match goal.relation {
            Relation::AtLeast => goal.limit <= self.value,
            Relation::AtMost => self.value <= goal.limit,
        })
    }

    /// Measured ÷ goal, turned round where less is better: 1 is just reached, 2 is twice as good.
    #[must_use]
    pub fn reach(&self) -> Option<f64> {
        let goal = self.goal?;
        let (above, below) = match goal.relation {
            Relation::AtLeast => (self.value, goal.limit),
            Relation::AtMost => (goal.limit, self.value),
        };
        Some(match (0.0 < above, 0.0 < below) {
            (true, true) => above / below,
            // None where none was allowed is reached, as far as it goes.
            (false, false) => 1.0,
            (true, false) => f64::INFINITY,
            (false, true) => 0.0,
        })
    }

    /// The figure ÷ what stood beside it.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        let baseline = self.baseline.as_ref()?.value;
        (0.0 < baseline).then(|| self.value / baseline)
    }
}

/// A number as people read it: three digits that matter, thousands apart.
#[must_use]
pub fn short(number: f64) -> String {
    match number.abs() {
        size if size.is_infinite() => "∞".to_owned(),
        size if 100.0 <= size => thousands(number.round()),
        size if 10.0 <= size => format!("{number:.1}"),
        size if 1.0 <= size => format!("{number:.2}"),
        size if 0.0 < size => format!("{number:.3}"),
        _ => "0".to_owned(),
    }
}

fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", &*digits), |rest| ("-", rest));
    let mut out = sign.to_owned();
    for (i, digit) in digits.chars().enumerate() {
        if 0 < i && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number with its unit.
#[must_use]
pub fn with_unit(number: f64, unit: &str) -> String {
    let gap = if matches!(unit, "" | "/s") { "" } else { " " };
    format!("{}{gap}{unit}", short(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_have_two_sides_and_reach_is_the_same_way_up_for_both() {
        let check = |value: f64, goal: Goal, is_reached: bool, reach: f64| {
            let figure = Figure::new("x", "x", value, "/s").goal(goal);
            assert_eq!(figure.is_reached(), Some(is_reached));
            assert_eq!(figure.reach(), Some(reach));
        };
        check(80.0, Goal::at_least(40.0), true, 2.0);
        check(20.0, Goal::at_least(40.0), false, 0.5);
        check(2.0, Goal::at_most(1.0), false, 0.5);
        check(0.0, Goal::at_most(0.0), true, 1.0);
        check(3.0, Goal::at_most(0.0), false, 0.0);
        check(0.0, Goal::at_most(1.0), true, f64::INFINITY);
        assert_eq!(Figure::new("x", "x", 1.0, "").reach(), None);
        let beside = Figure::new("x", "x", 30.0, "/s").beside("bare", 120.0);
        assert_eq!(beside.ratio(), Some(0.25));
    }

    #[test]
    fn numbers_are_short() {
        let shorts = [0.0, 0.1234, 1.234, 12.34, 123.4, 12_345.6, -1_234.0];
        let shorts = shorts.map(short);
        assert_eq!(shorts, ["0", "0.123", "1.23", "12.3", "123", "12,346", "-1,234"]);
        assert_eq!(with_unit(40_000.0, "/s"), "40,000/s");
        assert_eq!(with_unit(1.5, "ms"), "1.50 ms");
    }
}
