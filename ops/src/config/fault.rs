//! What is wrong with a configuration, said so that its author can mend it.

use std::fmt;

/// One fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Where it was read: `file:line`, a variable or an option.
    pub place: String,
    /// The key, with dots; empty when the fault is not one key's.
    pub path: String,
    /// What is wrong.
    pub problem: String,
    /// What to do, when we can guess it.
    pub hint: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.problem)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// The nearest of the names, when it is near enough to be what was meant.
pub fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let near = |known: &'n str| {
        let lower = strsim::osa_distance(&name.to_lowercase(), &known.to_lowercase());
        (lower, known)
    };
    let limit = 1 + name.len() / 4;
    names.map(near).filter(|(distance, _)| *distance <= limit).min().map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        let names = || ["port", "host", "drainTimeout"].into_iter();
        assert_eq!(nearest("prot", names()), Some("port"));
        assert_eq!(nearest("drain_timeout", names()), Some("drainTimeout"));
        assert_eq!(nearest("colour", names()), None);
    }
}
