//! The versions of a secret as one list call returns them: which exist, and which labels are on them. No IO.
//!
//! A list may lag behind a write, like every read. So it only spares reads: what it does not show is decided by a put or a read.

use std::collections::HashSet;

use super::ids::TokenKey;
use crate::store::{Label, Listed, VersionId};

/// Claims with lower numbers are looked for. A secret has room for about 100 claims in 24 hours, and the back-off allows 48:
/// this is reached after 40 days of failures at least.
const MAX_ATTEMPT: u32 = 4096;

/// The versions of a secret.
pub(super) struct Inventory {
    listed: Vec<Listed>,
    /// How many labels the store allows.
    max_labels: usize,
}

impl Inventory {
    pub(super) const fn new(listed: Vec<Listed>, max_labels: usize) -> Self {
        Self { listed, max_labels }
    }

    pub(super) const fn max_labels(&self) -> usize {
        self.max_labels
    }

    pub(super) fn versions(&self) -> &[Listed] {
        &self.listed
    }

    pub(super) fn contains(&self, id: &VersionId) -> bool {
        self.listed.iter().any(|version| version.id == *id)
    }

    /// The version that has this label.
    pub(super) fn version_with(&self, label: Label) -> Option<&VersionId> {
        self.listed.iter().find(|version| version.labels.has(label)).map(|version| &version.id)
    }

    /// The number of different labels, those of other programs included.
    pub(super) fn labels_in_use(&self) -> usize {
        self.listed.iter().flat_map(|version| version.labels.names()).collect::<HashSet<_>>().len()
    }

    /// The number of labels when a refresh has ended: the first one adds three.
    pub(super) fn labels_after_refresh(&self) -> usize {
        let added = [Label::Previous, Label::Claim, Label::Staged];
        self.labels_in_use() + added.into_iter().filter(|label| self.version_with(*label).is_none()).count()
    }

    /// How many more labels fit beside those of a refresh.
    pub(super) fn room_for_labels(&self) -> usize {
        self.max_labels.saturating_sub(self.labels_after_refresh())
    }

    /// The number of the newest claim on these tokens. Earlier claims may have been removed, so this computes thousands of ids: only
    /// for the rare case that neither claim 0 nor the label shows it.
    pub(super) fn newest_claim(&self, key: &TokenKey) -> Option<u32> {
        // Each claim gets the label, and only another record takes it: without the label there is no claim at all.
        self.version_with(Label::Claim)?;
        let ids: HashSet<&VersionId> = self.listed.iter().map(|version| &version.id).collect();
        (0..MAX_ATTEMPT).rev().find(|attempt| ids.contains(&key.claim(*attempt)))
    }
}
