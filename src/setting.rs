//! A setting that cannot be used, as an error: which, what was found, and what is allowed. Of all settings it knows the one
//! that two clients of AWS share.

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

/// Whether a Region can be one; `of_what` is in it.
#[cfg(any(feature = "secrets-manager", feature = "invoke"))]
pub(crate) fn check_region(found: &str, of_what: &str) -> Result<(), InvalidSetting> {
    const EXAMPLE: &str = "such as \"eu-central-1\"";
    if found.is_empty() {
        return Err(InvalidSetting::new(format!("AWS_REGION is not set; it is the Region of {of_what}, {EXAMPLE}")));
    }
    if !found.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(InvalidSetting::found("AWS_REGION", found, &format!("the name of a Region, {EXAMPLE}")));
    }
    Ok(())
}

impl fmt::Display for InvalidSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for InvalidSetting {}
