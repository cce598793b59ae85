//! `Debug` of every type that could hold a secret shows none; and no type with `Debug` is missing here.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    fs,
    future::ready,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_secretsmanager::config::{Credentials, SharedCredentialsProvider};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use token_refresher::{
    clock::Clock,
    error::{Advice, ErrorType},
    http_client::HttpClients,
    lambda::{event_bus::EventBus, handler::Handler, settings::Settings},
    oauth::{
        assertion::{Key, SignedJwts, Signer},
        client::Client,
        exchanger::{Exchange, Exchanger},
        jwt::PrivateKey,
        response::{self, IssuedTokens, TokenResponse},
    },
    protocol::{
        Error, Refresher, Request,
        ids::{ClientDigest, TokenKey},
        observation::Observation,
        record::{Claim, Record},
    },
    reader::{Reader, RefresherFunction, Reply, SecretReader, SecretVersion, SendError, Source},
    secret::Secret,
    store::{
        Found, Label, Labels, Limits, Listed, Operation, Page, SecretStore, Selector, StoreError, Version, VersionId,
        secrets_manager::SecretsManager, versions::Versions,
    },
    token_secret::{
        NewTokens, TokenSecret, client_settings::ClientSettings, document::Document, readable::ReadableToken,
        signing::Subject,
    },
};

/// What no `Debug` may show.
const MARK: &str = "unseen";

/// Types whose fields are all without secrets: names, times, numbers, our own words.
const NO_SECRET: &[&str] = &[
    "clock::Clock",
    "protocol::options::ClaimMode",
    "protocol::error::History",
    "protocol::error::ResponseLocation",
    // What the invoker sent: names of secrets and versions.
    "lambda::event::Event",
    "lambda::event::secrets_manager::LabelUpdate",
    "lambda::event::secrets_manager::Rotation",
    "lambda::event::secrets_manager::Step",
    "protocol::options::Mode",
    "oauth::lifetime::End",
    "oauth::words::Meaning",
    "oauth::response::RefusalKind",
    "protocol::observation::Observation",
    "protocol::observation::Observed",
    "protocol::decision::Decision",
    "protocol::decision::ClaimState",
    "protocol::decision::CopyAge",
    "protocol::record::ClaimEnd",
    // A number, and ids of versions.
    "protocol::claim::Attempt",
    "protocol::claim::EndLabel",
    // The names of members.
    "reader::error::NotRefreshed",
    "error::Remedy",
    // Private, and only times.
    "reader::policy::Times",
    "reader::refresher_function::RequestReason",
    "reader::single_flight::Step",
    // Names of secrets and versions.
    "reader::refresher_function::Requested",
    "reader::source::Directory",
    "reader::source::Query",
    "reader::source::Wanted",
    "protocol::options::Request",
    "protocol::outcome::Outcome",
    "protocol::outcome::Reason",
    "lambda::report::Report",
    "error::InvalidSetting",
    "store::Label",
    "store::Labels",
    "store::Listed",
    "store::Selector",
    "store::VersionId",
    "store::directory::DirectoryStore",
    // A report, or the texts of an error.
    "lambda::log::RunEnd",
    "lambda::log::Failure",
    "lambda::log::Format",
    "lambda::log::Level",
    "error::Advice",
    "error::Texts",
    "error::Audience",
    "error::ErrorType",
    "lambda::log::Sink",
    "oauth::exchanger::Exchanger",
    "protocol::outcome::Completed",
    "store::Limits",
    "store::Operation",
    "store::named::NamedStore",
    "token_secret::RefreshTokenExpiry",
    "token_secret::client_settings::TokenEndpointAuthMethod",
    "token_secret::client_settings::TokenRequestFormat",
    // Private. Words for a person; a code is a `Secret`, and a unit test shows it.
    "cli::failure::Exit",
    "cli::failure::Failure",
    "cli::status::State",
    "cli::status::Status",
    "cli::authorization::Redirect",
    "cli::authorization::RedirectError",
    // A `Document`, which prints nothing; a unit test shows it.
    "token_secret::draft::Draft",
    // What is known of providers, and times.
    "providers::Profile",
    "providers::Login",
    "providers::Pkce",
    "providers::Variable",
    "providers::VariableProblem",
    "providers::Form",
    "token_secret::provider::RefreshTokenRules",
    "token_secret::signing::SigningAlgorithm",
    "token_secret::signing::Subject",
    "aws_request::Address",
    "token_secret::member::Member",
    // A Region, and what KMS answered.
    "kms::Kms",
    "kms::SigningError",
    "oauth::assertion::Purpose",
    "token_secret::member::Style",
    "token_secret::member_names::MemberNames",
    "token_secret::place::Place",
    "token_secret::problem::SimilarTokens",
    "token_secret::time_form::TimeForm",
    "token_secret::time_form::Unit",
    "token_secret::time_form::Zone",
    // Private, shown nowhere, and out of reach of this test: an ARN, an id, a time, a length and a TokenSecret.
    "protocol::TokenVersion",
    // The same: names, an ARN, an endpoint, words of the log, a TokenKey and a Secret.
    "protocol::keep::UnstoredResponse",
    // What the two types of unstored things show.
    "protocol::memory::Memory",
    // Private to a run or a sweep: versions and settings of clients, which are shown above.
    "protocol::shared::Shared",
    "protocol::scan::ScanResult",
    // Names of secrets, endpoints without their queries, digests, times and numbers.
    "sweep::Sweeper",
    "sweep::SweepRequest",
    "sweep::SecretEnd",
    "sweep::queue::Queue",
    "sweep::queue::Client",
    "sweep::queue::ClientResult",
    "sweep::queue::ByTurn",
    "sweep::queue::QueuedToken",
    "sweep::summary::Counts",
    "sweep::summary::Expiries",
    "sweep::summary::TokenState",
    "sweep::summary::Summary",
    "sweep::summary::Failure",
    "sweep::targets::Targets",
    "sweep::targets::Many",
    "sweep::targets::Included",
    "lambda::report::Response",
    "lambda::report::EventReport",
    // A result and an error, which are shown here by themselves.
    "protocol::change::ChangeResult",
    "lambda::report::SweepReport",
    "lambda::log::RunMetrics",
    "lambda::log::SweepEnd",
    "lambda::notice::Notice",
    "lambda::notice::Detail",
    "lambda::event_bus::Problem",
    "lambda::event_bus::Refused",
    "oauth::exchanger::Pauses",
    "store::paced::Pace",
    "store::paced::SharedPace",
    "store::paced::PacedStore",
    "store::paced::Urgency",
];

/// The types that hold a secret, or words of a place that knows one, each as `Debug` shows it.
struct Shown(BTreeMap<&'static str, String>);

impl Shown {
    fn add(&mut self, name: &'static str, value: &impl Debug) {
        let shown = format!("{value:?}\n{value:#?}");
        assert!(!shown.is_empty());
        self.0.insert(name, shown);
    }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_225_600, 0).unwrap()
}

fn token_text() -> Secret {
    let text = json!({
        "refreshToken": "unseen-refresh", "accessToken": "unseen-access", "expiresAt": 1,
        "tokenEndpoint": "https://id.example/token?key=unseen-key", "clientId": "unseen-id", "clientSecret": "unseen-secret",
        "extraParameters": {"a": "unseen-parameter"}, "extraHeaders": {"b": "unseen-header"},
        "tokenResponse": {"id_token": "unseen-id-token"}, "note": "unseen-note",
    });
    text.to_string().into()
}

fn issued() -> IssuedTokens {
    let body = json!({"access_token": "unseen-new", "refresh_token": "unseen-newer", "id_token": "unseen-id-token"});
    match response::read(200, None, body.to_string().as_bytes(), now(), &[]) {
        TokenResponse::Issued(issued) => issued,
        other => panic!("not issued: {other:?}"),
    }
}

/// A store that takes a claim and nothing else: the new tokens stay in the process's memory.
#[derive(Debug)]
struct Full;

impl SecretStore for Full {
    fn limits(&self) -> Limits {
        Limits::SECRETS_MANAGER
    }

    fn action(&self, _: Operation) -> &'static str {
        "call"
    }

    fn advice(&self, _: &StoreError, _: &str) -> Advice {
        Advice::new("wait")
    }

    async fn get(&self, _: &str, which: Selector<'_>) -> Result<Version, StoreError> {
        match which {
            Selector::Label(Label::Current) => Ok(version()),
            _ => Err(StoreError::NotFound { detail: String::new() }),
        }
    }

    async fn put(&self, _: &str, _: &VersionId, label: Label, _: &Secret) -> Result<(), StoreError> {
        if label == Label::Claim {
            Ok(())
        } else {
            Err(StoreError::Unavailable { action: "put", detail: String::new() })
        }
    }

    async fn move_label(&self, _: &str, _: Label, _: Option<&VersionId>, _: &VersionId) -> Result<(), StoreError> {
        Err(StoreError::Moved { detail: String::new() })
    }

    async fn remove_label(&self, _: &str, _: Label, _: &VersionId) -> Result<(), StoreError> {
        Err(StoreError::Moved { detail: String::new() })
    }

    async fn list(&self, _: &str) -> Result<Vec<Listed>, StoreError> {
        Ok(Vec::new())
    }
}

fn version() -> Version {
    let created = now() - TimeDelta::hours(1);
    Version { arn: "arn".to_owned(), id: "v".repeat(36).into(), created, labels: Labels::default(), body: token_text() }
}

fn exchanger() -> Exchanger {
    Exchanger::from_fn(|_| ready(TokenResponse::Issued(issued())))
}

/// Time that passes while one waits.
fn clock() -> Clock {
    let passed = Arc::new(AtomicI64::new(0));
    let at = Arc::clone(&passed);
    let sleep = move |duration: std::time::Duration| {
        let passed = Arc::clone(&passed);
        async move {
            passed.fetch_add(i64::try_from(duration.as_millis()).unwrap(), Ordering::Relaxed);
        }
    };
    Clock::new(move || now() + TimeDelta::milliseconds(at.load(Ordering::Relaxed)), sleep)
}

/// A provider by name.
fn add_provider(all: &mut Shown) {
    let named =
        json!({"provider": "okta", "providerParameters": {"domain": "unseen.example"}, "clientId": "unseen-id"});
    let named = ClientSettings::read(&Document::parse(&named.to_string()).unwrap()).unwrap();
    all.add("token_secret::provider::NamedProvider", &named.provider);
    all.add("token_secret::provider::ProfileSettings", &named.provider);
}

/// What signs JWTs, and the JWTs.
fn add_signers(all: &mut Shown) {
    let key = include_str!("fixtures/keys/p256-pkcs8.pem").replace("PRIVATE KEY-----\n", "PRIVATE KEY-----\nunseen");
    let signing = json!({"tokenEndpoint": "https://id.example/", "clientId": "unseen-id", "privateKey": key});
    let settings = ClientSettings::read(&Document::parse(&signing.to_string()).unwrap()).unwrap();
    all.add("token_secret::signing::JwtSettings", &settings.signing);
    all.add("token_secret::signing::KeySetting", &settings.signing.key);
    let pem = Secret::from(include_str!("fixtures/keys/p256-pkcs8.pem"));
    let key = Key::Private(PrivateKey::read(pem, None).unwrap());
    let claim_changes = Document::parse(r#"{"sub": "unseen"}"#).unwrap();
    let signer = Signer { key, key_id: None, claim_changes, subject: Subject::Client };
    all.add("oauth::jwt::PrivateKey", &signer);
    all.add("oauth::assertion::Signer", &signer);
    all.add("oauth::assertion::Key", &signer);
    let jwts = SignedJwts { grant: Some("unseen-jwt".into()), client: Some("unseen-jwt".into()) };
    all.add("oauth::assertion::SignedJwts", &jwts);
}

async fn shown() -> BTreeMap<&'static str, String> {
    let mut all = Shown(BTreeMap::new());
    let text = token_text();
    let token = TokenSecret::parse(text.expose()).unwrap();
    let client = Client::new(token.client.clone(), &token.tokens.grant).unwrap();
    let exchange = Exchange {
        client: client.clone(),
        grant: token.tokens.grant.clone(),
        access_token: token.tokens.access_token.clone(),
        deadline: now(),
    };
    let new: NewTokens = issued().into_new_tokens(now(), token_refresher::token_secret::DEFAULT_LIFETIME);
    all.add("secret::Secret", &text);
    all.add("token_secret::document::Document", &Document::parse(text.expose()).unwrap());
    all.add("token_secret::Tokens", &token.tokens);
    all.add("token_secret::client_settings::ClientSettings", &token.client);
    all.add("token_secret::TokenSecret", &token);
    all.add("token_secret::layout::Layout", &token);
    all.add("token_secret::NewTokens", &new);
    all.add("oauth::issued::IssuedTokens", &issued());
    let unreadable = response::read(200, None, br#"{"userToken":"unseen-access"}"#, now(), &[]);
    let TokenResponse::Unreadable(kept) = &unreadable else { panic!("not kept") };
    all.add("oauth::response::UnreadableTokens", kept);
    all.add("oauth::response::TokenResponse", &[TokenResponse::Issued(issued()), unreadable]);
    all.add("oauth::client::Client", &client);
    add_signers(&mut all);
    add_provider(&mut all);
    all.add("token_secret::Grant", &token.tokens.grant);
    all.add("oauth::exchanger::Exchange", &exchange);
    all.add("store::Version", &version());
    let found = Found { secret_id: "a".to_owned(), version: Some(version()) };
    all.add("store::Found", &found);
    all.add("store::Page", &Page { found: vec![found], next: None });
    let id: VersionId = "v".repeat(36).into();
    let versions = Versions::create("arn", &id, &text, now()).unwrap();
    all.add("store::versions::Versions", &versions);
    all.add("store::versions::StoredVersion", &versions);

    // What is derived from them.
    let key = TokenKey::of("arn", &token.tokens, &token.client);
    let digest = ClientDigest::of(&client);
    let claim = Claim { attempt: 0, lease_ends_at: now(), client_settings: Some(digest.to_string()) };
    all.add("protocol::ids::TokenKey", &key);
    all.add("protocol::ids::ClientDigest", &digest);
    all.add("protocol::record::Claim", &claim);

    // What is said of them: by a provider that echoes what it was sent, and of texts that are not what they should be.
    let secrets: Vec<&Secret> =
        client.secrets().chain(token.tokens.refresh_token()).chain(token.tokens.access_token.as_ref()).collect();
    let echo = json!({"error": "no unseen-secret", "error_description": "unseen-refresh unseen-access unseen-header"});
    let echoed = |status| response::read(status, None, echo.to_string().as_bytes(), now(), &secrets);
    let TokenResponse::Refused(refusal) = echoed(400) else { panic!("not refused") };
    let TokenResponse::Failed(trouble) = echoed(503) else { panic!("not unavailable") };
    let refused = Record::Refusal { attempt: 0, refusal: refusal.clone() };
    all.add("protocol::record::RecordRead", &Record::read(&refused.to_text(&key, "a run"), &key));
    all.add("protocol::record::Record", &(refused, Record::Claim(claim)));
    all.add("oauth::response::ErrorResponse", &refusal);
    all.add("oauth::response::TransportError", &trouble);
    all.add("token_secret::document::NotADocument", &Document::parse("\"unseen-text\"").unwrap_err());
    let problems = [r#"{"refreshToken":["unseen"]}"#, r#"{"refreshToken":"r","expiresAt":"unseen"}"#, "unseen"];
    all.add("token_secret::problem::SecretProblem", &problems.map(|text| TokenSecret::parse(text).unwrap_err()));

    // What lives as long as the process.
    let var = |name: &str| {
        Some(match name {
            "CLIENT_ID" | "CLIENT_SECRET" => "unseen-setting".to_owned(),
            "TOKEN_ENDPOINT" => "https://id.example/?key=unseen".to_owned(),
            _ => return None,
        })
    };
    let settings = Settings::from_vars(var).unwrap();
    all.add("lambda::settings::Settings", &settings);
    all.add("protocol::options::Options", &settings.options);
    let http = HttpClients::new(|_| None).unwrap();
    let bus_client = http.store.clone();
    all.add("http_client::HttpClients", &http);
    all.add("http_client::sdk::SdkHttpClient", &token_refresher::http_client::SdkHttpClient(http.store));
    let credentials = Credentials::new("AKIDEXAMPLE", "unseen-secret", Some("unseen-session".to_owned()), None, "test");
    let sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials));
    let sdk = sdk.build();
    all.add("store::secrets_manager::SecretsManager", &SecretsManager::new(&sdk).unwrap());
    let event_bus = EventBus::new(&sdk, bus_client, clock(), |_| None).unwrap().expect("a Region");
    all.add("lambda::event_bus::EventBus", &event_bus);

    let mode = token_refresher::protocol::Mode::Scheduled;
    let deadline = now() + TimeDelta::minutes(1);
    let refresher = Refresher::new(Full, exchanger(), clock(), settings.options.clone());
    let error =
        refresher.run(Request { secret_id: "a", mode: &mode, deadline }, &Observation::default()).await.unwrap_err();
    assert_eq!(error.error_type(), ErrorType::TokenNotStored);
    all.add("protocol::Refresher", &refresher);
    assert!(all.0["protocol::Refresher"].contains("UnstoredTokens"), "the tokens are in memory");
    all.add("protocol::stage::UnstoredTokens", &refresher);
    let handler = Handler::new(Full, exchanger(), clock(), settings);
    handler.handle(&json!({"secretId": "a"}), deadline).await.unwrap_err();
    all.add("lambda::handler::Handler", &handler);
    all.add("protocol::error::Error", &(error, Error::of_store(&Full, "a", StoreError::Binary, None)));
    let directory = tempfile::TempDir::new().unwrap();
    let store = token_refresher::store::directory::DirectoryStore::open(directory.path(), Clock::system()).unwrap();
    fs::write(directory.path().join("a.json"), text.expose()).unwrap();
    all.add("store::StoreError", &store.get("a", Selector::Label(Label::Current)).await.unwrap_err());
    readers(&mut all).await;
    all.0
}

/// What a reading function holds, and what it is told.
async fn readers(all: &mut Shown) {
    let source = || {
        let text = token_text().expose().replace("\"expiresAt\":1,", "\"expiresAt\":4070908800000,");
        Source::from_fn(move |_| {
            let version = SecretVersion::text("v", text.clone());
            async move { Ok(version) }
        })
    };
    let function = || {
        RefresherFunction::from_fn("f", |_| async {
            let message = "invalid_grant".to_owned();
            Ok(Reply::Error { error_type: "ReauthorizationRequired".to_owned(), message })
        })
    };
    let builder = Reader::builder(source(), "a").refresher(function());
    all.add("reader::ReaderBuilder", &builder);
    let reader = builder.build();
    let token = reader.access_token().await.unwrap();
    assert_eq!(token.expose(), "unseen-access");
    all.add("reader::Reader", &reader);
    all.add("reader::cache::Cache", &reader);
    all.add("reader::access_token::AccessToken", &token);
    all.add("token_secret::readable::ReadableToken", &ReadableToken::parse(token_text().expose()).unwrap());
    reader.rejected(&token);
    let error = reader.access_token().await.unwrap_err();
    all.add("reader::error::ReadError", &error);
    all.add("reader::send::SendError", &SendError::Token(error));
    all.add("reader::refresher_function::RefresherFunction", &function());
    all.add("reader::refresher_function::Reply", &Reply::Busy);

    let builder = SecretReader::builder(source(), "a");
    all.add("reader::secret_reader::SecretReaderBuilder", &builder);
    let secret = builder.text();
    all.add("reader::secret_reader::SecretValue", &secret.get().await.unwrap());
    all.add("reader::secret_reader::SecretReader", &secret);
    // Whatever JSON holds: a name that is no number, where one is wanted.
    let wrong = SecretReader::<BTreeMap<String, u8>>::json(source(), "a").get().await.unwrap_err();
    all.add("reader::cache::Unusable", &wrong);

    let version = SecretVersion::text("v", token_text());
    all.add("store::Content", &[version.content.clone(), SecretVersion::bytes("v", b"unseen".to_vec()).content]);
    all.add("reader::source::SecretVersion", &version);
    all.add("reader::source::Source", &[source(), Source::extension(1, "unseen"), Source::agent(1, "unseen")]);
}

#[tokio::test]
async fn debug_shows_no_secret_whatever_holds_it() {
    for (name, shown) in Box::pin(shown()).await {
        // Not the text itself: a failing test shows nothing either.
        assert!(!shown.contains(MARK), "Debug of {name} shows a secret");
    }
}

#[tokio::test]
async fn no_type_with_debug_is_missing_from_this_test() {
    let shown = Box::pin(shown()).await;
    let mut found = Vec::new();
    types_with_debug(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), "", &mut found);
    assert!(found.len() > 50, "only {} types were found", found.len());
    for name in &found {
        let listed = [shown.contains_key(name.as_str()), NO_SECRET.contains(&name.as_str())];
        assert_ne!(listed, [false, false], "{name} has Debug: show it in this test, or list it as one without secrets");
        assert_ne!(listed, [true, true], "{name} is listed as one without secrets, and shown");
    }
    for name in shown.keys().chain(NO_SECRET) {
        assert!(
            found.iter().any(|found| found == name),
            "{name} is not there, or has no Debug: take it out of this test"
        );
    }
}

/// Every type that derives or implements `Debug`, as `module::Type`.
fn types_with_debug(folder: &Path, module: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let module = if module.is_empty() { name.to_owned() } else { format!("{module}::{name}") };
        if path.is_dir() {
            types_with_debug(&path, &module, found);
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        let code: String =
            source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join(" ");
        let word =
            |text: &str| text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_owned();
        for rest in code.split("derive(").skip(1) {
            let (traits, rest) = rest.split_once(')').expect("the end of a derive");
            if !traits.split(',').any(|name| name.trim().rsplit("::").next() == Some("Debug")) {
                continue;
            }
            let named =
                ["struct ", "enum ", "union "].iter().filter_map(|kind| rest.find(kind).map(|at| at + kind.len()));
            found.push(format!("{module}::{}", word(&rest[named.min().expect("a type's name")..])));
        }
        found.extend(code.split("Debug for ").skip(1).map(|rest| format!("{module}::{}", word(rest))));
    }
}
