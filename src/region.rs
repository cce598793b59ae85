//! The AWS Region, as the settings of the Secrets Manager client and of the Lambda client name it.

use crate::error::InvalidSetting;

/// Checks the name of a Region. `purpose`: what is in that Region, for the message.
pub(crate) fn check(found: &str, purpose: &str) -> Result<(), InvalidSetting> {
    const EXAMPLE: &str = "such as \"eu-central-1\"";
    if found.is_empty() {
        return Err(InvalidSetting::new(format!("AWS_REGION is not set; it is the Region of {purpose}, {EXAMPLE}")));
    }
    if !found.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(InvalidSetting::found("AWS_REGION", found, &format!("the name of a Region, {EXAMPLE}")));
    }
    Ok(())
}
