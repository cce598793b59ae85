//! A small world as a value that can be rebuilt: one secret, one provider, one person, processes and their runs, one
//! clock. Says what may happen next, and makes it happen. What must hold is told in `promises` and `end`, what is tried
//! in `explorer`.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use token_refresher::{
    oauth::response::{self, TokenResponse},
    protocol::{Mode, Options},
    store::{Label, VersionId, versions::Versions},
    token_secret::client_settings::ClientSettings,
};

use crate::{
    member::{Event, Fault, Member, Stage},
    person::{Act, Person},
    plan::{Plan, TIMEOUT},
    promises::{self, Broken},
    provider::{Fate, Provider},
    replies::{denied, describe, digest, digest_of, lost, read},
    run::{Process, READERS, Reply, Run, Standing, Step, Time},
};

/// What the secret must say in the end, whatever the runs do.
#[derive(Clone, Debug, Hash)]
pub struct Wanted {
    /// The member that only people change.
    pub note: Value,
    /// The consent whose tokens people put there last.
    pub consent: usize,
}

pub struct World {
    pub plan: Arc<Plan>,
    pub time: Time,
    options: Options,
    pub versions: Versions,
    /// The secret that readers read.
    pub readers: Versions,
    /// The versions before the newest write, as long as a read may still see them.
    before: Option<Versions>,
    pub provider: Provider,
    person: Person,
    first_text: String,
    pub wanted: Wanted,
    processes: Vec<Process>,
    pub members: Vec<Member>,
    faults_left: usize,
    leaps_left: usize,
    /// The consents of which a token was sent again after an answer had been lost.
    pub gambled: BTreeSet<usize>,
    /// How many versions people made.
    pub versions_of_people: usize,
    /// Whether what happens has happened before, and kept every promise.
    known: bool,
    /// What has happened, in words, where someone wants to read it.
    pub story: Option<Vec<String>>,
}

fn version_id(n: usize) -> VersionId {
    format!("00000000-0000-4000-8000-{n:012}").into()
}

impl World {
    pub fn new(plan: &Arc<Plan>) -> Result<Self, Broken> {
        let now: DateTime<Utc> = "2026-01-01T12:00:00.250Z".parse().expect("a time");
        let mut provider = Provider::new(plan.manners, plan.consent_ends_others);
        let first = provider.consent();
        let issue = &provider.issues[first];
        let obtained = now - plan.age;
        let expires = if plan.refreshed_before { obtained } else { now + plan.expires_in };
        let mut document = json!({
            "note": "as created",
            "accessToken": issue.access,
            "refreshToken": issue.refresh,
            "expiresAt": expires.timestamp_millis(),
            "tokenEndpoint": "https://id.example/token",
            "clientId": "client",
            "clientSecret": "the client's secret",
        });
        if plan.tells_readers() {
            document["publishTo"] = json!(READERS);
        }
        let mut versions =
            Versions::create("arn:aws:test", &version_id(1), &document.to_string().into(), obtained).expect("room");
        for n in 0..plan.other_versions {
            versions.put(&version_id(n + 2), &"{}".into(), Some(&[]), obtained).expect("room");
        }
        let options =
            Options { refresh_margin: Duration::from_mins(15), claim: plan.claim, client: ClientSettings::default() };
        let time = Time::starting_at(if plan.refreshed_before { obtained } else { now });
        let mut world = Self {
            plan: Arc::clone(plan),
            processes: Vec::new(),
            options,
            versions,
            readers: Versions::empty("arn:aws:test-readers"),
            before: None,
            provider,
            person: Person::new(&plan.deeds),
            first_text: document.to_string(),
            wanted: Wanted { note: json!("as created"), consent: 0 },
            members: Vec::new(),
            faults_left: 0,
            leaps_left: 0,
            gambled: BTreeSet::new(),
            versions_of_people: 0,
            known: false,
            story: None,
            time,
        };
        if plan.refreshed_before {
            world.later_run(None)?;
            // Due an hour later, less the margin.
            world.time.set(obtained + TimeDelta::minutes(46));
            world.members.clear();
        }
        let processes = plan.runs.iter().map(|(_, process)| process + 1).max().unwrap_or(0);
        world.processes = (0..processes).map(|_| Process::new(&world.time, &world.options)).collect();
        world.members = plan.runs.iter().map(|(mode, process)| Member::new(mode, *process)).collect();
        (world.faults_left, world.leaps_left) = (plan.faults, plan.leaps);
        Ok(world)
    }

    /// The same at the same moment, rebuilt.
    pub fn rebuilt(plan: &Arc<Plan>, events: &[Event]) -> Result<Self, Broken> {
        let mut world = Self::new(plan)?;
        world.known = true;
        for event in events {
            world.happen(*event)?;
        }
        world.known = false;
        Ok(world)
    }

    /// All that may happen next. Nothing: all runs have ended, and the person is done.
    pub fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let on_their_way = self.members.iter().filter(|member| matches!(member.standing, Stage::OnItsWay(_))).count();
        let mut beginning: Vec<&Mode> = Vec::new();
        for (run, member) in self.members.iter().enumerate() {
            match &member.standing {
                Stage::NotBegun => {
                    let alone = !self.members[..run].iter().any(|other| other.process == member.process);
                    let earlier_ended = self.members[..run]
                        .iter()
                        .filter(|other| other.process == member.process)
                        .all(|other| matches!(other.standing, Stage::Ended(_) | Stage::Crashed));
                    // Of those that are alike, one.
                    if on_their_way < self.plan.at_once
                        && earlier_ended
                        && !(alone && beginning.contains(&&member.mode))
                    {
                        if alone {
                            beginning.push(&member.mode);
                        }
                        events.push(Event::Begins(run));
                    }
                }
                Stage::OnItsWay(standing) => self.events_of(run, standing, &mut events),
                Stage::Ended(_) | Stage::Crashed => {}
            }
        }
        if self.person.next().is_some() {
            events.push(Event::PersonActs);
        }
        if !events.is_empty() && self.leaps_left > 0 {
            events.extend((0..self.plan.leap_lengths.len()).map(Event::Leaps));
        }
        events
    }

    fn events_of(&self, run: usize, standing: &Standing, events: &mut Vec<Event>) {
        let (step, until) = match standing {
            Standing::Asks(step, until) => (step, *until),
            Standing::Sleeps(_) => return events.push(Event::Wakes(run)),
            Standing::Ended(_) => unreachable!("it is no longer on its way"),
        };
        let of_either = if let Step::OfReaders(step) = step { step } else { step };
        let writes = matches!(of_either, Step::Put { .. } | Step::Move { .. });
        let exchanges = matches!(step, Step::Exchange(_));
        if until.is_some_and(|until| self.time.now() >= until) {
            events.push(Event::TimesOut { run, late: false });
            if writes {
                // The request was on its way already.
                events.push(Event::TimesOut { run, late: true });
            }
            if self.faults_left > 0 {
                events.push(Event::Fails(run, Fault::CrashBefore));
            }
            return;
        }
        events.push(Event::Goes(run));
        if self.faults_left == 0 {
            return;
        }
        events.extend([Fault::CrashBefore, Fault::RequestLost].map(|fault| Event::Fails(run, fault)));
        if writes || exchanges {
            events.extend([Fault::CrashAfter, Fault::AnswerLost].map(|fault| Event::Fails(run, fault)));
        }
        if !exchanges {
            events.push(Event::Fails(run, Fault::Denied));
        }
        if matches!(step, Step::Put { label: Label::Staged, .. }) {
            events.push(Event::Fails(run, Fault::Outage));
        }
        if let Some(before) = &self.before
            && matches!(step, Step::Get(_) | Step::List)
            && digest(&read(before, step)) != digest(&read(&self.versions, step))
        {
            events.push(Event::Fails(run, Fault::Lags));
        }
    }

    /// Makes it happen.
    pub fn happen(&mut self, event: Event) -> Result<(), Broken> {
        let told = self.story.is_some().then(|| self.tell(event));
        if let Some(story) = &mut self.story {
            story.extend(told);
        }
        match event {
            Event::Begins(run) => {
                let (mode, process) = (self.members[run].mode.clone(), self.members[run].process);
                seed(run, 0);
                let deadline = self.time.now() + TIMEOUT;
                let (begun, standing) = Run::begin(&self.processes[process], mode, deadline);
                self.members[run].run = Some(begun);
                self.members[run].deadline = deadline;
                self.came_to(run, standing, 0)
            }
            Event::Goes(run) => {
                let reply = self.perform(run)?;
                self.go_on(run, Some(reply))
            }
            Event::Fails(run, fault) => {
                self.faults_left = self.faults_left.saturating_sub(1);
                self.members[run].faults += 1;
                let step = self.step(run);
                match fault {
                    Fault::CrashBefore => {
                        self.crash(run);
                        Ok(())
                    }
                    Fault::CrashAfter => {
                        self.perform(run)?;
                        self.crash(run);
                        Ok(())
                    }
                    Fault::RequestLost => self.go_on(run, Some(lost(&step))),
                    Fault::AnswerLost => {
                        self.perform(run)?;
                        if matches!(step, Step::Exchange(_)) {
                            self.provider.hand_over(Fate::Held { run }, Fate::Lost);
                        }
                        self.go_on(run, Some(lost(&step)))
                    }
                    Fault::Outage => {
                        if let Stage::OnItsWay(Standing::Asks(_, Some(until))) = &self.members[run].standing {
                            self.time.set(*until - TimeDelta::milliseconds(1));
                        }
                        self.go_on(run, Some(lost(&step)))
                    }
                    Fault::Denied => self.go_on(run, Some(denied(&step))),
                    Fault::Lags => {
                        let reply = read(self.before.as_ref().expect("a write before"), &step);
                        self.members[run].calls += 1;
                        self.go_on(run, Some(reply))
                    }
                }
            }
            Event::TimesOut { run, late } => {
                if late {
                    self.perform(run)?;
                }
                self.go_on(run, None)
            }
            Event::Wakes(run) => {
                if let Stage::OnItsWay(Standing::Sleeps(until)) = self.members[run].standing
                    && until > self.time.now()
                {
                    self.time.set(until);
                }
                self.go_on(run, None)
            }
            Event::PersonActs => self.person_acts(),
            Event::Leaps(length) => {
                self.leaps_left = self.leaps_left.saturating_sub(1);
                self.time.set(self.time.now() + self.plan.leap_lengths[length]);
                self.before = None;
                Ok(())
            }
        }
    }

    fn step(&self, run: usize) -> Step {
        match &self.members[run].standing {
            Stage::OnItsWay(Standing::Asks(step, _)) => step.clone(),
            other => unreachable!("run {run} asks for nothing: {other:?}"),
        }
    }

    fn go_on(&mut self, run: usize, reply: Option<Reply>) -> Result<(), Broken> {
        let told = reply.as_ref().map_or(0, digest);
        let granted = matches!(reply, Some(Reply::Answer(TokenResponse::Issued(_))));
        let member = &mut self.members[run];
        member.answered |= granted;
        seed(run, member.told);
        let standing = member.run.as_mut().expect("it is on its way").go_on(reply);
        if granted {
            promises::of_an_answer(run, &standing)?;
        }
        self.came_to(run, standing, told)
    }

    fn came_to(&mut self, run: usize, standing: Standing, told: u64) -> Result<(), Broken> {
        let member = &mut self.members[run];
        member.told = digest_of(&(member.told, told, self.time.now()));
        let Standing::Ended(result) = standing else {
            member.standing = Stage::OnItsWay(standing);
            return Ok(());
        };
        if let Some(story) = &mut self.story {
            story.push(match &*result {
                Ok(report) => format!("run {run} ends: {:?}", report.outcome),
                Err(error) => format!("run {run} ends: {}: {error}", error.error_type().as_str()),
            });
        }
        member.run = None;
        let process = member.process;
        let holds = self.provider.sendings.iter().any(|sending| sending.fate == Fate::Held { run });
        if holds && result.is_ok() {
            return Err(Broken::new(format!("run {run} ended well, and the tokens it obtained stand nowhere")));
        }
        self.provider.hand_over(Fate::Held { run }, Fate::InMemory { process });
        promises::of_a_run(self, run, &result)?;
        self.members[run].standing = Stage::Ended(result);
        Ok(())
    }

    fn crash(&mut self, run: usize) {
        let process = self.members[run].process;
        self.members[run].run = None;
        self.members[run].standing = Stage::Crashed;
        self.processes[process] = Process::new(&self.time, &self.options);
        for fate in [Fate::Held { run }, Fate::InMemory { process }] {
            self.provider.hand_over(fate, Fate::Lost);
        }
    }

    /// Does what a run asks for.
    fn perform(&mut self, run: usize) -> Result<Reply, Broken> {
        let step = self.step(run);
        if !matches!(step, Step::Exchange(_)) {
            self.members[run].calls += 1;
        }
        match &step {
            Step::Get(_) | Step::List => Ok(read(&self.versions, &step)),
            Step::Put { id, label, body } => {
                let (before, count) = (self.before_a_write(), self.versions.list(true).len());
                let done = self.versions.put(id, body, Some(&[label.as_str().to_owned()]), self.time.now());
                if self.versions.list(true).len() > count {
                    self.members[run].versions_put += 1;
                }
                self.wrote(before)?;
                if done.is_ok() {
                    if *label == Label::Claim {
                        self.members[run].claimed = true;
                    } else if let Some((refresh, access)) = tokens(body.expose()) {
                        let in_time = self.time.now() < self.members[run].deadline;
                        let claimed =
                            (0..).zip(&self.members).filter(|(_, member)| member.claimed && member.run.is_some());
                        let claimed = claimed.fold(0, |bits, (run, _)| bits | 1_u32 << run);
                        self.provider.stored(&refresh, &access, in_time.then_some(run), claimed);
                    }
                }
                Ok(Reply::Done(done))
            }
            Step::OfReaders(step) => self.perform_of_readers(run, step),
            Step::Move { from, to } => {
                promises::of_a_move(run, from, to)?;
                promises::of_telling_first(self, to)?;
                let before = self.before_a_write();
                let done = self.versions.move_label("AWSCURRENT", Some(from), to);
                self.wrote(before)?;
                Ok(Reply::Done(done))
            }
            Step::Exchange(exchange) => {
                let refresh = exchange.grant.identity().to_owned();
                let access = exchange.access_token.as_ref().map(|access| access.expose().to_owned());
                promises::of_a_sending(self, run, &refresh, access.as_deref())?;
                let (status, body, issue) = self.provider.exchange(&refresh);
                let told = self.members[run].told;
                self.members[run].told = digest_of(&(told, issue));
                if let Some(issue) = issue {
                    self.provider.record(&refresh, access.as_deref(), issue, Fate::Held { run });
                }
                Ok(Reply::Answer(response::read(status, None, body.as_bytes(), self.time.now(), &[])))
            }
        }
    }

    /// Does what a run asks for of the readers' secret.
    fn perform_of_readers(&mut self, run: usize, step: &Step) -> Result<Reply, Broken> {
        let now = self.time.now();
        match step {
            Step::Put { id, label, body } => {
                let count = self.readers.list(true).len();
                let done = self.readers.put(id, body, Some(&[label.as_str().to_owned()]), now);
                self.members[run].published += self.readers.list(true).len() - count;
                promises::of_the_readers(self)?;
                Ok(Reply::Done(done))
            }
            Step::Move { from, to } => {
                promises::of_a_move(run, from, to)?;
                let before = self.told_readers();
                let done = self.readers.move_label("AWSCURRENT", Some(from), to);
                promises::of_the_readers(self)?;
                promises::of_readers_who_were_told(self, before.as_deref())?;
                Ok(Reply::Done(done))
            }
            step => Ok(read(&self.readers, step)),
        }
    }

    fn before_a_write(&self) -> Option<Versions> {
        self.plan.lagging_reads.then(|| self.versions.clone())
    }

    fn wrote(&mut self, before: Option<Versions>) -> Result<(), Broken> {
        if before.as_ref() != Some(&self.versions) {
            self.before = before;
        }
        if self.known { Ok(()) } else { promises::of_the_current_version(self) }
    }

    pub fn processes(&self) -> usize {
        self.processes.len()
    }

    /// In which orders later runs are worth looking at: where a process holds tokens in its memory, it may or may not
    /// be the next to run.
    pub fn orders_of_later_runs(&self) -> Vec<bool> {
        let in_memory = self.provider.sendings.iter().any(|sending| matches!(sending.fate, Fate::InMemory { .. }));
        if in_memory { vec![true, false] } else { vec![false] }
    }

    /// Whether a grant ended because a person consented again, or by what they did since.
    pub fn ended_by_people(&self, consent: usize) -> bool {
        self.plan.consent_ends_others && self.provider.issues.iter().any(|issue| issue.consent > consent)
    }

    /// Whether a run was forced.
    pub fn was_forced(&self) -> bool {
        self.members.iter().any(|member| member.mode != Mode::Scheduled)
    }

    /// How many times the clock has leapt.
    pub fn leaps(&self) -> usize {
        self.plan.leaps - self.leaps_left
    }

    /// How many times something has gone wrong: faults, and leaps of the clock.
    pub fn mishaps(&self) -> usize {
        self.plan.faults + self.plan.leaps - self.faults_left - self.leaps_left
    }

    /// What readers are told, if anything.
    pub fn told_readers(&self) -> Option<String> {
        self.readers.get(None, None).ok().map(|version| version.body.expose().to_owned())
    }

    pub fn current_text(&self) -> String {
        self.versions.get(None, None).expect("a current version").body.expose().to_owned()
    }

    fn person_acts(&mut self) -> Result<(), Broken> {
        let current = self.current_text();
        let before = self.before_a_write();
        match self.person.act(&current, &self.first_text) {
            Act::Look => return Ok(()),
            Act::Save { mut text, consents } => {
                if consents {
                    let issue = self.provider.consent();
                    let mut document: Value = serde_json::from_str(&text).expect("a document");
                    document["accessToken"] = json!(self.provider.issues[issue].access);
                    document["refreshToken"] = json!(self.provider.issues[issue].refresh);
                    document["expiresAt"] = json!((self.time.now() + TimeDelta::hours(1)).timestamp_millis());
                    text = document.to_string();
                }
                let id = version_id(1000 + self.versions_of_people);
                self.versions.put(&id, &text.into(), None, self.time.now()).expect("room for a person's version");
                self.versions_of_people += 1;
            }
            Act::RollBack => {
                // Nothing to go back to: they leave it.
                let _ = self.versions.roll_back();
            }
        }
        let document: Value = serde_json::from_str(&self.current_text()).expect("a document");
        let (refresh, access) = tokens(&self.current_text()).expect("tokens");
        let issue = self.provider.find(&refresh, &access).expect("tokens that were issued");
        self.wanted = Wanted { note: document["note"].clone(), consent: self.provider.issues[issue].consent };
        self.wrote(before)
    }

    /// A run all alone, from its beginning to its end: without faults, and without anyone in between. In a fresh
    /// process, or in one of those that are there.
    pub fn later_run(&mut self, process: Option<usize>) -> Result<usize, Broken> {
        let process = process.unwrap_or_else(|| {
            self.processes.push(Process::new(&self.time, &self.options));
            self.processes.len() - 1
        });
        let run = self.members.len();
        self.members.push(Member::new(&Mode::Scheduled, process));
        self.before = None;
        self.happen(Event::Begins(run))?;
        for _ in 0..300 {
            match &self.members[run].standing {
                Stage::OnItsWay(Standing::Asks(..)) => self.happen(Event::Goes(run))?,
                Stage::OnItsWay(Standing::Sleeps(_)) => self.happen(Event::Wakes(run))?,
                _ => return Ok(run),
            }
        }
        Err(Broken::new("a run all alone does not come to an end".to_owned()))
    }

    /// A number for all that can still make a difference.
    pub fn digest(&self) -> u128 {
        let mut halves = [DefaultHasher::new(), DefaultHasher::new()];
        halves[1].write_u8(1);
        let text = |versions: &Versions| serde_json::to_vec(versions).expect("JSON");
        let versions = (text(&self.versions), text(&self.readers), self.before.as_ref().map(text));
        for half in &mut halves {
            versions.hash(half);
            self.provider.hash(half);
            self.person.hash(half);
            self.wanted.note.as_str().hash(half);
            self.wanted.consent.hash(half);
            (self.time.now(), self.faults_left, self.leaps_left, &self.gambled, self.versions_of_people).hash(half);
            for member in &self.members {
                // What `end` asks of a run, however it ended.
                (member.answered && member.faults > 0).hash(half);
                match &member.standing {
                    Stage::NotBegun => 0.hash(half),
                    Stage::Crashed => 1.hash(half),
                    // What it has left in memory.
                    Stage::Ended(result) if result.is_err() && member.answered => (2, member.told).hash(half),
                    Stage::Ended(_) => 3.hash(half),
                    Stage::OnItsWay(_) => {
                        let costs = (member.calls, member.versions_put, member.published);
                        (4, member.told, costs, member.faults, member.claimed).hash(half);
                    }
                }
            }
        }
        u128::from(halves[0].finish()) << 64 | u128::from(halves[1].finish())
    }

    fn tell(&self, event: Event) -> String {
        let asked = |run: usize| match &self.members[run].standing {
            Stage::OnItsWay(Standing::Asks(step, _)) => describe(step),
            _ => "nothing".to_owned(),
        };
        match event {
            Event::Begins(run) => format!("run {run} begins ({:?})", self.members[run].mode),
            Event::Goes(run) => format!("run {run}: {}", asked(run)),
            Event::Fails(run, fault) => format!("run {run}: {}: {fault:?}", asked(run)),
            Event::TimesOut { run, late: false } => format!("run {run}: {}: its time is up", asked(run)),
            Event::TimesOut { run, late: true } => format!("run {run}: {}: done when its time was up", asked(run)),
            Event::Wakes(run) => format!("run {run} goes on after a pause"),
            Event::PersonActs => format!("the person: {:?}", self.person.next().expect("a deed")),
            Event::Leaps(length) => {
                format!("the clock leaps by {} ms", self.plan.leap_lengths[length].num_milliseconds())
            }
        }
    }
}

/// Random numbers, the same whenever the same run comes to the same point.
fn seed(run: usize, told: u64) {
    fastrand::seed(digest_of(&(run, told)));
}

/// The tokens that a document holds, unless it is none.
pub fn tokens(text: &str) -> Option<(String, String)> {
    let document: Value = serde_json::from_str(text).ok()?;
    let text = |name: &str| document.get(name)?.as_str().map(str::to_owned);
    Some((text("refreshToken")?, text("accessToken")?))
}
