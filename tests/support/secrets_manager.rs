//! A Secrets Manager that follows AWS's documentation where the emulators do not: awsJson1.1 over a real socket, with
//! fault injection. It knows nothing of OAuth, and checks no signatures.
//!
//! Error messages are those of AWS if they are known. The texts of `LimitExceededException` and of a label moved from the
//! wrong version are ours.

#![allow(dead_code, reason = "each integration test uses a part of it")]

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use token_refresher::{
    clock::Clock,
    secret::Secret,
    store::{StoreError, VersionId, versions::Versions},
};
use tokio::{net::TcpListener, sync::oneshot};

/// The actions that it implements.
pub const GET: &str = "GetSecretValue";
pub const PUT: &str = "PutSecretValue";
pub const MOVE: &str = "UpdateSecretVersionStage";
pub const LIST: &str = "ListSecretVersionIds";
pub const CREATE: &str = "CreateSecret";
pub const BATCH: &str = "BatchGetSecretValue";

/// The server, on its own thread, so that a test can block while the server responds. It stops when it is dropped.
pub struct FakeSecretsManager {
    shared: Arc<Shared>,
    url: String,
    _stop: oneshot::Sender<()>,
}

/// The effect of a fault on a call.
#[derive(Clone, Copy, Debug)]
pub enum Effect {
    /// `ThrottlingException`. The call is not carried out.
    Throttle,
    /// `InternalServiceError`, status 500. The call is not carried out.
    InternalError,
    /// `AccessDeniedException`, as for a policy that does not allow the action.
    AccessDenied,
    /// `LimitExceededException`. The call is not carried out.
    LimitExceeded,
    /// `InvalidNextTokenException`, as for a page that has expired.
    InvalidNextToken,
    /// The connection is closed. The call is not carried out.
    DropBefore,
    /// A lost response: the call is carried out, then the connection is closed.
    DropAfter,
    /// The call is carried out late, even if the caller has disconnected by then.
    DelayBefore(Duration),
    /// The call is carried out at once. The response is late.
    DelayAfter(Duration),
    /// A read returns the state before the last so many writes of the secret.
    StaleRead(usize),
}

/// An [`Effect`] and the calls that it affects: by default the next one.
///
/// A call counts for every fault that it matches. If several faults apply, the one that was added first takes effect.
pub struct Fault {
    matches: Box<dyn Fn(&Call) -> bool + Send>,
    after: usize,
    times: usize,
    effect: Effect,
}

impl Fault {
    /// Affects calls of one action.
    pub fn on(action: &'static str, effect: Effect) -> Self {
        Self::on_any(effect).when(move |call| call.action == action)
    }

    /// Affects calls of any action.
    pub fn on_any(effect: Effect) -> Self {
        Self { matches: Box::new(|_| true), after: 0, times: 1, effect }
    }

    /// Affects only calls that also match this condition.
    pub fn when(self, matches: impl Fn(&Call) -> bool + Send + 'static) -> Self {
        let before = self.matches;
        Self { matches: Box::new(move |call| before(call) && matches(call)), ..self }
    }

    /// Lets so many calls pass first: `after(2)` affects the third call from now on.
    pub fn after(self, calls: usize) -> Self {
        Self { after: calls, ..self }
    }

    /// Affects so many calls.
    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    /// Affects all calls from then on.
    pub fn always(self) -> Self {
        self.times(usize::MAX)
    }
}

/// A call as it arrived.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Call {
    #[serde(skip)]
    pub action: String,
    pub secret_id: String,
    pub name: String,
    pub version_id: Option<String>,
    pub version_stage: Option<String>,
    pub version_stages: Option<Vec<String>>,
    pub client_request_token: Option<String>,
    pub remove_from_version_id: Option<String>,
    pub move_to_version_id: Option<String>,
    pub include_deprecated: bool,
    pub max_results: Option<usize>,
    pub next_token: Option<String>,
    pub secret_id_list: Vec<String>,
    pub filters: Vec<Filter>,
    #[serde(deserialize_with = "secret")]
    pub secret_string: Option<Secret>,
}

/// What a batch searches for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Filter {
    pub key: String,
    pub values: Vec<String>,
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(Secret::from))
}

impl FakeSecretsManager {
    /// Starts a server with the machine's clock.
    pub async fn start() -> Self {
        Self::start_with(Clock::system()).await
    }

    /// Starts a server with this clock. The waits of [`Effect::DelayBefore`] and [`Effect::DelayAfter`] use it too.
    pub async fn start_with(clock: Clock) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound socket"));
        let listener = listener.into_std().expect("a socket");
        let state = State { lost_move: "InvalidParameterException", ..State::default() };
        let shared = Arc::new(Shared { clock, state: Mutex::new(state) });
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a socket");
                tokio::select! {
                    () = serve(&listener, &served) => (),
                    _ = stopped => (),
                }
            });
        });
        Self { shared, url, _stop: stop }
    }

    /// The access key id of the last call.
    pub fn access_key(&self) -> Option<String> {
        self.state().access_key.clone()
    }

    /// Its address: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Moves the server's time ahead of the clock.
    pub fn advance(&self, duration: Duration) {
        self.state().ahead += TimeDelta::from_std(duration).expect("a duration of some years at most");
    }

    /// The server's time.
    pub fn now(&self) -> DateTime<Utc> {
        let state = self.state();
        self.shared.now(&state)
    }

    /// Creates a secret with a first version.
    pub fn create(&self, name: &str, json: impl fmt::Display) -> VersionId {
        self.create_aged(name, json, Duration::ZERO)
    }

    /// Creates a secret whose first version has this age.
    pub fn create_aged(&self, name: &str, json: impl fmt::Display, age: Duration) -> VersionId {
        self.create_empty(name);
        let id = random_id();
        self.edit(name, |versions, now| versions.put(&id, &json.to_string().into(), None, now - age))
            .expect("a first version");
        id
    }

    /// Creates a secret without a value.
    pub fn create_empty(&self, name: &str) {
        let before = self.state().secrets.insert(name.to_owned(), Held::new(name, arn_of(name)));
        assert!(before.is_none(), "there is a secret {name} already");
    }

    /// Creates a secret whose value is bytes, not text.
    pub fn create_binary(&self, name: &str, bytes: &[u8]) -> VersionId {
        let id = self.create(name, "its bytes are in `binary`");
        self.held(name, |held| held.binary.insert(id.clone(), bytes.to_vec()));
        id
    }

    /// Schedules a secret's deletion: from now on most calls return an error.
    pub fn schedule_deletion(&self, name: &str) {
        self.held(name, |held| held.deleted = true);
    }

    /// Puts a version, as a person does in the console.
    pub fn user_put(&self, name: &str, json: impl fmt::Display) -> VersionId {
        let id = random_id();
        self.edit(name, |versions, now| versions.put(&id, &json.to_string().into(), None, now))
            .expect("a version put by hand");
        id
    }

    /// Makes the previous version current, as a person does to roll back.
    pub fn user_roll_back(&self, name: &str) -> VersionId {
        self.edit(name, |versions, _| versions.roll_back()).expect("a previous version")
    }

    /// Changes a secret in any way. It counts as one write. `change` must not use the server.
    pub fn edit<T>(&self, name: &str, change: impl FnOnce(&mut Versions, DateTime<Utc>) -> T) -> T {
        let now = self.now();
        self.held(name, |held| held.write(|versions| change(versions, now)))
    }

    /// The secret's ARN.
    pub fn arn(&self, name: &str) -> String {
        self.held(name, |held| held.versions.arn().to_owned())
    }

    /// The current version's id and text.
    pub fn current(&self, name: &str) -> (VersionId, String) {
        let current = self.held(name, |held| held.versions.get(None, None)).expect("a current version");
        (current.id, current.body.expose().to_owned())
    }

    /// A version's text.
    pub fn version(&self, name: &str, id: &VersionId) -> Option<String> {
        self.held(name, |held| held.versions.get(Some(id), None)).ok().map(|version| version.body.expose().to_owned())
    }

    /// A handle to read the server's secrets from another thread.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// The version that has each label.
    pub fn labels(&self, name: &str) -> BTreeMap<String, VersionId> {
        self.held(name, |held| held.versions.labels().clone())
    }

    /// The number of versions of the secret, including those without a label.
    pub fn version_count(&self, name: &str) -> usize {
        self.held(name, |held| held.versions.list(true).len())
    }

    /// The calls that arrived, in order, including those that failed.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// The actions of these calls, in order.
    pub fn actions(&self) -> Vec<String> {
        self.state().calls.iter().map(|call| call.action.clone()).collect()
    }

    /// Clears the list of calls.
    pub fn reset_calls(&self) {
        self.state().calls.clear();
    }

    /// Adds a fault.
    pub fn fault(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// Batches do not return secrets whose names begin so: they name them in `Errors`.
    pub fn hide_from_batches(&self, prefix: &str) {
        self.state().hidden_from_batches = Some(prefix.to_owned());
    }

    /// The number of faults that still have calls to affect.
    pub fn faults_left(&self) -> usize {
        self.state().faults.len()
    }

    /// Changes a secret right before the `nth` call of an action from now on (1 is the next one) is carried out.
    ///
    /// No other call comes between the change and this call. `change` runs under the server's lock, so it must not use the server.
    pub fn before(
        &self,
        action: &'static str,
        nth: usize,
        change: impl FnOnce(&mut Versions, DateTime<Utc>) + Send + 'static,
    ) {
        assert!(nth > 0, "the next call is call 1");
        self.state().edits.push(Edit { action, nth, change: Box::new(change) });
    }

    /// Returns this error for a move of a label that is on another version, in place of `InvalidParameterException`. AWS does not
    /// document which one it returns.
    pub fn fail_lost_moves_with(&self, code: &'static str) {
        self.state().lost_move = code;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    fn held<T>(&self, name: &str, access: impl FnOnce(&mut Held) -> T) -> T {
        let mut state = self.state();
        let Some(held) = state.secrets.get_mut(name) else { panic!("the test created no secret {name}") };
        access(held)
    }
}

/// Reads the server's secrets.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl Handle {
    /// The id and text of a version, by its id or a label. `None` if there is no such version.
    pub fn version(&self, name: &str, id: Option<&str>, label: Option<&str>) -> Option<(String, String)> {
        let state = self.0.state();
        let version = state.secrets.get(name)?.versions.get(id.map(VersionId::from).as_ref(), label).ok()?;
        Some((version.id.to_string(), version.body.expose().to_owned()))
    }
}

struct Shared {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ahead: TimeDelta,
    secrets: BTreeMap<String, Held>,
    calls: Vec<Call>,
    faults: Vec<Fault>,
    edits: Vec<Edit>,
    lost_move: &'static str,
    hidden_from_batches: Option<String>,
    access_key: Option<String>,
}

type Change = Box<dyn FnOnce(&mut Versions, DateTime<Utc>) + Send>;

struct Edit {
    action: &'static str,
    nth: usize,
    change: Change,
}

struct Held {
    name: String,
    versions: Versions,
    /// The state before each write.
    history: Vec<Versions>,
    binary: BTreeMap<VersionId, Vec<u8>>,
    deleted: bool,
}

/// An error response.
struct ErrorResponse {
    status: u16,
    code: &'static str,
    message: String,
}

fn error<T>(code: &'static str, message: impl Into<String>) -> Result<T, ErrorResponse> {
    Err(ErrorResponse { status: 400, code, message: message.into() })
}

async fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            let service = service_fn(|request| respond(Arc::clone(&shared), request));
            // An error here means that the caller disconnected, or that the connection was closed on purpose.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// If this returns an error, hyper closes the connection without a response.
async fn respond(shared: Arc<Shared>, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
    let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let action = target.strip_prefix("secretsmanager.").unwrap_or_default().to_owned();
    let credential = request.headers().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let key = credential.split_once("Credential=").and_then(|(_, rest)| Some(rest.split_once('/')?.0.to_owned()));
    shared.state().access_key = key;
    let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    let result = match serde_json::from_slice::<Call>(&body) {
        // Not the text of serde: it quotes the input.
        Err(_) => error("SerializationException", "the body does not fit the action"),
        Ok(call) => {
            // A separate task continues if the caller disconnects, as the real service does.
            let handled = tokio::spawn(async move { shared.handle(Call { action, ..call }).await }).await;
            handled.ok().flatten().ok_or_else(|| io::Error::other("closed on purpose"))?
        }
    };
    let (status, body) = match result {
        Ok(body) => (200, body),
        Err(ErrorResponse { status, code, message }) => (status, json!({ "__type": code, "Message": message })),
    };
    Response::builder()
        .status(status)
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amzn-requestid", random_id().as_str())
        .body(Full::new(body.to_string().into()))
        .map_err(io::Error::other)
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self, state: &State) -> DateTime<Utc> {
        self.clock.now() + state.ahead
    }

    /// `None`: no response.
    async fn handle(&self, call: Call) -> Option<Result<Value, ErrorResponse>> {
        let (effect, edits) = self.state().arrived(&call);
        if let Some(Effect::DelayBefore(duration)) = effect {
            self.clock.sleep(duration).await;
        }
        let result = {
            let mut state = self.state();
            let now = self.now(&state);
            state.carry_out(&call, effect, edits, now)
        };
        match effect {
            Some(Effect::DropBefore | Effect::DropAfter) => return None,
            Some(Effect::DelayAfter(duration)) => self.clock.sleep(duration).await,
            _ => (),
        }
        Some(result)
    }
}

impl State {
    /// Records a call. Returns the fault's effect on it, if any, and the edits that come before it.
    fn arrived(&mut self, call: &Call) -> (Option<Effect>, Vec<Edit>) {
        self.calls.push(call.clone());
        for edit in self.edits.iter_mut().filter(|edit| edit.action == call.action) {
            edit.nth -= 1;
        }
        let edits = self.edits.extract_if(.., |edit| edit.nth == 0).collect();
        let mut effect = None;
        for fault in self.faults.iter_mut().filter(|fault| (fault.matches)(call)) {
            if fault.after > 0 {
                fault.after -= 1;
            } else if effect.is_none() {
                effect = Some(fault.effect);
                fault.times -= 1;
            }
        }
        self.faults.retain(|fault| fault.times > 0);
        (effect, edits)
    }

    fn carry_out(
        &mut self,
        call: &Call,
        effect: Option<Effect>,
        edits: Vec<Edit>,
        now: DateTime<Utc>,
    ) -> Result<Value, ErrorResponse> {
        let id = &call.secret_id;
        if call.action == BATCH {
            assert!(edits.is_empty(), "an edit before a batch would be of no particular secret");
            effect.map_or(Ok(()), |effect| effect.before_call(call))?;
            let writes_ago = if let Some(Effect::StaleRead(writes)) = effect { writes } else { 0 };
            return self.batch(call, writes_ago);
        }
        if call.action == CREATE {
            effect.map_or(Ok(()), |effect| effect.before_call(call))?;
            return self.create(call, now);
        }
        let mut held = held_by(&mut self.secrets, id);
        if let Some(held) = &mut held {
            for Edit { change, .. } in edits {
                held.write(|versions| change(versions, now));
            }
        }
        let writes_ago = if let Some(Effect::StaleRead(writes)) = effect { writes } else { 0 };
        effect.map_or(Ok(()), |effect| effect.before_call(call))?;
        let Some(held) = held else {
            return error("ResourceNotFoundException", "Secrets Manager can't find the specified secret.");
        };
        if held.deleted && call.action != LIST {
            let message = "You can't perform this operation on the secret because it was marked for deletion.";
            return error("InvalidRequestException", message);
        }
        match call.action.as_str() {
            GET => held.get(call, writes_ago),
            PUT => held.put(call, now),
            MOVE => held.move_label(call, self.lost_move),
            LIST => held.list(call, writes_ago),
            _ => error("UnknownOperationException", "this server does not implement that action"),
        }
    }
}

fn arn_of(name: &str) -> String {
    let suffix: String = (0..6).map(|_| fastrand::alphanumeric()).collect();
    format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{name}-{suffix}")
}

/// A secret by its name or ARN.
fn held_by<'a>(secrets: &'a mut BTreeMap<String, Held>, id: &str) -> Option<&'a mut Held> {
    match id.strip_prefix("arn:") {
        None => secrets.get_mut(id),
        Some(_) => secrets.values_mut().find(|held| held.versions.arn() == id),
    }
}

impl State {
    /// `CreateSecret`.
    fn create(&mut self, call: &Call, now: DateTime<Utc>) -> Result<Value, ErrorResponse> {
        if let Some(held) = self.secrets.get(&call.name) {
            if held.deleted {
                let message =
                    "You can't create this secret because a secret with this name is already scheduled for deletion.";
                return error("InvalidRequestException", message);
            }
            let message = format!("The operation failed because the secret {} already exists.", call.name);
            return error("ResourceExistsException", message);
        }
        let mut held = Held::new(&call.name, arn_of(&call.name));
        let created = held.put(call, now)?;
        self.secrets.insert(call.name.clone(), held);
        Ok(created)
    }

    /// `BatchGetSecretValue`: by a list of ids, or by the beginnings of names. What cannot be read is in `Errors`.
    fn batch(&mut self, call: &Call, stale: usize) -> Result<Value, ErrorResponse> {
        if call.secret_id_list.is_empty() == call.filters.is_empty() {
            return error(
                "InvalidParameterException",
                "Either SecretIdList or Filters must be provided, but not both.",
            );
        }
        if call.secret_id_list.len() > 20 {
            return error("ValidationException", invalid("secretIdList", "less than or equal to 20"));
        }
        let (ids, next): (Vec<String>, Option<String>) = if call.filters.is_empty() {
            (call.secret_id_list.clone(), None)
        } else {
            let [Filter { key, values }] = call.filters.as_slice() else {
                return error("InvalidParameterException", "this server takes one filter");
            };
            if key != "name" {
                return error("InvalidParameterException", "this server filters by name only");
            }
            let max = call.max_results.unwrap_or(20);
            if !(1..=20).contains(&max) {
                return error("ValidationException", invalid("maxResults", "less than or equal to 20"));
            }
            let after = call.next_token.as_deref().and_then(|token| token.strip_prefix("after "));
            let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
            let found = self.secrets.range::<str, _>((from, std::ops::Bound::Unbounded));
            let mut found: Vec<String> = found
                .filter(|(name, held)| !held.deleted && values.iter().any(|value| name.starts_with(value)))
                .map(|(name, _)| name.clone())
                .take(max + 1)
                .collect();
            let is_last = found.len() <= max;
            found.truncate(max);
            let next = found.last().filter(|_| !is_last).map(|name| format!("after {name}"));
            (found, next)
        };
        let (mut values, mut errors) = (Vec::new(), Vec::new());
        let hidden = self.hidden_from_batches.clone();
        for id in ids {
            let problem = match held_by(&mut self.secrets, &id) {
                None => ErrorResponse {
                    status: 400,
                    code: "ResourceNotFoundException",
                    message: "Secrets Manager can't find the specified secret.".to_owned(),
                },
                Some(_) if hidden.as_ref().is_some_and(|prefix| id.starts_with(prefix)) => ErrorResponse {
                    status: 400,
                    code: "DecryptionFailure",
                    message: "Secrets Manager can't decrypt the protected secret text.".to_owned(),
                },
                Some(held) if held.deleted => ErrorResponse {
                    status: 400,
                    code: "InvalidRequestException",
                    message: "You can't perform this operation on the secret because it was marked for deletion."
                        .to_owned(),
                },
                Some(held) => match held.get(&Call::default(), stale) {
                    Ok(value) => {
                        values.push(value);
                        continue;
                    }
                    Err(problem) => problem,
                },
            };
            errors.push(json!({ "SecretId": id, "ErrorCode": problem.code, "Message": problem.message }));
        }
        let mut response = json!({ "SecretValues": values, "Errors": errors });
        if let Some(next) = next {
            response["NextToken"] = next.into();
        }
        Ok(response)
    }
}

impl Effect {
    /// The error of an effect that prevents the call.
    fn before_call(self, call: &Call) -> Result<(), ErrorResponse> {
        match self {
            Self::Throttle => error("ThrottlingException", "Rate exceeded"),
            Self::InternalError => {
                let message = "An error occurred on the server side.".to_owned();
                Err(ErrorResponse { status: 500, code: "InternalServiceError", message })
            }
            Self::AccessDenied => {
                let Call { action, secret_id, .. } = call;
                let message = format!(
                    "User: arn:aws:sts::123456789012:assumed-role/refresher/x is not authorized to perform: \
                     secretsmanager:{action} on resource: {secret_id} because no identity-based policy allows the \
                     secretsmanager:{action} action"
                );
                error("AccessDeniedException", message)
            }
            Self::InvalidNextToken => error("InvalidNextTokenException", "The NextToken value is invalid."),
            Self::LimitExceeded => error("LimitExceededException", "The quota is exceeded."),
            Self::DropBefore => error("", "never sent"),
            Self::DropAfter | Self::DelayBefore(_) | Self::DelayAfter(_) | Self::StaleRead(_) => Ok(()),
        }
    }
}

impl Held {
    fn new(name: &str, arn: String) -> Self {
        let (history, binary) = (Vec::new(), BTreeMap::new());
        Self { name: name.to_owned(), versions: Versions::empty(arn), history, binary, deleted: false }
    }

    fn write<T>(&mut self, change: impl FnOnce(&mut Versions) -> T) -> T {
        let before = self.versions.clone();
        let done = change(&mut self.versions);
        if self.versions != before {
            self.history.push(before);
        }
        done
    }

    fn as_of(&self, writes_ago: usize) -> &Versions {
        match self.history.len().checked_sub(writes_ago) {
            Some(writes) => self.history.get(writes).unwrap_or(&self.versions),
            None => self.history.first().unwrap_or(&self.versions),
        }
    }

    fn get(&self, call: &Call, stale: usize) -> Result<Value, ErrorResponse> {
        let versions = self.as_of(stale);
        let (id, label) = (call.version_id.as_deref().map(VersionId::from), call.version_stage.as_deref());
        let version = match versions.get(id.as_ref(), label) {
            Ok(version) => version,
            Err(StoreError::NotFound { .. }) => {
                let sought = match id {
                    Some(id) => format!("VersionId: {id}"),
                    None => format!("staging label: {}", label.unwrap_or("AWSCURRENT")),
                };
                let message = format!("Secrets Manager can't find the specified secret value for {sought}");
                return error("ResourceNotFoundException", message);
            }
            Err(_) => {
                let message = "You provided a VersionStage that is not associated to the provided VersionId.";
                return error("InvalidRequestException", message);
            }
        };
        let mut response = json!({
            "ARN": version.arn,
            "Name": self.name,
            "VersionId": version.id.as_str(),
            "VersionStages": labels_of(versions, &version.id),
            "CreatedDate": epoch_seconds(version.created),
        });
        match self.binary.get(&version.id) {
            Some(bytes) => response["SecretBinary"] = BASE64.encode(bytes).into(),
            None => response["SecretString"] = version.body.expose().into(),
        }
        Ok(response)
    }

    fn put(&mut self, call: &Call, now: DateTime<Utc>) -> Result<Value, ErrorResponse> {
        let Some(token) = &call.client_request_token else {
            let message = "You must provide a ClientRequestToken value. We recommend a UUID-type value.";
            return error("InvalidRequestException", message);
        };
        if !(32..=64).contains(&token.len()) {
            return error("InvalidParameterException", "ClientRequestToken must be 32-64 characters long.");
        }
        let Some(text) = &call.secret_string else {
            return error("InvalidParameterException", "this server takes a SecretString only");
        };
        let labels = call.version_stages.as_deref();
        if labels.is_some_and(<[String]>::is_empty) {
            return error("ValidationException", invalid("versionStages", "greater than or equal to 1"));
        }
        let id = VersionId::from(token);
        match self.write(|versions| versions.put(&id, text, labels, now)) {
            Ok(()) => Ok(json!({
                "ARN": self.versions.arn(),
                "Name": self.name,
                "VersionId": token,
                "VersionStages": labels_of(&self.versions, &id),
            })),
            Err(StoreError::Exists) => {
                let arn = self.versions.arn();
                let message = format!(
                    "You can't use ClientRequestToken {token} because that value is already in use for a version of \
                     secret {arn}."
                );
                error("ResourceExistsException", message)
            }
            Err(StoreError::Quota { detail }) => error("LimitExceededException", detail),
            Err(_) if text.expose().is_empty() => {
                error("ValidationException", invalid("secretString", "greater than or equal to 1"))
            }
            Err(_) => error("ValidationException", invalid("secretString", "less than or equal to 65536")),
        }
    }

    fn move_label(&mut self, call: &Call, lost_move: &'static str) -> Result<Value, ErrorResponse> {
        let from = call.remove_from_version_id.as_deref().map(VersionId::from);
        let (label, to) = match (&call.version_stage, &call.move_to_version_id, &from) {
            (Some(label), Some(to), _) => (label, to),
            (Some(label), None, Some(from)) => return self.remove_label(label, from, lost_move),
            _ => return error("InvalidParameterException", "this server wants VersionStage and a version"),
        };
        match self.write(|versions| versions.move_label(label, from.as_ref(), &VersionId::from(to))) {
            Ok(()) => Ok(json!({ "ARN": self.versions.arn(), "Name": self.name })),
            Err(StoreError::Moved { .. }) => match (from, self.versions.labels().get(label)) {
                (None, Some(holder)) => {
                    let message = format!(
                        "The parameter RemoveFromVersionId can't be empty. Staging label {label} is currently attached \
                         to version {holder}, so you must explicitly reference that version in RemoveFromVersionId."
                    );
                    error("InvalidParameterException", message)
                }
                _ => error(lost_move, format!("The staging label {label} is not on RemoveFromVersionId.")),
            },
            Err(_) => {
                let message = format!("Secrets Manager can't find the specified secret value for VersionId: {to}");
                error("ResourceNotFoundException", message)
            }
        }
    }

    fn remove_label(&mut self, label: &str, from: &VersionId, lost_move: &'static str) -> Result<Value, ErrorResponse> {
        match self.write(|versions| versions.remove_label(label, from)) {
            Ok(()) => Ok(json!({ "ARN": self.versions.arn(), "Name": self.name })),
            Err(_) => error(lost_move, format!("The staging label {label} is not on RemoveFromVersionId.")),
        }
    }

    fn list(&self, call: &Call, stale: usize) -> Result<Value, ErrorResponse> {
        let versions = self.as_of(stale);
        let max = call.max_results.unwrap_or(100);
        if !(1..=100).contains(&max) {
            return error("ValidationException", invalid("maxResults", "less than or equal to 100"));
        }
        // The token is the number of versions already listed.
        let Ok(start) = call.next_token.as_deref().map_or(Ok(0), str::parse::<usize>) else {
            return error("InvalidNextTokenException", "The NextToken value is invalid.");
        };
        let all = versions.list(call.include_deprecated);
        let page = all.iter().skip(start).take(max).map(|listed| {
            let mut entry = json!({ "VersionId": listed.id.as_str(), "CreatedDate": epoch_seconds(listed.created) });
            if listed.labels.any() {
                entry["VersionStages"] = labels_of(versions, &listed.id).into();
            }
            entry
        });
        let page: Vec<Value> = page.collect();
        let mut response = json!({ "ARN": versions.arn(), "Name": self.name, "Versions": page });
        if start + max < all.len() {
            response["NextToken"] = (start + max).to_string().into();
        }
        Ok(response)
    }
}

fn labels_of(versions: &Versions, id: &VersionId) -> Vec<String> {
    versions.labels().iter().filter(|(_, holder)| *holder == id).map(|(label, _)| label.clone()).collect()
}

fn invalid(member: &str, wanted: &str) -> String {
    format!(
        "1 validation error detected: Value at '{member}' failed to satisfy constraint: Member must have length {wanted}"
    )
}

/// Seconds since 1970 with milliseconds, as the service writes times.
fn epoch_seconds(time: DateTime<Utc>) -> f64 {
    (time.trunc_subsecs(3) - DateTime::UNIX_EPOCH).as_seconds_f64()
}

fn random_id() -> VersionId {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid().to_string().into()
}
