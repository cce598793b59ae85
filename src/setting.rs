//! A setting that cannot be used, as an error: which, what was found, and what is allowed. Knows no setting by name.

use std::fmt;

/// A setting that is wrong or missing. Its text says which, what was found, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSetting {
    problem: String,
}

impl InvalidSetting {
    /// A problem in words, which show no secret.
    #[must_use]
    pub fn new(problem: impl Into<String>) -> Self {
        Self { problem: problem.into() }
    }

    /// A setting that holds something else than it may.
    #[must_use]
    pub fn found(name: &str, found: &str, allowed: &str) -> Self {
        let found: String = found.chars().filter(|c| !c.is_control()).take(64).collect();
        Self::new(format!("{name} is \"{found}\"; allowed is {allowed}"))
    }
}

impl fmt::Display for InvalidSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for InvalidSetting {}
