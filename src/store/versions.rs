//! The versions and staging labels of one secret, and the effect of each operation on them, as AWS Secrets Manager documents it. No
//! files and no network; the time is an argument.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Label, Labels, Limits, Listed, StoreError, Version, VersionId};
use crate::secret::Secret;

const CURRENT: &str = Label::Current.as_str();
const PREVIOUS: &str = Label::Previous.as_str();
const PENDING: &str = "AWSPENDING";

/// How much is kept: as much as in Secrets Manager.
pub const LIMITS: Limits = Limits::SECRETS_MANAGER;

/// One secret: its versions in the order in which they were put, and for each staging label the version that has it.
///
/// An operation that fails changes nothing. If the documentation does not specify a case, the stricter behaviour is implemented.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    arn: String,
    // A map: a label cannot be on two versions.
    #[serde(deserialize_with = "json::deserialize_labels")]
    labels: BTreeMap<String, VersionId>,
    #[serde(rename = "versions")]
    stored: Vec<StoredVersion>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredVersion {
    id: VersionId,
    #[serde(serialize_with = "json::serialize_time", deserialize_with = "json::deserialize_time")]
    created: DateTime<Utc>,
    #[serde(serialize_with = "json::serialize_secret", deserialize_with = "json::deserialize_text")]
    body: Secret,
}

impl Versions {
    /// A secret without a value.
    #[must_use]
    pub fn empty(arn: impl Into<String>) -> Self {
        Self { arn: arn.into(), labels: BTreeMap::new(), stored: Vec::new() }
    }

    /// A secret with its first version, the current one. Errors are those of [`Versions::put`].
    pub fn create(
        arn: impl Into<String>,
        id: &VersionId,
        body: &Secret,
        now: DateTime<Utc>,
    ) -> Result<Self, StoreError> {
        let mut versions = Self::empty(arn);
        versions.put(id, body, None, now)?;
        Ok(versions)
    }

    /// Reads one version: by its id, by a label, by both, or (neither) the current one.
    ///
    /// [`StoreError::NotFound`] if it does not exist, [`StoreError::Rejected`] if the version with this id does not have the label.
    pub fn get(&self, id: Option<&VersionId>, label: Option<&str>) -> Result<Version, StoreError> {
        let id = match id {
            Some(id) => id,
            None => self.holder(label.unwrap_or(CURRENT))?,
        };
        let stored = self.find(id)?;
        if let Some(label) = label
            && self.labels.get(label) != Some(id)
        {
            let detail = format!("the staging label {label} is not on the version {id}");
            return Err(StoreError::Rejected { action: "read", detail });
        }
        Ok(Version {
            arn: self.arn.clone(),
            id: stored.id.clone(),
            created: stored.created,
            labels: self.labels_of(id),
            body: stored.body.clone(),
        })
    }

    /// Puts a version under `id`, if that id is not used yet.
    ///
    /// With `labels`, exactly those move to the new version. Without, AWSCURRENT moves to it and AWSPENDING is removed. The first
    /// version of a secret is always current.
    ///
    /// - The same text under the same id again succeeds and changes nothing.
    /// - Another text under the same id: [`StoreError::Exists`].
    /// - No room: [`StoreError::Quota`].
    /// - An id or a text with a length that the service does not accept: [`StoreError::Rejected`].
    pub fn put(
        &mut self,
        id: &VersionId,
        body: &Secret,
        labels: Option<&[String]>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        check_lengths(id, body)?;
        if let Ok(stored) = self.find(id) {
            return if stored.body == *body { Ok(()) } else { Err(StoreError::Exists) };
        }
        self.make_room(now)?;
        self.stored.push(StoredVersion { id: id.clone(), created: now, body: body.clone() });
        if let Some(labels) = labels {
            for label in labels {
                self.attach(label, id);
            }
        } else {
            self.labels.remove(PENDING);
            self.attach(CURRENT, id);
        }
        if self.stored.len() == 1 {
            self.attach(CURRENT, id);
        }
        Ok(())
    }

    /// Moves a label: compare-and-swap. `remove_from`: the version that has it now, `None` if no version has it.
    ///
    /// [`StoreError::Moved`] if another version has it, [`StoreError::NotFound`] if the version `move_to` does not exist.
    pub fn move_label(
        &mut self,
        label: &str,
        remove_from: Option<&VersionId>,
        move_to: &VersionId,
    ) -> Result<(), StoreError> {
        self.find(move_to)?;
        if self.labels.get(label) != remove_from {
            return Err(StoreError::Moved { detail: format!("the staging label {label} is on another version") });
        }
        self.attach(label, move_to);
        Ok(())
    }

    /// Removes a label from a version. [`StoreError::Moved`] if it is not there.
    pub fn remove_label(&mut self, label: &str, from: &VersionId) -> Result<(), StoreError> {
        if self.labels.get(label) != Some(from) {
            return Err(StoreError::Moved { detail: format!("the staging label {label} is not on this version") });
        }
        self.labels.remove(label);
        Ok(())
    }

    /// Makes the previous version current again, and returns its id.
    pub fn roll_back(&mut self) -> Result<VersionId, StoreError> {
        let previous = self.holder(PREVIOUS)?.clone();
        self.find(&previous)?;
        self.attach(CURRENT, &previous);
        Ok(previous)
    }

    /// The versions in the order in which they were put. `unlabelled`: include the versions without a label.
    #[must_use]
    pub fn list(&self, unlabelled: bool) -> Vec<Listed> {
        self.stored
            .iter()
            .map(|version| Listed {
                id: version.id.clone(),
                created: version.created,
                labels: self.labels_of(&version.id),
            })
            .filter(|listed| listed.labels.any() || unlabelled)
            .collect()
    }

    /// Removes every version that the service may remove, as if new ones had needed their room.
    pub fn remove_old(&mut self, now: DateTime<Utc>) {
        let removable = self.removable(now);
        self.stored.retain(|version| !removable.contains(&version.id));
    }

    /// The version of each label.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, VersionId> {
        &self.labels
    }

    /// The secret's ARN.
    #[must_use]
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// Checks that this state can be the result of operations. The error quotes nothing: in a damaged file an id may be a token.
    pub fn check(&self) -> Result<(), &'static str> {
        let ids: BTreeSet<_> = self.stored.iter().map(|version| &version.id).collect();
        if ids.len() < self.stored.len() {
            return Err("two versions have the same id");
        }
        if self.labels.values().any(|id| !ids.contains(id)) {
            return Err("a staging label is on a version that is not there");
        }
        if !ids.is_empty() && !self.labels.contains_key(CURRENT) {
            return Err("no version has the staging label AWSCURRENT");
        }
        Ok(())
    }

    fn find(&self, id: &VersionId) -> Result<&StoredVersion, StoreError> {
        self.stored
            .iter()
            .find(|version| version.id == *id)
            .ok_or_else(|| StoreError::NotFound { detail: format!("there is no version {id}") })
    }

    fn holder(&self, label: &str) -> Result<&VersionId, StoreError> {
        let detail = || format!("there is no version with the staging label {label}");
        self.labels.get(label).ok_or_else(|| StoreError::NotFound { detail: detail() })
    }

    fn labels_of(&self, id: &VersionId) -> Labels {
        self.labels.iter().filter(|(_, holder)| *holder == id).map(|(label, _)| label.clone()).collect()
    }

    fn is_labelled(&self, id: &VersionId) -> bool {
        self.labels.values().any(|holder| holder == id)
    }

    fn attach(&mut self, label: &str, id: &VersionId) {
        let before = self.labels.insert(label.to_owned(), id.clone());
        if let Some(before) = before
            && label == CURRENT
            && before != *id
        {
            self.labels.insert(PREVIOUS.to_owned(), before);
        }
    }

    /// Drops the versions that the service drops to make room for a new one. A version that is about to lose its label still counts
    /// as labelled: the documentation does not specify this case.
    fn make_room(&mut self, now: DateTime<Utc>) -> Result<(), StoreError> {
        let excess = (self.stored.len() + 1).saturating_sub(LIMITS.versions);
        let removable = self.removable(now);
        if removable.len() < excess {
            let detail = format!(
                "the secret has {} versions, too few of them unlabelled and over 24 hours old",
                self.stored.len()
            );
            return Err(StoreError::Quota { detail });
        }
        self.stored.retain(|version| !removable[..excess].contains(&version.id));
        Ok(())
    }

    /// The versions without a label that are old enough, the oldest first.
    fn removable(&self, now: DateTime<Utc>) -> Vec<VersionId> {
        let mut removable: Vec<&StoredVersion> = self.stored.iter().collect();
        removable.retain(|version| now - version.created >= LIMITS.unlabelled_kept && !self.is_labelled(&version.id));
        removable.sort_by_key(|version| version.created);
        removable.into_iter().map(|version| version.id.clone()).collect()
    }
}

fn check_lengths(id: &VersionId, body: &Secret) -> Result<(), StoreError> {
    let (id_length, body_length) = (id.as_str().len(), body.expose().len());
    let detail = if !(32..=64).contains(&id_length) {
        format!("a version id has 32 to 64 characters, this one {id_length}")
    } else if !(1..=LIMITS.version_bytes).contains(&body_length) {
        format!("a version holds 1 to {} bytes, this text has {body_length}", LIMITS.version_bytes)
    } else {
        return Ok(());
    };
    Err(StoreError::Rejected { action: "write", detail })
}

/// The fields in JSON, all as text.
mod json {
    use std::{collections::BTreeMap, fmt};

    use chrono::{DateTime, Datelike, SecondsFormat, Utc};
    use serde::{
        Deserialize, Deserializer, Serializer,
        de::{Error, MapAccess, Visitor},
    };

    use crate::{secret::Secret, store::VersionId};

    pub fn serialize_secret<S: Serializer>(body: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(body.expose())
    }

    pub fn serialize_time<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }

    pub fn deserialize_text<'de, T: From<String>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        String::deserialize(deserializer).map(T::from)
    }

    /// A duplicate label is an error. Without this function the map would keep the last one.
    pub fn deserialize_labels<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, VersionId>, D::Error> {
        struct Labels;
        impl<'de> Visitor<'de> for Labels {
            type Value = BTreeMap<String, VersionId>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("staging labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut labels = BTreeMap::new();
                while let Some((label, id)) = map.next_entry()? {
                    if labels.insert(label, id).is_some() {
                        return Err(A::Error::custom("a staging label is there twice"));
                    }
                }
                Ok(labels)
            }
        }
        deserializer.deserialize_map(Labels)
    }

    pub fn deserialize_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
        let time = String::deserialize(deserializer)?.parse().ok();
        // Durations are added to times: the last representable time would overflow.
        time.filter(|time: &DateTime<Utc>| time.year() <= 9999).ok_or_else(|| D::Error::custom("not a time"))
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:crm/oauth-AbCdEf";

    fn id(n: usize) -> VersionId {
        format!("00000000-0000-4000-8000-{n:012}").into()
    }

    fn text(text: &str) -> Secret {
        text.into()
    }

    fn now() -> DateTime<Utc> {
        "2026-01-02T03:04:05.678Z".parse().unwrap()
    }

    fn labels(labels: &[&str]) -> Vec<String> {
        labels.iter().map(|&label| label.to_owned()).collect()
    }

    /// The labels, as `LABEL=number of the version`, in the order of the labels.
    fn labels_of(versions: &Versions) -> String {
        let number = |id: &VersionId| id.as_str().rsplit('-').next().unwrap().trim_start_matches('0').to_owned();
        let labels: Vec<String> =
            versions.labels().iter().map(|(label, id)| format!("{label}={}", number(id))).collect();
        labels.join(" ")
    }

    /// A secret with one version, 1, which was put `age` ago.
    fn one_version(age: TimeDelta) -> Versions {
        Versions::create(ARN, &id(1), &text("one"), now() - age).unwrap()
    }

    /// A secret with versions 1 to `count`, all put `age` ago; 1 is current and the others have no label.
    fn many_versions(count: usize, age: TimeDelta) -> Versions {
        let mut versions = one_version(age);
        for n in 2..=count {
            versions.put(&id(n), &text("unlabelled"), Some(&[]), now() - age).unwrap();
        }
        versions
    }

    #[test]
    fn the_first_version_is_current_whatever_labels_are_given() {
        for (given, expected) in [
            (None, "AWSCURRENT=1"),
            (Some(labels(&["OAUTH_CLAIM"])), "AWSCURRENT=1 OAUTH_CLAIM=1"),
            (Some(labels(&["AWSPENDING"])), "AWSCURRENT=1 AWSPENDING=1"),
            (Some(labels(&["AWSCURRENT"])), "AWSCURRENT=1"),
            (Some(labels(&[])), "AWSCURRENT=1"),
        ] {
            let mut versions = Versions::empty(ARN);
            versions.put(&id(1), &text("one"), given.as_deref(), now()).unwrap();
            assert_eq!(labels_of(&versions), expected, "{given:?}");
        }
    }

    #[test]
    fn a_put_moves_awscurrent_or_exactly_the_given_labels() {
        // Version 1 was current before 2; 3 carries two labels.
        let mut before = one_version(TimeDelta::zero());
        before.put(&id(2), &text("two"), None, now()).unwrap();
        before.put(&id(3), &text("three"), Some(&labels(&["AWSPENDING", "OAUTH_CLAIM"])), now()).unwrap();
        assert_eq!(labels_of(&before), "AWSCURRENT=2 AWSPENDING=3 AWSPREVIOUS=1 OAUTH_CLAIM=3");
        for (given, expected) in [
            (None, "AWSCURRENT=4 AWSPREVIOUS=2 OAUTH_CLAIM=3"),
            (Some(labels(&["AWSCURRENT"])), "AWSCURRENT=4 AWSPENDING=3 AWSPREVIOUS=2 OAUTH_CLAIM=3"),
            (Some(labels(&["OAUTH_CLAIM"])), "AWSCURRENT=2 AWSPENDING=3 AWSPREVIOUS=1 OAUTH_CLAIM=4"),
            (Some(labels(&["OAUTH_STAGED"])), "AWSCURRENT=2 AWSPENDING=3 AWSPREVIOUS=1 OAUTH_CLAIM=3 OAUTH_STAGED=4"),
            (Some(labels(&["AWSCURRENT", "OAUTH_CLAIM"])), "AWSCURRENT=4 AWSPENDING=3 AWSPREVIOUS=2 OAUTH_CLAIM=4"),
            (Some(labels(&[])), "AWSCURRENT=2 AWSPENDING=3 AWSPREVIOUS=1 OAUTH_CLAIM=3"),
        ] {
            let mut versions = before.clone();
            versions.put(&id(4), &text("four"), given.as_deref(), now()).unwrap();
            assert_eq!(labels_of(&versions), expected, "{given:?}");
        }
    }

    #[test]
    fn a_version_id_keeps_its_first_text() {
        let mut versions = one_version(TimeDelta::zero());
        versions.put(&id(2), &text("two"), Some(&labels(&["OAUTH_CLAIM"])), now()).unwrap();
        let before = versions.clone();
        let later = now() + TimeDelta::hours(1);
        for (body, given, expected) in [
            ("two", Some(labels(&["OAUTH_CLAIM"])), Ok(())),
            ("two", Some(labels(&["OAUTH_STAGED"])), Ok(())),
            ("two", None, Ok(())),
            ("Two", Some(labels(&["OAUTH_CLAIM"])), Err(StoreError::Exists)),
            ("Two", None, Err(StoreError::Exists)),
        ] {
            assert_eq!(versions.put(&id(2), &text(body), given.as_deref(), later), expected, "{body} {given:?}");
            assert_eq!(versions, before, "{body} {given:?}");
        }
    }

    #[test]
    fn an_id_or_text_of_a_wrong_length_is_rejected() {
        for (id_length, bytes, accepted) in [
            (31, 10, false),
            (32, 10, true),
            (64, 10, true),
            (65, 10, false),
            (36, 0, false),
            (36, 1, true),
            (36, 65_536, true),
            (36, 65_537, false),
        ] {
            let mut versions = one_version(TimeDelta::zero());
            let before = versions.clone();
            let put = versions.put(&"i".repeat(id_length).into(), &"x".repeat(bytes).into(), None, now());
            if accepted {
                assert_eq!(put, Ok(()), "{id_length} {bytes}");
            } else {
                assert!(matches!(put, Err(StoreError::Rejected { action: "write", .. })), "{id_length} {bytes}");
                assert_eq!(versions, before, "{id_length} {bytes}");
            }
        }
        // Bytes, not characters.
        let mut versions = one_version(TimeDelta::zero());
        assert!(versions.put(&id(2), &"é".repeat(32_769).into(), None, now()).is_err());
        assert!(versions.put(&id(2), &"é".repeat(32_768).into(), None, now()).is_ok());
    }

    #[test]
    fn a_secret_has_at_most_100_versions_and_old_unlabelled_ones_make_room() {
        let second = TimeDelta::seconds(1);
        for (count, age, fits, count_after) in [
            (98, TimeDelta::zero(), true, 99),
            (99, TimeDelta::zero(), true, 100),
            (100, TimeDelta::zero(), false, 100),
            (100, LIMITS.unlabelled_kept - second, false, 100),
            (100, LIMITS.unlabelled_kept, true, 100),
            (100, LIMITS.unlabelled_kept + second, true, 100),
            // Nothing is dropped before room is needed.
            (99, LIMITS.unlabelled_kept + second, true, 100),
            (98, LIMITS.unlabelled_kept + second, true, 99),
        ] {
            let mut versions = many_versions(count, age);
            let before = versions.clone();
            let put = versions.put(&id(200), &text("new"), Some(&labels(&["OAUTH_CLAIM"])), now());
            assert_eq!(versions.list(true).len(), count_after, "{count} of {age}");
            if fits {
                assert_eq!(put, Ok(()), "{count} of {age}");
            } else {
                assert!(matches!(put, Err(StoreError::Quota { .. })), "{count} of {age}");
                assert_eq!(versions, before, "{count} of {age}");
            }
        }
    }

    #[test]
    fn a_full_secret_accepts_a_repeated_put_and_moves_labels() {
        let mut versions = many_versions(LIMITS.versions, TimeDelta::zero());
        assert_eq!(versions.put(&id(7), &text("unlabelled"), None, now()), Ok(()));
        assert_eq!(versions.put(&id(7), &text("other"), None, now()), Err(StoreError::Exists));
        assert_eq!(versions.move_label("AWSCURRENT", Some(&id(1)), &id(7)), Ok(()));
        assert_eq!(labels_of(&versions), "AWSCURRENT=7 AWSPREVIOUS=1");
    }

    #[test]
    fn the_oldest_unlabelled_version_is_dropped_first_and_a_labelled_one_is_never_dropped() {
        let mut versions = many_versions(97, TimeDelta::zero());
        for (n, label, days) in [(98, "OAUTH_STAGED", 9), (99, "", 2), (100, "", 3)] {
            let label = labels(&[label]);
            let given = if label == [""] { &[][..] } else { &label };
            versions.put(&id(n), &text("old"), Some(given), now() - TimeDelta::days(days)).unwrap();
        }
        for (n, dropped) in [(101, 100), (102, 99)] {
            versions.put(&id(n), &text("new"), Some(&[]), now()).unwrap();
            assert!(versions.get(Some(&id(dropped)), None).is_err(), "{dropped}");
        }
        let last = versions.put(&id(103), &text("new"), Some(&labels(&["OAUTH_STAGED"])), now());
        assert!(matches!(last, Err(StoreError::Quota { .. })));
        assert!(versions.get(Some(&id(98)), Some("OAUTH_STAGED")).is_ok());
    }

    #[test]
    fn a_label_moves_only_from_the_version_that_has_it() {
        // Current 2, previous 1, claim 3; 4 has no label.
        let mut before = one_version(TimeDelta::zero());
        before.put(&id(2), &text("two"), None, now()).unwrap();
        before.put(&id(3), &text("three"), Some(&labels(&["OAUTH_CLAIM"])), now()).unwrap();
        before.put(&id(4), &text("four"), Some(&[]), now()).unwrap();
        let moved =
            |label: &str| StoreError::Moved { detail: format!("the staging label {label} is on another version") };
        for (label, from, to, expected) in [
            ("AWSCURRENT", Some(2), 3, Ok("AWSCURRENT=3 AWSPREVIOUS=2 OAUTH_CLAIM=3")),
            ("AWSCURRENT", Some(2), 1, Ok("AWSCURRENT=1 AWSPREVIOUS=2 OAUTH_CLAIM=3")),
            ("AWSCURRENT", Some(2), 2, Ok("AWSCURRENT=2 AWSPREVIOUS=1 OAUTH_CLAIM=3")),
            ("AWSCURRENT", Some(1), 3, Err(moved("AWSCURRENT"))),
            ("AWSCURRENT", Some(9), 3, Err(moved("AWSCURRENT"))),
            ("AWSCURRENT", None, 3, Err(moved("AWSCURRENT"))),
            ("AWSCURRENT", None, 2, Err(moved("AWSCURRENT"))),
            ("AWSCURRENT", Some(2), 9, Err(StoreError::NotFound { detail: format!("there is no version {}", id(9)) })),
            ("OAUTH_CLAIM", Some(3), 4, Ok("AWSCURRENT=2 AWSPREVIOUS=1 OAUTH_CLAIM=4")),
            ("OAUTH_CLAIM", None, 4, Err(moved("OAUTH_CLAIM"))),
            ("OAUTH_STAGED", None, 4, Ok("AWSCURRENT=2 AWSPREVIOUS=1 OAUTH_CLAIM=3 OAUTH_STAGED=4")),
            ("OAUTH_STAGED", Some(3), 4, Err(moved("OAUTH_STAGED"))),
        ] {
            let mut versions = before.clone();
            let result = versions.move_label(label, from.map(id).as_ref(), &id(to));
            let case = format!("{label} from {from:?} to {to}");
            match expected {
                Ok(expected) => assert_eq!((result, labels_of(&versions).as_str()), (Ok(()), expected), "{case}"),
                Err(error) => assert_eq!((result, &versions), (Err(error), &before), "{case}"),
            }
        }
    }

    #[test]
    fn a_roll_back_swaps_current_and_previous() {
        let mut versions = one_version(TimeDelta::zero());
        assert!(matches!(versions.roll_back(), Err(StoreError::NotFound { .. })));
        versions.put(&id(2), &text("two"), None, now()).unwrap();
        assert_eq!(versions.roll_back(), Ok(id(1)));
        assert_eq!(labels_of(&versions), "AWSCURRENT=1 AWSPREVIOUS=2");
        assert_eq!(versions.roll_back(), Ok(id(2)));
    }

    #[test]
    fn a_version_is_read_by_id_by_label_or_by_both_if_they_agree() {
        let mut versions = one_version(TimeDelta::hours(2));
        versions.put(&id(2), &text("two"), None, now()).unwrap();
        versions.put(&id(3), &text("three"), Some(&[]), now()).unwrap();
        for (by_id, by_label, found) in [
            (None, None, Ok(2)),
            (None, Some("AWSCURRENT"), Ok(2)),
            (None, Some("AWSPREVIOUS"), Ok(1)),
            (None, Some("OAUTH_CLAIM"), Err("not found")),
            (Some(1), None, Ok(1)),
            (Some(3), None, Ok(3)),
            (Some(9), None, Err("not found")),
            (Some(1), Some("AWSPREVIOUS"), Ok(1)),
            (Some(1), Some("AWSCURRENT"), Err("they disagree")),
            (Some(1), Some("OAUTH_CLAIM"), Err("they disagree")),
            (Some(9), Some("AWSCURRENT"), Err("not found")),
        ] {
            let got = versions.get(by_id.map(id).as_ref(), by_label).map(|version| version.id);
            let got = got.map_err(|error| match error {
                StoreError::NotFound { .. } => "not found",
                StoreError::Rejected { action: "read", .. } => "they disagree",
                _ => "something else",
            });
            assert_eq!(got, found.map(id), "{by_id:?} {by_label:?}");
        }
        let version = versions.get(Some(&id(1)), None).unwrap();
        assert_eq!((version.arn.as_str(), version.created), (ARN, now() - TimeDelta::hours(2)));
        assert_eq!(version.body.expose(), "one");
        assert!(matches!(Versions::empty(ARN).get(None, None), Err(StoreError::NotFound { .. })));
    }

    #[test]
    fn unlabelled_versions_are_listed_on_request() {
        let mut versions = many_versions(2, TimeDelta::zero());
        versions.put(&id(3), &text("three"), Some(&labels(&["OAUTH_CLAIM"])), now()).unwrap();
        let listed = |n, labels| Listed { id: id(n), created: now(), labels };
        let (current, claim) = (Labels::from([Label::Current]), Labels::from([Label::Claim]));
        let labelled = [listed(1, current), listed(3, claim)];
        assert_eq!(versions.list(false), labelled);
        assert_eq!(versions.list(true), [labelled[0].clone(), listed(2, Labels::default()), labelled[1].clone()]);
    }

    #[test]
    fn the_json_form_is_pinned_and_read_back_unchanged() {
        let mut versions = Versions::create("local:/x.json", &id(1), &text("{\"a\":\"é\"}"), now()).unwrap();
        let json = concat!(
            r#"{"arn":"local:/x.json","labels":{"AWSCURRENT":"00000000-0000-4000-8000-000000000001"},"versions":["#,
            r#"{"id":"00000000-0000-4000-8000-000000000001","created":"2026-01-02T03:04:05.678Z","#,
            r#""body":"{\"a\":\"é\"}"}]}"#
        );
        assert_eq!(serde_json::to_string(&versions).unwrap(), json);
        versions.put(&id(2), &text("two"), None, now() + TimeDelta::nanoseconds(1)).unwrap();
        let json = serde_json::to_vec(&versions).unwrap();
        assert_eq!(serde_json::from_slice::<Versions>(&json).unwrap(), versions);
    }

    #[test]
    fn debug_prints_ids_and_labels_but_no_text() {
        let debug = format!("{:?}", Versions::create(ARN, &id(1), &text("hunter2"), now()).unwrap());
        assert!(debug.contains("AWSCURRENT") && debug.contains("Secret(..)"), "{debug}");
        assert!(!debug.contains("hunter2"));
    }
}
