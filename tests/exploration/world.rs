//! A small world that can be replayed: one secret, one provider, one person, processes with their runs, and one clock. Lists the
//! events that can happen next, and applies one. `promises` and `end` check what must hold, and `explorer` chooses the events.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use token_refresher::{
    oauth::response::{self, TokenResponse},
    protocol::{
        Error, Mode, Options,
        options::ClaimMode,
        outcome::{Completed, Outcome},
    },
    store::{Label, VersionId, versions::Versions},
    token_secret::{client_settings::ClientSettings, member_names::MemberNames},
};

use crate::{
    neighbour::{OtherSecret, SharedNeighbour},
    person::{Person, PersonStep},
    plan::{Difference, Neighbour, PAST_A_DAY, Plan, Search, TIMEOUT},
    promises::{self, BrokenPromise},
    provider::{GRANT_TYPE, Provider, TokenLocation, identity_of},
    replies::{denied_reply, describe, digest, digest_of, read_reply, throttled_reply, unavailable_reply},
    run::{PUBLISHED_NAME, Process, Reply, Run, RunState, Step, Time, WaitingStep},
    tracked_run::{Event, Fault, Progress, TrackedRun},
};

/// What AWSCURRENT must hold, whatever the runs do.
#[derive(Clone, Debug, Hash)]
pub struct Expected {
    /// The member that only the person changes.
    pub note: Value,
    /// The consent whose tokens the person put there last.
    pub consent: usize,
}

pub struct World {
    pub plan: Arc<Plan>,
    pub time: Time,
    options: Options,
    pub versions: Versions,
    /// The published secret.
    pub published: Versions,
    /// Another secret of the sweeps.
    neighbour: SharedNeighbour,
    /// The versions before the newest write, while a read may still return them.
    before_newest_write: Option<Versions>,
    pub provider: Provider,
    person: Person,
    original_text: String,
    pub expected: Expected,
    processes: Vec<Process>,
    pub runs: Vec<TrackedRun>,
    faults_left: usize,
    jumps_left: usize,
    /// The consents of which a token was sent again after a lost response.
    pub sent_again_after_loss: BTreeSet<usize>,
    /// How many versions the person put.
    pub versions_by_person: usize,
    /// Whether events are replayed that have already been checked.
    replaying: bool,
    /// The events so far, in words, if they are wanted.
    pub log: Option<Vec<String>>,
}

/// A sweep ends so long before its invocation: `src/sweep.rs`.
const SWEEP_RESPONSE: TimeDelta = TimeDelta::milliseconds(500);

fn version_id(n: usize) -> VersionId {
    format!("00000000-0000-4000-8000-{n:012}").into()
}

impl World {
    pub fn new(plan: &Arc<Plan>) -> Result<Self, BrokenPromise> {
        let now: DateTime<Utc> = "2026-01-01T12:00:00.250Z".parse().expect("a time");
        let mut provider = Provider::new(plan.behaviour, plan.responses, plan.consent_ends_others);
        let first = provider.consent();
        let pair = &provider.pairs[first];
        let obtained = now - plan.age;
        let expires = if plan.refreshed_before { obtained } else { now + plan.expires_in };
        let mut document = json!({
            "note": "as created",
            "tokenEndpoint": "https://id.example/token",
            "clientId": "client",
            "clientSecret": "the client's secret",
        });
        if plan.behaviour.issues_refresh_tokens() {
            document["accessToken"] = json!(pair.access);
            document["refreshToken"] = json!(pair.refresh);
            document["expiresAt"] = json!(expires.timestamp_millis());
        } else {
            document["grantType"] = json!(GRANT_TYPE);
        }
        if plan.publishes() {
            document["publishTo"] = json!(PUBLISHED_NAME);
        }
        let mut versions =
            Versions::create("arn:aws:test", &version_id(1), &document.to_string().into(), obtained).expect("room");
        for n in 0..plan.other_versions {
            versions.put(&version_id(n + 2), &"{}".into(), Some(&[]), obtained).expect("room");
        }
        let options = Options {
            refresh_margin: Duration::from_mins(15),
            claim: plan.claim,
            client: ClientSettings::default(),
            member_names: MemberNames::default(),
        };
        let time = Time::starting_at(if plan.refreshed_before { obtained } else { now });
        let mut world = Self {
            plan: Arc::clone(plan),
            processes: Vec::new(),
            options,
            versions,
            published: Versions::empty("arn:aws:test-readers"),
            neighbour: Arc::new(Mutex::new(OtherSecret::new(plan.neighbour, now))),
            before_newest_write: None,
            provider,
            person: Person::new(&plan.user_actions),
            original_text: document.to_string(),
            expected: Expected { note: json!("as created"), consent: 0 },
            runs: Vec::new(),
            faults_left: 0,
            jumps_left: 0,
            sent_again_after_loss: BTreeSet::new(),
            versions_by_person: 0,
            replaying: false,
            log: None,
            time,
        };
        if plan.refreshed_before {
            world.later_run(None)?;
            // The new token lives for an hour, and the margin is 15 minutes.
            world.time.set(obtained + TimeDelta::minutes(46));
            world.runs.clear();
        }
        let processes = plan.runs.iter().map(|(_, process)| process + 1).max().unwrap_or(0);
        world.processes = (0..processes).map(|process| world.new_process(process)).collect();
        world.runs = plan.runs.iter().map(|(mode, process)| world.tracked_run(mode, *process)).collect();
        (world.faults_left, world.jumps_left) = (plan.faults, plan.jumps);
        Ok(world)
    }

    /// A new world after these events.
    pub fn replayed(plan: &Arc<Plan>, events: &[Event]) -> Result<Self, BrokenPromise> {
        let mut world = Self::new(plan)?;
        world.replaying = true;
        for event in events {
            world.apply(*event)?;
        }
        world.replaying = false;
        Ok(world)
    }

    /// The events that can happen next. None if all runs have ended and the person is done.
    pub fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let running = self.runs.iter().filter(|tracked| matches!(tracked.progress, Progress::Running(_))).count();
        let mut startable: Vec<(&Mode, Option<Search>)> = Vec::new();
        for (run, tracked) in self.runs.iter().enumerate() {
            match &tracked.progress {
                Progress::NotStarted => {
                    let first_of_process = !self.runs[..run].iter().any(|other| other.process == tracked.process);
                    let earlier_ended = self.runs[..run]
                        .iter()
                        .filter(|other| other.process == tracked.process)
                        .all(|other| matches!(other.progress, Progress::Ended(_) | Progress::Crashed));
                    let kind = (&tracked.mode, tracked.sweep);
                    // Runs in new processes with the same mode are alike: one of them is enough.
                    if running < self.plan.at_once && earlier_ended && !(first_of_process && startable.contains(&kind))
                    {
                        if first_of_process {
                            startable.push(kind);
                        }
                        events.push(Event::Starts(run));
                    }
                }
                Progress::Running(state) => self.events_of(run, state, &mut events),
                Progress::Ended(_) | Progress::Crashed => {}
            }
        }
        if self.person.next().is_some() {
            events.push(Event::PersonActs);
        }
        if !events.is_empty() && self.jumps_left > 0 {
            events.extend((0..self.plan.jump_lengths.len()).map(Event::ClockJumps));
        }
        events
    }

    fn events_of(&self, run: usize, state: &RunState, events: &mut Vec<Event>) {
        let RunState::Waits { steps, pause_ends_at, .. } = state else { unreachable!("it has ended") };
        let is_over = |step: &WaitingStep| step.until.is_some_and(|until| self.time.now() >= until);
        if steps.iter().any(is_over) {
            events.push(Event::TimesOut { run, late: false });
            if steps.iter().any(|step| is_over(step) && writes(&step.step)) {
                // The request was sent before the time limit.
                events.push(Event::TimesOut { run, late: true });
            }
            if self.faults_left > 0 {
                events.push(Event::StepFails(run, 0, Fault::CrashBefore));
            }
            return;
        }
        for (index, step) in steps.iter().enumerate() {
            self.events_of_step(run, index, &step.step, events);
        }
        if pause_ends_at.is_some() {
            events.push(Event::Wakes(run));
        }
    }

    fn events_of_step(&self, run: usize, index: usize, step: &Step, events: &mut Vec<Event>) {
        let (writes, exchanges) = (writes(step), matches!(step, Step::Exchange(_)));
        events.push(Event::StepSucceeds(run, index));
        if self.faults_left == 0 {
            return;
        }
        let mut fails = |fault| events.push(Event::StepFails(run, index, fault));
        // A process with several steps crashes before any of them.
        if index == 0 {
            fails(Fault::CrashBefore);
        }
        fails(Fault::RequestLost);
        if writes || exchanges {
            fails(Fault::CrashAfter);
            fails(Fault::ResponseLost);
        }
        if !exchanges {
            fails(Fault::Denied);
            // Many writes at once are what a sweep adds.
            if self.runs[run].sweep.is_some() {
                fails(Fault::Throttled);
            }
        }
        if matches!(step, Step::Put { label: Label::Staged | Label::Kept, .. }) {
            fails(Fault::Outage);
        }
        if let Some(before) = &self.before_newest_write
            && matches!(step, Step::Get(_) | Step::GetBatch | Step::Find | Step::List)
            && digest(&read_reply(before, step)) != digest(&read_reply(&self.versions, step))
        {
            fails(Fault::StaleRead);
        }
    }

    /// Applies an event, and checks the promises of each step.
    pub fn apply(&mut self, event: Event) -> Result<(), BrokenPromise> {
        let description = self.log.is_some().then(|| self.describe(event));
        if let Some(log) = &mut self.log {
            log.extend(description);
        }
        match event {
            Event::Starts(run) => {
                let (task, process) = (self.runs[run].task(), self.runs[run].process);
                seed(run, 0);
                let deadline = self.time.now() + TIMEOUT;
                let (started, state) = Run::start(&self.processes[process], task, deadline);
                let tracked = &mut self.runs[run];
                tracked.run = Some(started);
                tracked.deadline = if tracked.sweep.is_some() { deadline - SWEEP_RESPONSE } else { deadline };
                self.record_state(run, state, 0)
            }
            Event::StepSucceeds(run, index) => {
                let step = self.step(run, index);
                let reply = self.perform(run, &step.step)?;
                self.resume(run, Some((&step, reply)))
            }
            Event::StepFails(run, index, fault) => {
                self.faults_left = self.faults_left.saturating_sub(1);
                self.runs[run].faults += 1;
                let waiting = self.step(run, index);
                let step = &waiting.step;
                match fault {
                    Fault::CrashBefore => {
                        self.crash(run);
                        Ok(())
                    }
                    Fault::CrashAfter => {
                        self.perform(run, step)?;
                        self.crash(run);
                        Ok(())
                    }
                    Fault::RequestLost => self.resume(run, Some((&waiting, unavailable_reply(step)))),
                    Fault::ResponseLost => {
                        self.perform(run, step)?;
                        if matches!(step, Step::Exchange(_)) {
                            self.provider.move_tokens(TokenLocation::InRun { run }, TokenLocation::Lost);
                        }
                        self.resume(run, Some((&waiting, unavailable_reply(step))))
                    }
                    Fault::Outage => {
                        if let Some(until) = waiting.until {
                            self.time.set(until - TimeDelta::milliseconds(1));
                        }
                        self.resume(run, Some((&waiting, unavailable_reply(step))))
                    }
                    Fault::Denied => self.resume(run, Some((&waiting, denied_reply(step)))),
                    Fault::Throttled => self.resume(run, Some((&waiting, throttled_reply(step)))),
                    Fault::StaleRead => {
                        let reply = read_reply(self.before_newest_write.as_ref().expect("a write before"), step);
                        self.runs[run].calls += 1;
                        self.resume(run, Some((&waiting, reply)))
                    }
                }
            }
            Event::TimesOut { run, late } => {
                if late {
                    let now = self.time.now();
                    for step in self.steps(run) {
                        if step.until.is_some_and(|until| now >= until) && writes(&step.step) {
                            self.perform(run, &step.step)?;
                        }
                    }
                }
                self.resume(run, None)
            }
            Event::Wakes(run) => {
                if let Progress::Running(RunState::Waits { pause_ends_at: Some(until), .. }) = self.runs[run].progress
                    && until > self.time.now()
                {
                    self.time.set(until);
                }
                self.resume(run, None)
            }
            Event::PersonActs => self.person_acts(),
            Event::ClockJumps(length) => {
                self.jumps_left = self.jumps_left.saturating_sub(1);
                self.time.set(self.time.now() + self.plan.jump_lengths[length]);
                self.before_newest_write = None;
                if self.plan.jump_lengths[length] >= PAST_A_DAY {
                    self.versions.remove_old(self.time.now());
                    self.published.remove_old(self.time.now());
                }
                Ok(())
            }
        }
    }

    fn steps(&self, run: usize) -> Vec<WaitingStep> {
        match &self.runs[run].progress {
            Progress::Running(RunState::Waits { steps, .. }) => steps.clone(),
            other => unreachable!("run {run} is not at a step: {other:?}"),
        }
    }

    fn step(&self, run: usize, index: usize) -> WaitingStep {
        self.steps(run).swap_remove(index)
    }

    fn resume(&mut self, run: usize, reply: Option<(&WaitingStep, Reply)>) -> Result<(), BrokenPromise> {
        let reply_digest = reply.as_ref().map_or(0, |(step, reply)| digest_of(&(step.number(), digest(reply))));
        let response = reply.as_ref().map(|(_, reply)| reply);
        let granted =
            matches!(response, Some(Reply::Response(TokenResponse::Issued(_) | TokenResponse::Unreadable(_))));
        let tracked = &mut self.runs[run];
        tracked.got_tokens |= granted;
        seed(run, tracked.replies_digest);
        let state = tracked.run.as_mut().expect("a run that has not ended").resume(reply);
        if granted {
            promises::check_tokens_are_put_next(run, &state, self.plan.pacing)?;
        }
        self.record_state(run, state, reply_digest)
    }

    fn record_state(&mut self, run: usize, state: RunState, reply_digest: u64) -> Result<(), BrokenPromise> {
        let tracked = &mut self.runs[run];
        tracked.replies_digest = digest_of(&(tracked.replies_digest, reply_digest, self.time.now()));
        let RunState::Ended(end) = state else {
            if let RunState::Waits { result: Some(result), .. } = &state {
                self.check_result(run, result)?;
            }
            if let RunState::Waits { steps, .. } = &state
                && steps.iter().any(|step| matches!(step.step, Step::Exchange(_)))
            {
                self.runs[run].asked_at.get_or_insert(self.time.now());
            }
            self.runs[run].progress = Progress::Running(state);
            return Ok(());
        };
        if let Some(log) = &mut self.log {
            log.push(match &end.result {
                Some(Ok(report)) => format!("run {run} ends: {:?}", report.outcome),
                Some(Err(error)) => format!("run {run} ends: {}: {error}", error.error_type().as_str()),
                None => format!("run {run} ends: it did not begin"),
            });
        }
        tracked.run = None;
        if let Some(result) = &end.result {
            self.check_result(run, result)?;
        }
        promises::check_sweep_end(self, run, &end)?;
        self.runs[run].progress = Progress::Ended(end);
        Ok(())
    }

    /// Checks the result for the token secret when it is known. A sweep may end later.
    fn check_result(&mut self, run: usize, result: &Result<Completed, Error>) -> Result<(), BrokenPromise> {
        let tracked = &mut self.runs[run];
        if std::mem::replace(&mut tracked.has_result, true) {
            return Ok(());
        }
        let process = tracked.process;
        let holds_tokens =
            self.provider.granted_requests.iter().any(|request| request.location == TokenLocation::InRun { run });
        // It may drop tokens that need no refresh token: if it fails, or if another run's were requested later.
        let may_drop = !self.plan.behaviour.issues_refresh_tokens();
        let must_be_stored =
            result.as_ref().is_ok_and(|completed| !may_drop || completed.outcome == Outcome::Refreshed);
        if holds_tokens && must_be_stored {
            return Err(BrokenPromise::new(format!(
                "run {run} ended without an error, but did not store the tokens that it received"
            )));
        }
        let location = if may_drop { TokenLocation::Lost } else { TokenLocation::InMemory { process } };
        self.provider.move_tokens(TokenLocation::InRun { run }, location);
        promises::check_run_end(self, run, result)
    }

    fn tracked_run(&self, mode: &Mode, process: usize) -> TrackedRun {
        let sweeps = *mode == Mode::Scheduled && self.plan.sweepers.contains(&process);
        TrackedRun::new(mode, sweeps.then_some(self.plan.search), process)
    }

    pub fn neighbour(&self) -> MutexGuard<'_, OtherSecret> {
        self.neighbour.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_process(&self, process: usize) -> Process {
        let mut options = self.options.clone();
        match self.plan.second_function {
            _ if process.is_multiple_of(2) => {}
            Difference::None => {}
            Difference::Client => {
                options.client.extra_parameters = Some(vec![("function".to_owned(), "second".into())]);
            }
            Difference::Claim => {
                options.claim = match options.claim {
                    ClaimMode::Always => ClaimMode::Never,
                    ClaimMode::Never => ClaimMode::Always,
                };
            }
        }
        Process::new(&self.time, &options, &self.neighbour, self.plan.pacing)
    }

    fn crash(&mut self, run: usize) {
        let process = self.runs[run].process;
        self.runs[run].run = None;
        self.runs[run].progress = Progress::Crashed;
        self.processes[process] = self.new_process(process);
        for location in [TokenLocation::InRun { run }, TokenLocation::InMemory { process }] {
            self.provider.move_tokens(location, TokenLocation::Lost);
        }
    }

    /// Does the step that a run waits for.
    fn perform(&mut self, run: usize, step: &Step) -> Result<Reply, BrokenPromise> {
        if !matches!(step, Step::Exchange(_)) {
            self.runs[run].calls += 1;
        }
        match step {
            Step::Get(_) | Step::GetBatch | Step::Find | Step::List => Ok(read_reply(&self.versions, step)),
            Step::Put { id, label, body } => {
                promises::check_put(self, run, *label)?;
                let (before, count) = (self.versions_if_reads_lag(), self.versions.list(true).len());
                let done = self.versions.put(id, body, Some(&[label.as_str().to_owned()]), self.time.now());
                if self.versions.list(true).len() > count {
                    self.runs[run].versions_put += 1;
                }
                self.after_write(before)?;
                if done.is_ok() {
                    if let Some((refresh, access)) = stored_tokens(body.expose()) {
                        let in_time = self.time.now() < self.runs[run].deadline;
                        let claimed =
                            (0..).zip(&self.runs).filter(|(_, tracked)| tracked.has_claimed && tracked.run.is_some());
                        let claimed = claimed.fold(0, |bits, (run, _)| bits | 1_u32 << run);
                        self.provider.stored(&refresh, &access, in_time.then_some(run), claimed);
                    } else if *label == Label::Claim {
                        self.runs[run].has_claimed = true;
                    }
                }
                Ok(Reply::Done(done))
            }
            Step::OnPublished(step) => self.perform_on_published(run, step),
            Step::Move { label, from, to } => {
                promises::check_move(run, from.as_ref(), to)?;
                if *label == Label::Current {
                    promises::check_published_before_current(self, to)?;
                    promises::check_tokens_are_not_older(self, run, from.as_ref(), to)?;
                }
                let before = self.versions_if_reads_lag();
                let done = self.versions.move_label(label.as_str(), from.as_ref(), to);
                self.after_write(before)?;
                Ok(Reply::Done(done))
            }
            Step::Exchange(exchange) => {
                let refresh = exchange.grant.identity().into_owned();
                let access = exchange.access_token.as_ref().map(|access| access.expose().to_owned());
                promises::check_exchange(self, run, &refresh, access.as_deref())?;
                let (status, body, pair) = self.provider.exchange(&refresh);
                let replies_digest = self.runs[run].replies_digest;
                self.runs[run].replies_digest = digest_of(&(replies_digest, pair));
                if let Some(pair) = pair {
                    let asked_at = self.runs[run].asked_at.expect("a run that has reached its exchange");
                    self.provider.record(&refresh, access.as_deref(), pair, run, asked_at);
                }
                Ok(Reply::Response(response::read(status, None, body.as_bytes(), self.time.now(), &[])))
            }
        }
    }

    /// Does a step on the published secret.
    fn perform_on_published(&mut self, run: usize, step: &Step) -> Result<Reply, BrokenPromise> {
        let now = self.time.now();
        match step {
            Step::Put { id, label, body } => {
                let count = self.published.list(true).len();
                let done = self.published.put(id, body, Some(&[label.as_str().to_owned()]), now);
                self.runs[run].publications_put += self.published.list(true).len() - count;
                promises::check_published_members(self)?;
                Ok(Reply::Done(done))
            }
            Step::Move { label, from, to } => {
                promises::check_move(run, from.as_ref(), to)?;
                let before = self.published_text();
                let done = self.published.move_label(label.as_str(), from.as_ref(), to);
                promises::check_published_members(self)?;
                promises::check_publication_is_not_older(self, before.as_deref())?;
                Ok(Reply::Done(done))
            }
            step => Ok(read_reply(&self.published, step)),
        }
    }

    fn versions_if_reads_lag(&self) -> Option<Versions> {
        self.plan.stale_reads.then(|| self.versions.clone())
    }

    fn after_write(&mut self, before: Option<Versions>) -> Result<(), BrokenPromise> {
        if before.as_ref() != Some(&self.versions) {
            self.before_newest_write = before;
        }
        if self.replaying { Ok(()) } else { promises::check_current_version(self) }
    }

    pub fn processes(&self) -> usize {
        self.processes.len()
    }

    /// The values of `living_processes_first` to check. Both make a difference only if a process has unstored tokens.
    pub fn later_run_orders(&self) -> Vec<bool> {
        let in_memory = self
            .provider
            .granted_requests
            .iter()
            .any(|request| matches!(request.location, TokenLocation::InMemory { .. }));
        if in_memory { vec![true, false] } else { vec![false] }
    }

    /// Whether the provider revoked a grant because the person consented again later.
    pub fn grant_ended_by_person(&self, consent: usize) -> bool {
        self.plan.consent_ends_others && self.provider.pairs.iter().any(|pair| pair.consent > consent)
    }

    /// How many times the clock has jumped.
    pub fn jumps(&self) -> usize {
        self.plan.jumps - self.jumps_left
    }

    /// Whether a run may have ended between its two puts of the later one of two responses.
    pub fn may_be_interrupted(&self) -> bool {
        self.jumps() > 1 || self.runs.iter().any(|tracked| tracked.got_tokens && tracked.faults > 0)
    }

    /// How many faults and clock jumps have happened.
    pub fn faults_and_jumps(&self) -> usize {
        self.plan.faults + self.plan.jumps - self.faults_left - self.jumps_left
    }

    /// The current text of the published secret, if it has one.
    pub fn published_text(&self) -> Option<String> {
        self.published.get(None, None).ok().map(|version| version.body.expose().to_owned())
    }

    pub fn current_text(&self) -> String {
        self.versions.get(None, None).expect("a current version").body.expose().to_owned()
    }

    fn person_acts(&mut self) -> Result<(), BrokenPromise> {
        let current = self.current_text();
        let before = self.versions_if_reads_lag();
        match self.person.act(&current, &self.original_text) {
            PersonStep::Read => return Ok(()),
            PersonStep::Save { mut text, consents } => {
                if consents {
                    let pair = self.provider.consent();
                    let mut document: Value = serde_json::from_str(&text).expect("a document");
                    document["accessToken"] = json!(self.provider.pairs[pair].access);
                    document["refreshToken"] = json!(self.provider.pairs[pair].refresh);
                    document["expiresAt"] = json!((self.time.now() + TimeDelta::hours(1)).timestamp_millis());
                    text = document.to_string();
                }
                let id = version_id(1000 + self.versions_by_person);
                self.versions.put(&id, &text.into(), None, self.time.now()).expect("room for the person's version");
                self.versions_by_person += 1;
            }
            PersonStep::RollBack => {
                // It fails if there is no AWSPREVIOUS.
                let _ = self.versions.roll_back();
            }
        }
        let document: Value = serde_json::from_str(&self.current_text()).expect("a document");
        let (refresh, access) = tokens(&self.current_text()).expect("tokens");
        let pair = self.provider.find(&refresh, &access).expect("tokens that were issued");
        self.expected = Expected { note: document["note"].clone(), consent: self.provider.pairs[pair].consent };
        self.after_write(before)
    }

    /// One run from start to end, alone and without faults: in this process, or in a new one. Returns the run's index.
    pub fn later_run(&mut self, process: Option<usize>) -> Result<usize, BrokenPromise> {
        let process = process.unwrap_or_else(|| {
            self.processes.push(Process::new(&self.time, &self.options, &self.neighbour, self.plan.pacing));
            self.processes.len() - 1
        });
        let run = self.runs.len();
        let is_new = process >= self.plan.runs.iter().map(|(_, process)| process + 1).max().unwrap_or(0);
        let mut tracked = self.tracked_run(&Mode::Scheduled, process);
        // Sweeps finish what sweeps left.
        if is_new && !self.plan.sweepers.is_empty() {
            tracked.sweep = Some(self.plan.search);
        }
        self.runs.push(tracked);
        self.before_newest_write = None;
        self.apply(Event::Starts(run))?;
        for _ in 0..300 {
            match &self.runs[run].progress {
                Progress::Running(RunState::Waits { steps, .. }) if !steps.is_empty() => {
                    self.apply(Event::StepSucceeds(run, 0))?;
                }
                Progress::Running(RunState::Waits { .. }) => self.apply(Event::Wakes(run))?,
                _ => return Ok(run),
            }
        }
        Err(BrokenPromise::new("a run alone does not end".to_owned()))
    }

    /// A digest of everything that can still make a difference.
    pub fn digest(&self) -> u128 {
        let mut halves = [DefaultHasher::new(), DefaultHasher::new()];
        halves[1].write_u8(1);
        let text = |versions: &Versions| serde_json::to_vec(versions).expect("JSON");
        let neighbour = (self.plan.neighbour != Neighbour::None).then(|| text(self.neighbour().versions()));
        let versions =
            (text(&self.versions), text(&self.published), self.before_newest_write.as_ref().map(text), neighbour);
        for half in &mut halves {
            versions.hash(half);
            self.provider.hash(half);
            self.person.hash(half);
            self.expected.note.as_str().hash(half);
            self.expected.consent.hash(half);
            (self.time.now(), self.faults_left, self.jumps_left, &self.sent_again_after_loss, self.versions_by_person)
                .hash(half);
            for tracked in &self.runs {
                // `end` needs this of every run.
                (tracked.got_tokens && tracked.faults > 0).hash(half);
                match &tracked.progress {
                    Progress::NotStarted => 0.hash(half),
                    Progress::Crashed => 1.hash(half),
                    // Its process may have unstored tokens.
                    Progress::Ended(_) if tracked.result().is_some_and(Result::is_err) && tracked.got_tokens => {
                        (2, tracked.replies_digest).hash(half);
                    }
                    // Its process remembers the tokens that were left over, and the versions that were checked.
                    Progress::Ended(end) if tracked.sweep.is_some() => {
                        let result = end.result.as_ref();
                        let version = result.and_then(|result| result.as_ref().ok()).map(|report| &report.version_id);
                        (5, result.is_none(), version).hash(half);
                    }
                    Progress::Ended(_) => 3.hash(half),
                    Progress::Running(_) => {
                        let costs = (tracked.calls, tracked.versions_put, tracked.publications_put);
                        (4, tracked.replies_digest, costs, tracked.faults, tracked.has_claimed).hash(half);
                        tracked.has_result.hash(half);
                    }
                }
            }
        }
        u128::from(halves[0].finish()) << 64 | u128::from(halves[1].finish())
    }

    fn describe(&self, event: Event) -> String {
        let steps = |run: usize| match &self.runs[run].progress {
            Progress::Running(RunState::Waits { steps, .. }) => steps.iter().map(|step| describe(&step.step)).collect(),
            _ => Vec::new(),
        };
        match event {
            Event::Starts(run) => format!("run {run} starts ({:?})", self.runs[run].task()),
            Event::StepSucceeds(run, index) => format!("run {run}: {}", steps(run)[index]),
            Event::StepFails(run, index, fault) => format!("run {run}: {}: {fault:?}", steps(run)[index]),
            Event::TimesOut { run, late: false } => format!("run {run}: {}: timed out", steps(run).join(", ")),
            Event::TimesOut { run, late: true } => {
                format!("run {run}: {}: done after the timeout", steps(run).join(", "))
            }
            Event::Wakes(run) => format!("run {run} resumes after a pause"),
            Event::PersonActs => format!("the person: {:?}", self.person.next().expect("an action")),
            Event::ClockJumps(length) => {
                format!("the clock jumps by {} ms", self.plan.jump_lengths[length].num_milliseconds())
            }
        }
    }
}

fn writes(step: &Step) -> bool {
    match step {
        Step::OnPublished(step) => writes(step),
        step => matches!(step, Step::Put { .. } | Step::Move { .. }),
    }
}

/// Makes random numbers the same whenever the same run reaches the same point.
fn seed(run: usize, replies_digest: u64) {
    fastrand::seed(digest_of(&(run, replies_digest)));
}

/// The refresh token and the access token of a document, or of the response in a record. `None` if the text has none.
pub fn stored_tokens(text: &str) -> Option<(String, String)> {
    let document: Value = serde_json::from_str(text).ok()?;
    document.get("response").map_or_else(|| tokens(text), |response| Provider::tokens_of(response.as_str()?))
}

/// The refresh token and the access token of a document. `None` if the text is not a document with both.
///
/// With a `grantType`, the identity of the grant, and the access token or an empty text, as in a `TokenPair`.
pub fn tokens(text: &str) -> Option<(String, String)> {
    let document: Value = serde_json::from_str(text).ok()?;
    let text = |name: &str| document.get(name)?.as_str().map(str::to_owned);
    match text("grantType") {
        Some(grant_type) => Some((identity_of(&grant_type), text("accessToken").unwrap_or_default())),
        None => Some((text("refreshToken")?, text("accessToken")?)),
    }
}
