//! Which of the due tokens is next: the one that expires soonest, among those whose endpoint and client may be asked now. No IO.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BinaryHeap, HashMap},
};

use chrono::{DateTime, SecondsFormat, Utc};

use super::summary::Expiries;
use crate::protocol::ids::ClientDigest;

/// The most runs at once for one endpoint.
const MAX_AT_ENDPOINT: usize = 8;

/// After so many rejections in a row, no further token of the client is started: a wrong secret must not be tried ten thousand times.
const MAX_REJECTIONS: usize = 3;

/// How many reasons a report has at most.
const MAX_REASONS: usize = 5;

/// What a run showed about its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientResult {
    /// The provider accepts the client.
    Accepted,
    /// The provider rejects the client.
    Rejected,
    /// Neither.
    Unknown,
}

/// A token that needs a run, and what decides when it may start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedToken {
    /// The secret's name or ARN.
    pub secret_id: String,
    /// Its ARN, if it is known.
    pub arn: Option<String>,
    /// What expires when, as the scan has seen it.
    pub expiries: Expiries,
    /// Whether it is named itself, not only by a prefix.
    pub is_named: bool,
    /// Whether the last sweep had no time for it.
    pub was_not_started: bool,
    /// The token endpoint without its query, and the client, if they could be read.
    pub client: Option<(String, ClientDigest)>,
}

/// The due tokens that wait, and what runs.
#[derive(Debug, Default)]
pub struct Queue {
    groups: HashMap<Option<(String, ClientDigest)>, BinaryHeap<Reverse<ByTurn>>>,
    endpoints: HashMap<String, usize>,
    clients: HashMap<ClientDigest, Client>,
    waiting: usize,
}

#[derive(Debug, Default)]
struct Client {
    running: usize,
    /// How many rejections came since the last time it was accepted.
    rejections: usize,
    is_accepted: bool,
}

/// The order of the queue: what the last sweep did not start, then by expiry. A token of unknown expiry is first.
#[derive(Debug, PartialEq, Eq)]
pub struct ByTurn(pub QueuedToken);

impl ByTurn {
    fn key(&self) -> (bool, Option<DateTime<Utc>>, &str) {
        (!self.0.was_not_started, self.0.expiries.expires_at, &self.0.secret_id)
    }
}

impl Ord for ByTurn {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for ByTurn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Queue {
    /// How many tokens wait.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Adds a token.
    pub fn push(&mut self, token: QueuedToken) {
        self.waiting += 1;
        self.groups.entry(token.client.clone()).or_default().push(Reverse(ByTurn(token)));
    }

    /// Takes the next token. `None`: no token may start now. `paused`: until when no request is sent to an endpoint.
    pub fn start_next(&mut self, now: DateTime<Utc>, paused: &HashMap<String, DateTime<Utc>>) -> Option<QueuedToken> {
        let may_start = |key: &Option<(String, ClientDigest)>| {
            let Some((endpoint, client)) = key else { return true };
            let at_endpoint = self.endpoints.get(endpoint).copied().unwrap_or_default();
            at_endpoint < MAX_AT_ENDPOINT
                && paused.get(endpoint).is_none_or(|until| *until <= now)
                && self.clients.get(client).is_none_or(Client::may_start)
        };
        let (_, key) = self
            .groups
            .iter()
            .filter(|(key, _)| may_start(key))
            .filter_map(|(key, group)| Some((&group.peek()?.0, key)))
            .min_by(|(a, _), (b, _)| a.cmp(b))?;
        let key = key.clone();
        let group = self.groups.get_mut(&key)?;
        let Reverse(ByTurn(token)) = group.pop()?;
        if group.is_empty() {
            self.groups.remove(&key);
        }
        self.waiting -= 1;
        if let Some((endpoint, client)) = key {
            *self.endpoints.entry(endpoint).or_default() += 1;
            self.clients.entry(client).or_default().running += 1;
        }
        Some(token)
    }

    /// When the first pause of an endpoint with waiting tokens ends.
    #[must_use]
    pub fn first_pause_end(
        &self,
        now: DateTime<Utc>,
        paused: &HashMap<String, DateTime<Utc>>,
    ) -> Option<DateTime<Utc>> {
        if paused.is_empty() {
            return None;
        }
        let endpoints = self.groups.keys().flatten().filter(|(_, client)| {
            // The tokens of a stopped client do not wait for the end of a pause.
            self.clients.get(client).is_none_or(|client| !client.is_stopped())
        });
        endpoints.filter_map(|(endpoint, _)| paused.get(endpoint).copied()).filter(|until| *until > now).min()
    }

    /// Why tokens wait, apart from the time: a sentence for each endpoint that is paused, and for each client that is stopped.
    #[must_use]
    pub fn reasons(&self, now: DateTime<Utc>, paused: &HashMap<String, DateTime<Utc>>) -> Vec<String> {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for (key, group) in &self.groups {
            let Some((endpoint, client)) = key else { continue };
            let reason = if self.clients.get(client).is_some_and(Client::is_stopped) {
                format!(
                    "{endpoint} rejected their client {MAX_REJECTIONS} times in a row (ClientRejected): correct its settings \
                     (the error of each says which)"
                )
            } else if let Some(until) = paused.get(endpoint).filter(|until| **until > now) {
                let until = until.to_rfc3339_opts(SecondsFormat::Secs, true);
                format!("{endpoint} answered 429 and is asked again from {until} on")
            } else {
                continue;
            };
            *counts.entry(reason).or_default() += group.len();
        }
        let reasons = counts.into_iter().take(MAX_REASONS);
        reasons.map(|(reason, count)| format!("{count} tokens were not started: {reason}")).collect()
    }

    /// The run of a token has ended. `client`: the one that it used, if it has read it: the scan may not have been able to.
    pub fn ended(&mut self, token: &QueuedToken, client: Option<(String, ClientDigest)>, result: ClientResult) {
        let Some((endpoint, planned)) = &token.client else { return };
        if let Some(running) = self.endpoints.get_mut(endpoint) {
            *running -= 1;
        }
        if let Some(planned) = self.clients.get_mut(planned) {
            planned.running = planned.running.saturating_sub(1);
        }
        if let Some(real) = &client
            && token.client != client
            && let Some(group) = self.groups.remove(&token.client)
        {
            for Reverse(ByTurn(token)) in group {
                self.waiting -= 1;
                self.push(QueuedToken { client: Some(real.clone()), ..token });
            }
        }
        let digest = client.map_or(*planned, |(_, digest)| digest);
        let client = self.clients.entry(digest).or_default();
        match result {
            ClientResult::Accepted => (client.is_accepted, client.rejections) = (true, 0),
            ClientResult::Rejected => (client.is_accepted, client.rejections) = (false, client.rejections + 1),
            ClientResult::Unknown => {}
        }
    }

    /// The tokens whose runs have not started.
    pub fn into_waiting(self) -> impl Iterator<Item = QueuedToken> {
        self.groups.into_values().flatten().map(|Reverse(ByTurn(token))| token)
    }
}

impl Client {
    const fn is_stopped(&self) -> bool {
        self.rejections >= MAX_REJECTIONS
    }

    /// Until a client is accepted, at most [`MAX_REJECTIONS`] of its tokens run.
    const fn may_start(&self) -> bool {
        self.is_accepted || self.running + self.rejections < MAX_REJECTIONS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_225_600 + seconds, 0).unwrap()
    }

    fn client(number: u8) -> ClientDigest {
        ClientDigest::for_test(number)
    }

    fn token(name: &str, expires_in: Option<i64>, client_of: Option<(&str, u8)>) -> QueuedToken {
        QueuedToken {
            secret_id: name.to_owned(),
            arn: None,
            expiries: Expiries { expires_at: expires_in.map(at), ..Expiries::default() },
            is_named: false,
            was_not_started: false,
            client: client_of.map(|(endpoint, number)| (endpoint.to_owned(), client(number))),
        }
    }

    /// Starts all that may start.
    fn started(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.start_next(at(0), &HashMap::new())).map(|token| token.secret_id).collect()
    }

    fn accepted(queue: &mut Queue, endpoint: &str, number: u8) {
        let probe = token("probe", None, Some((endpoint, number)));
        queue.push(probe.clone());
        assert_eq!(started(queue), ["probe"]);
        queue.ended(&probe, None, ClientResult::Accepted);
    }

    #[test]
    fn the_soonest_expiry_is_first_and_an_unknown_one_before_it() {
        let mut queue = Queue::default();
        for (name, expires_in, endpoint) in
            [("late", Some(900), "a"), ("soon", Some(10), "b"), ("expired", Some(-5), "a"), ("unknown", None, "b")]
        {
            queue.push(token(name, expires_in, Some((endpoint, 1))));
        }
        queue.push(token("no client", Some(11), None));
        queue.clients.entry(client(1)).or_default().is_accepted = true;
        assert_eq!(started(&mut queue), ["unknown", "expired", "soon", "no client", "late"]);
        assert_eq!(queue.into_waiting().count(), 0);
    }

    #[test]
    fn what_the_last_sweep_did_not_start_is_first() {
        let mut queue = Queue::default();
        queue.push(token("expired", Some(-5), None));
        queue.push(QueuedToken { was_not_started: true, ..token("later", Some(900), None) });
        queue.push(QueuedToken { was_not_started: true, ..token("sooner", Some(600), None) });
        assert_eq!(started(&mut queue), ["sooner", "later", "expired"]);
    }

    #[test]
    fn a_full_endpoint_does_not_hold_up_the_others() {
        let mut queue = Queue::default();
        accepted(&mut queue, "slow", 1);
        accepted(&mut queue, "fast", 2);
        for n in 0..10 {
            queue.push(token(&format!("slow{n}"), Some(n), Some(("slow", 1))));
        }
        queue.push(token("fast", Some(100), Some(("fast", 2))));
        let names = started(&mut queue);
        assert_eq!(names.len(), MAX_AT_ENDPOINT + 1);
        assert_eq!(names.last().unwrap(), "fast");
        queue.ended(&token("slow0", Some(0), Some(("slow", 1))), None, ClientResult::Unknown);
        assert_eq!(started(&mut queue), ["slow8"]);
    }

    #[test]
    fn a_client_that_the_scan_could_not_read_is_known_after_its_first_run() {
        let mut queue = Queue::default();
        for n in 0..10 {
            queue.push(token(&format!("{n}"), Some(n), Some(("unread", 7))));
        }
        assert_eq!(started(&mut queue).len(), 3, "it may be wrong");
        let real = Some(("e".to_owned(), client(1)));
        queue.ended(&token("0", Some(0), Some(("unread", 7))), real.clone(), ClientResult::Rejected);
        let paused = HashMap::from([("e".to_owned(), at(30))]);
        assert_eq!(queue.start_next(at(0), &paused), None, "its endpoint is paused");
        for n in ["1", "2"] {
            queue.ended(&token(n, None, Some(("unread", 7))), real.clone(), ClientResult::Rejected);
        }
        assert_eq!((started(&mut queue), queue.waiting()), (Vec::new(), 7));
    }

    #[test]
    fn a_paused_endpoint_starts_nothing_until_the_pause_ends() {
        let mut queue = Queue::default();
        queue.push(token("a", None, Some(("busy", 1))));
        let paused = HashMap::from([("busy".to_owned(), at(30)), ("other".to_owned(), at(5))]);
        let reason = "1 tokens were not started: busy answered 429 and is asked again from 2026-01-01T00:00:30Z on";
        assert_eq!(queue.reasons(at(29), &paused), [reason]);
        assert_eq!(queue.reasons(at(30), &paused), [""; 0]);
        for (now, starts) in [(0, false), (29, false), (30, true)] {
            assert_eq!(queue.first_pause_end(at(now), &paused), (!starts).then(|| at(30)), "{now}");
            assert_eq!(queue.start_next(at(now), &paused).is_some(), starts, "{now}");
        }
    }

    #[test]
    fn a_client_is_stopped_after_three_rejections_in_a_row() {
        use ClientResult::{Accepted, Rejected, Unknown};
        for (results, is_stopped) in [
            (&[Rejected, Rejected][..], false),
            (&[Rejected, Rejected, Rejected], true),
            (&[Rejected, Rejected, Accepted, Rejected, Rejected], false),
            (&[Rejected, Unknown, Rejected, Unknown, Rejected], true),
            (&[Accepted, Rejected, Rejected, Rejected], true),
        ] {
            let mut queue = Queue::default();
            for (n, result) in results.iter().enumerate() {
                let token = token(&format!("{n}"), None, Some(("e", 1)));
                queue.push(token.clone());
                assert_eq!(started(&mut queue).len(), 1);
                queue.ended(&token, None, *result);
            }
            queue.push(token("next", None, Some(("e", 1))));
            let reasons = queue.reasons(at(0), &HashMap::new());
            let has_reason = reasons.iter().any(|reason| reason.starts_with("1 tokens were not started: e rejected"));
            assert_eq!(has_reason, is_stopped, "{reasons:?}");
            queue.push(token("other client", None, Some(("e", 2))));
            let expected: &[&str] = if is_stopped { &["other client"] } else { &["next", "other client"] };
            assert_eq!(started(&mut queue), expected, "{results:?}");
        }
    }

    #[test]
    fn a_client_that_may_be_wrong_is_tried_three_times_at_once_at_most() {
        let mut queue = Queue::default();
        for n in 0..10 {
            queue.push(token(&format!("{n}"), Some(n), Some(("e", 1))));
        }
        assert_eq!(started(&mut queue).len(), 3);
        queue.ended(&token("0", Some(0), Some(("e", 1))), None, ClientResult::Rejected);
        assert_eq!(started(&mut queue).len(), 0);
        queue.ended(&token("1", Some(1), Some(("e", 1))), None, ClientResult::Accepted);
        assert_eq!(started(&mut queue).len(), MAX_AT_ENDPOINT - 1);
    }
}
