//! The AWS Region, as the settings of the Secrets Manager client and of the Lambda client name it.

#[cfg(any(feature = "secrets-manager", feature = "invoke"))]
use crate::error::InvalidSetting;

/// Checks the name of a Region. `purpose`: what is in that Region, for the message.
#[cfg(any(feature = "secrets-manager", feature = "invoke"))]
pub(crate) fn check(found: &str, purpose: &str) -> Result<(), InvalidSetting> {
    const EXAMPLE: &str = "such as \"eu-central-1\"";
    if found.is_empty() {
        return Err(InvalidSetting::new(format!("AWS_REGION is not set; it is the Region of {purpose}, {EXAMPLE}")));
    }
    if !is_name(found) {
        return Err(InvalidSetting::found("AWS_REGION", found, &format!("the name of a Region, {EXAMPLE}")));
    }
    Ok(())
}

/// Whether this can be the name of a Region.
#[cfg(any(feature = "secrets-manager", feature = "invoke"))]
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The Region in an ARN: `arn:PARTITION:SERVICE:REGION:…`.
#[cfg(any(feature = "refresher", feature = "invoke"))]
pub(crate) fn of_arn(text: &str) -> Option<&str> {
    text.strip_prefix("arn:")?.split(':').nth(2)
}

/// The domain of AWS's services in a Region ("AWS service endpoints" in the AWS General Reference).
#[cfg(any(feature = "refresher", feature = "invoke"))]
pub(crate) fn domain(region: &str) -> &'static str {
    match partition(region) {
        "aws-cn" => "amazonaws.com.cn",
        "aws-eusc" => "amazonaws.eu",
        "aws-iso" => "c2s.ic.gov",
        "aws-iso-b" => "sc2s.sgov.gov",
        _ => "amazonaws.com",
    }
}

/// The partition of a Region, as ARNs name it ("Amazon Resource Names" in the AWS General Reference).
#[cfg(any(feature = "secrets-manager", feature = "extension", feature = "invoke"))]
pub(crate) fn partition(region: &str) -> &'static str {
    match region.split('-').next() {
        Some("cn") => "aws-cn",
        Some("us") if region.starts_with("us-gov-") => "aws-us-gov",
        Some("us") if region.starts_with("us-iso-") => "aws-iso",
        Some("us") if region.starts_with("us-isob-") => "aws-iso-b",
        Some("eusc") => "aws-eusc",
        _ => "aws",
    }
}

#[cfg(all(test, any(feature = "secrets-manager", feature = "extension")))]
mod tests {
    use super::*;

    #[test]
    fn the_partition_follows_from_the_region() {
        for (region, expected) in [
            ("eu-central-1", "aws"),
            ("us-east-1", "aws"),
            ("us-gov-west-1", "aws-us-gov"),
            ("cn-north-1", "aws-cn"),
            ("us-iso-east-1", "aws-iso"),
            ("us-isob-east-1", "aws-iso-b"),
            ("eusc-de-east-1", "aws-eusc"),
            ("", "aws"),
        ] {
            assert_eq!(partition(region), expected, "{region}");
        }
    }
}
