//! Any bytes as a version with the label `OAUTH_CLAIM`: a record of these tokens, which is written back as it was read, or not a
//! record.

use chrono::{Datelike, SubsecRound};
use token_refresher::{
    oauth::grant::Grant,
    protocol::{
        ids::TokenKey,
        record::{Record, RecordRead},
    },
    secret::Secret,
    token_secret::{Tokens, client_settings::ClientSettings},
};

/// Stands for the key in the seeds.
const KEY: &str = "KEY-OF-THESE-TOKENS";

pub fn target(input: &[u8]) {
    let tokens = Tokens { grant: Grant::RefreshToken("r".into()), access_token: None, refreshed_at: None };
    let [ours, others] = ["ours", "others"].map(|arn| TokenKey::of(arn, &tokens, &ClientSettings::default()));
    let text = Secret::from(String::from_utf8_lossy(input).replace(KEY, &ours.to_string()));
    assert!(!matches!(Record::read(&text, &others), RecordRead::Record(_)), "a record of other tokens does not apply");
    let RecordRead::Record(record) = Record::read(&text, &ours) else { return };
    if matches!(&record, Record::Claim(claim) if claim.lease_ends_at.year() > 9999) {
        // A UTC year above 9999 is possible only through an offset. No run writes that, and a lease counts for at most 15 minutes.
        return;
    }
    let written = record.to_text(&ours, "a run");
    assert_eq!(Record::read(&written, &others), RecordRead::Other, "a record of other tokens does not apply");
    let RecordRead::Record(again) = Record::read(&written, &ours) else { panic!("the written record is not read") };
    assert_eq!(again, to_the_millisecond(record));
    assert_eq!(again.to_text(&ours, "a run"), written, "the second text differs from the first one");
    assert_ne!(again.to_text(&ours, "another run"), written, "the records of two runs are equal");
}

/// The record with its times in whole milliseconds, as records are written.
fn to_the_millisecond(record: Record) -> Record {
    match record {
        Record::Claim(mut claim) => {
            claim.lease_ends_at = claim.lease_ends_at.trunc_subsecs(3);
            Record::Claim(claim)
        }
        other @ (Record::Refusal { .. } | Record::Kept { .. }) => other,
    }
}
