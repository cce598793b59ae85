//! The scan: reads the secrets of a sweep in batches, and sorts out which of them need a run.

use chrono::TimeDelta;
use futures_util::{StreamExt, stream};

use super::{
    MAX_DUE, Sweep,
    queue::{ByTurn, QueuedToken},
    summary::Expiries,
};
use crate::{
    crash,
    protocol::{Error, ScanResult, observation::Observation, observation::Observed, outcome::Completed},
    secret::Secret,
    store::{BATCH, Label, Operation, SecretStore, Selector, StoreError, Version},
};

/// How many times a batch is tried if the store throttles or fails. The first pause is 1 s, each further one twice as long.
const MAX_TRIES: u32 = 4;
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(1);

/// How many secrets are read alone at the same time.
const READS_AT_ONCE: usize = 8;

/// A token that is skipped if its published secret holds `text`.
struct PublicationToCheck {
    token: QueuedToken,
    published_id: String,
    text: Secret,
    completed: Completed,
    observed: Observed,
}

/// What a prefix is compared with: the name in an ARN, or the name itself.
pub(super) fn name_of(secret_id: &str) -> &str {
    match secret_id.strip_prefix("arn:") {
        Some(arn) => arn.split_once(":secret:").map_or(secret_id, |(_, name)| name),
        None => secret_id,
    }
}

impl<S: SecretStore> Sweep<'_, S> {
    pub(super) async fn scan_all(&self) {
        for names in self.request.targets.names.chunks(BATCH) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let versions = self.get_batch(&names).await;
            let read = names.iter().zip(versions).map(|(name, version)| ((*name).to_owned(), version));
            self.scan_batch(read.collect(), true).await;
        }
        let mut prefixes: Vec<&String> = self.request.targets.prefixes.iter().collect();
        // What the last sweep had no time for comes first.
        prefixes.sort_by_key(|prefix| !self.sweeper.unfinished().contains_key(*prefix));
        for prefix in prefixes {
            self.scan_prefix(prefix).await;
        }
        self.state().scan_has_ended = true;
        self.open_queue();
    }

    async fn scan_prefix(&self, prefix: &str) {
        let (mut page, mut found) = (None, 0);
        if !self.request.dry {
            page = self.sweeper.unfinished().remove(prefix).flatten();
        }
        let mut is_continued = page.is_some();
        if is_continued {
            self.warn(format!("the scan of the prefix `{prefix}` continues where the last one ended"));
        }
        loop {
            let has_read = self.state().has_read;
            if self.time_is_over() && has_read {
                return self.end_unfinished(prefix, page, found);
            }
            let search = || self.refresher.store().find(prefix, page.as_deref());
            let result = match self.retried(search).await {
                Ok(result) => result,
                // The store does not know the page any more.
                Err(StoreError::Rejected { .. }) if is_continued => {
                    (is_continued, page) = (false, None);
                    continue;
                }
                Err(_) if self.time_is_over() && has_read => return self.end_unfinished(prefix, page, found),
                Err(error) => {
                    let pattern = format!("{prefix}*");
                    let error = Error::of_store(self.refresher.store(), &pattern, error, None);
                    self.failed(&pattern, error, &Observed::default());
                    return;
                }
            };
            // Some stores find the text anywhere in a name.
            let secrets = result.found.into_iter().filter(|secret| name_of(&secret.secret_id).starts_with(prefix));
            let secrets: Vec<_> = secrets.map(|secret| (secret.secret_id, secret.version)).collect();
            found += secrets.len();
            self.scan_batch(secrets, false).await;
            if result.next.is_none() || result.next == page {
                break;
            }
            (is_continued, page) = (false, result.next);
        }
        if found == 0 {
            let place = self.refresher.store().place();
            let place = if place.is_empty() { String::new() } else { format!(" in {place}") };
            self.warn(format!("no secret has the prefix `{prefix}`{place}"));
        }
    }

    /// The time was over before the last page. The next sweep continues.
    fn end_unfinished(&self, prefix: &str, page: Option<String>, found: usize) {
        self.warn(format!(
            "the time was over after {found} secrets with the prefix `{prefix}`: the next sweep continues there; raise the \
             function's timeout, or give each part of the names a function of its own"
        ));
        if !self.request.dry {
            self.sweeper.unfinished().insert(prefix.to_owned(), page);
        }
    }

    /// Scans secrets that were read together. A secret that the batch did not return is read alone, after the others.
    async fn scan_batch(&self, secrets: Vec<(String, Option<Version>)>, is_named: bool) {
        let mut to_check = Vec::new();
        let mut to_read = Vec::new();
        for (secret_id, version) in secrets {
            if self.is_known(&secret_id, is_named, version.is_some()) {
                continue;
            }
            match version {
                Some(version) => to_check.extend(self.scan_one(secret_id, is_named, Ok(version)).await),
                None => to_read.push(secret_id),
            }
        }
        self.open_queue_in_time();
        let reads = to_read.into_iter().map(|secret_id| async {
            let version = if self.time_is_over() { None } else { Some(self.get(&secret_id).await) };
            (secret_id, version)
        });
        let mut reads = stream::iter(reads).buffered(READS_AT_ONCE);
        while let Some((secret_id, version)) = reads.next().await {
            match version {
                Some(version) => to_check.extend(self.scan_one(secret_id, is_named, version).await),
                None => self.state().summary.add_not_reached(&Expiries::default(), self.now()),
            }
            self.open_queue_in_time();
        }
        for publications in to_check.chunks(BATCH) {
            let mut ids: Vec<&str> = publications.iter().map(|check| check.published_id.as_str()).collect();
            ids.sort_unstable();
            ids.dedup();
            let versions = self.get_batch(&ids).await;
            for check in publications {
                let index = ids.binary_search(&check.published_id.as_str()).ok();
                let version = index.and_then(|index| versions.get(index)?.as_ref());
                // Without time to check it, the next sweep does.
                if version.is_some_and(|version| version.body == check.text) || self.time_is_over() {
                    self.skipped(&check.token.secret_id, &check.completed, &check.observed);
                } else {
                    self.found(check.token.clone());
                }
            }
        }
        self.open_queue_in_time();
    }

    /// Whether a secret is named as well, or in the queue from the start.
    fn is_known(&self, secret_id: &str, is_named: bool, was_read: bool) -> bool {
        let mut state = self.state();
        let is_known = state.known_ids.contains(secret_id);
        state.has_read |= is_known && was_read;
        if is_named {
            state.known_ids.insert(secret_id.to_owned());
        }
        is_known
    }

    /// Scans one secret. Returns the publication that is still to check.
    async fn scan_one(
        &self,
        secret_id: String,
        is_named: bool,
        version: Result<Version, StoreError>,
    ) -> Option<PublicationToCheck> {
        let version = match version {
            Ok(version) => version,
            // Without a value, deleted meanwhile, or bytes.
            Err(StoreError::NotFound { .. } | StoreError::Binary) if !is_named => {
                let mut state = self.state();
                state.has_read = true;
                state.summary.add_ignored();
                return None;
            }
            Err(error) => {
                let error = Error::of_store(self.refresher.store(), &secret_id, error, None);
                self.failed(&secret_id, error, &Observed::default());
                return None;
            }
        };
        {
            let mut state = self.state();
            state.has_read = true;
            // The same secret by another name.
            let is_known = state.known.contains(&version.arn);
            if is_known || (is_named && !state.known.insert(version.arn.clone())) {
                return None;
            }
        }
        let observation = Observation::default();
        let is_checked =
            |is_first_document: bool| self.sweeper.is_checked(&secret_id, &version.id, is_first_document, self.now());
        // A document that ends the scan at a bug must not end the runs.
        let scanned = async { self.refresher.scan(&secret_id, &version, is_checked, &observation) };
        let scanned = crash::catch(scanned).await;
        let scanned = scanned.unwrap_or_else(|| Err(Error::Panicked { secret_id: secret_id.clone() }));
        let observed = observation.observed();
        let token = QueuedToken {
            arn: Some(version.arn),
            expiries: Expiries::of(&observed),
            is_named,
            was_not_started: false,
            client: None,
            secret_id,
        };
        match scanned {
            Ok(ScanResult::Skip(completed)) => self.skipped(&token.secret_id, &completed, &observed),
            Ok(ScanResult::SkipIfPublished { secret_id: published_id, text, completed }) => {
                return Some(PublicationToCheck { token, published_id, text, completed, observed });
            }
            Ok(ScanResult::Check) => self.found(token),
            // A dry run sends nothing: no endpoint and no client has to be spared.
            Ok(ScanResult::Due { .. }) if self.request.dry => self.found(token),
            Ok(ScanResult::Due { client, grant }) => {
                let observation = Observation::default();
                let secret_id = &token.secret_id;
                let client =
                    self.refresher.client_of(secret_id, *client, &grant, &self.shared, &observation, self.ends_at);
                let client = crash::catch(client).await.flatten();
                self.state().summary.calls += u64::from(observation.observed().calls);
                self.found(QueuedToken { client, ..token });
            }
            Ok(ScanResult::NotATokenSecret(_)) if !is_named => self.state().summary.add_ignored(),
            Ok(ScanResult::NotATokenSecret(error)) | Err(error) => self.failed(&token.secret_id, error, &observed),
        }
        None
    }

    /// A token that needs a run.
    fn found(&self, token: QueuedToken) {
        let now = self.now();
        let mut state = self.state();
        // It may come again on another page.
        state.known.extend(token.arn.clone());
        state.found.push(ByTurn(token));
        if state.found.len() + state.queue.waiting() > MAX_DUE
            && let Some(ByTurn(last)) = state.found.pop()
        {
            state.summary.add_not_reached(&last.expiries, now);
        }
    }

    /// Does not let the runs wait longer for the end of the scan.
    fn open_queue_in_time(&self) {
        if self.now() >= self.opens_at {
            self.open_queue();
        }
    }

    /// Lets the runs start of the tokens that were found so far.
    fn open_queue(&self) {
        let mut state = self.state();
        for ByTurn(token) in std::mem::take(&mut state.found) {
            state.queue.push(token);
        }
        drop(state);
        self.queue_opened.notify_one();
    }

    fn warn(&self, warning: String) {
        self.state().summary.warnings.push(warning);
    }

    async fn get_batch(&self, secret_ids: &[&str]) -> Vec<Option<Version>> {
        let read = || self.refresher.store().get_batch(secret_ids);
        match self.retried(read).await {
            Ok(versions) if versions.len() == secret_ids.len() => versions,
            // Each of them is read alone, and has its own error.
            _ => vec![None; secret_ids.len()],
        }
    }

    /// Not tried again, unlike a batch: if it fails, only this secret fails.
    async fn get(&self, secret_id: &str) -> Result<Version, StoreError> {
        let get = self.refresher.store().get(secret_id, Selector::Label(Label::Current));
        self.in_time(Operation::Get, get).await
    }

    /// Makes a batch call, and again if the store throttles or fails.
    async fn retried<T, F: Future<Output = Result<T, StoreError>> + Send>(
        &self,
        call: impl Fn() -> F,
    ) -> Result<T, StoreError> {
        let mut pause = FIRST_PAUSE;
        let mut tries = 1;
        loop {
            let result = self.in_time(Operation::GetBatch, call()).await;
            let may_pass = matches!(result, Err(StoreError::Throttled { .. } | StoreError::Unavailable { .. }));
            if !may_pass || tries == MAX_TRIES || self.now() + pause >= self.ends_at {
                return result;
            }
            self.refresher.clock().sleep(pause.to_std().unwrap_or_default()).await;
            tries += 1;
            pause = pause * 2;
        }
    }

    async fn in_time<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.state().summary.calls += 1;
        self.refresher.clock().before(self.ends_at, Box::pin(call)).await.unwrap_or_else(|| {
            let action = self.refresher.store().action(operation);
            Err(StoreError::Unavailable { action, detail: "no answer before the deadline".to_owned() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_compared_with_a_prefix_also_if_it_is_in_an_arn() {
        for (secret_id, name) in [
            ("myapp/prod/a", "myapp/prod/a"),
            ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:myapp/prod/a-AbCdEf", "myapp/prod/a-AbCdEf"),
            ("local:/tmp/a.json", "local:/tmp/a.json"),
            ("arn:aws:s3:::bucket", "arn:aws:s3:::bucket"),
        ] {
            assert_eq!(name_of(secret_id), name);
        }
    }
}
