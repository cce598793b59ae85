//! `tokenctl history`: the versions of a secret as a timeline, in words. Reads only.

use std::{collections::HashMap, io::Write};

use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::{StreamExt, stream};

use super::{
    Context,
    arguments::HistoryArguments,
    failure::Failure,
    store::{Store, options},
    table::{self, Cell, Column},
};
use crate::{
    protocol::{
        ids::TokenKey,
        record::{Claim, Record, RecordRead},
    },
    store::{Label, Labels, Listed, SecretStore, Selector, StoreError, Version, VersionId},
    token_secret::{TokenSecret, member_names::MemberNames},
};

/// How many versions are read at once.
const AT_ONCE: usize = 8;

/// How much of an id is shown: enough to tell a hundred versions apart.
const SHORT: usize = 8;

const NO_ROLLBACK: &str = "There is no command that goes back to an earlier version: a refresh token is good for one exchange, so the tokens of an earlier \
                           version are spent. To begin anew, run `tokenctl login`.";

const COLUMNS: [Column; 4] = [
    Column { title: "WRITTEN", rank: 0 },
    Column { title: "VERSION", rank: 0 },
    Column { title: "LABELS", rank: 0 },
    Column { title: "WHAT", rank: 0 },
];

/// One version and what is in it.
struct Entry {
    id: VersionId,
    created: DateTime<Utc>,
    labels: Labels,
    content: Content,
}

enum Content {
    Token(Box<TokenSecret>),
    /// Perhaps a record.
    Other(Version),
    Unreadable(StoreError),
}

/// Runs the command.
pub(super) async fn history(context: &Context, arguments: &HistoryArguments) -> Result<(), Failure> {
    let secret_id = arguments.secret.as_str();
    let store = Store::open(context).await?;
    let names = options()?.member_names;
    let mut listed = store.secrets.list(secret_id).await.map_err(|error| store.failure(secret_id, error))?;
    listed.sort_by_key(|version| version.created);
    let read = listed.into_iter().map(|version| read(&store, secret_id, &names, version));
    let entries: Vec<(Entry, Option<String>)> = stream::iter(read).buffered(AT_ONCE).collect().await;
    let arn = entries.iter().find_map(|(_, arn)| arn.clone()).unwrap_or_default();
    let entries: Vec<Entry> = entries.into_iter().map(|(entry, _)| entry).collect();
    let now = context.clock.now();
    let rows: Vec<Vec<Cell>> = entries
        .iter()
        .zip(words(&arn, &entries, now))
        .map(|(entry, words)| {
            let labels = entry.labels.names().collect::<Vec<_>>().join(" ");
            let short: String = entry.id.as_str().chars().take(SHORT).collect();
            vec![time(entry.created).into(), short.into(), labels.into(), words.into()]
        })
        .collect();
    let mut out = anstream::stdout().lock();
    for line in table::lines(&COLUMNS, &rows, None) {
        writeln!(out, "{line}").map_err(Failure::of_output)?;
    }
    context.terminal.say(NO_ROLLBACK);
    Ok(())
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

async fn read(store: &Store, secret_id: &str, names: &MemberNames, listed: Listed) -> (Entry, Option<String>) {
    let Listed { id, created, labels } = listed;
    match store.secrets.get(secret_id, Selector::Id(&id)).await {
        Ok(version) => {
            let arn = version.arn.clone();
            let content = match TokenSecret::parse_with(version.body.expose(), names) {
                Ok(token) => Content::Token(Box::new(token)),
                Err(_) => Content::Other(version),
            };
            (Entry { id, created, labels, content }, Some(arn))
        }
        Err(error) => (Entry { id, created, labels, content: Content::Unreadable(error) }, None),
    }
}

/// What each version is, in words.
fn words(arn: &str, entries: &[Entry], now: DateTime<Utc>) -> Vec<String> {
    let short = |id: &VersionId| id.as_str().chars().take(SHORT).collect::<String>();
    // Several versions may have the same tokens: edits of other members.
    let mut keys: Vec<(TokenKey, &Entry)> = Vec::new();
    let mut staged: HashMap<VersionId, &Entry> = HashMap::new();
    for entry in entries {
        if let Content::Token(token) = &entry.content {
            let key = TokenKey::of(arn, &token.tokens, &token.client);
            if !keys.iter().any(|(other, _)| *other == key) {
                staged.insert(key.staged(), entry);
                keys.push((key, entry));
            }
        }
    }
    let refused: Vec<TokenKey> = keys
        .iter()
        .map(|(key, _)| *key)
        .filter(|key| {
            entries.iter().any(|entry| {
                let Content::Other(version) = &entry.content else { return false };
                matches!(Record::read(&version.body, key), RecordRead::Record(Record::Refusal { .. }))
            })
        })
        .collect();
    let exists = |id: &VersionId| entries.iter().any(|entry| entry.id == *id);
    let of_tokens = |entry: &Entry| format!("the tokens of {}", short(&entry.id));
    entries
        .iter()
        .map(|entry| match &entry.content {
            Content::Unreadable(error) => format!("not readable: {error}"),
            Content::Token(token) => {
                let end = token.expires_at.map(|end| format!(", good until {}", time(end))).unwrap_or_default();
                let state = if entry.labels.has(Label::Current) { "current: " } else { "" };
                match staged.get(&entry.id) {
                    Some(before) => format!("{state}new tokens in exchange for {}{end}", of_tokens(before)),
                    None if entry.labels.has(Label::Staged) => {
                        format!("{state}new tokens, or an edit merged with them{end}")
                    }
                    None => format!("{state}put by a person or another program{end}"),
                }
            }
            Content::Other(version) => {
                let found = keys.iter().find_map(|(key, of)| match Record::read(&version.body, key) {
                    RecordRead::Record(record) => Some((Some(record), *key, *of)),
                    RecordRead::OfLaterVersion => Some((None, *key, *of)),
                    RecordRead::Other => None,
                });
                let Some((record, key, of)) = found else {
                    return "no token secret, or the record of tokens that are gone".to_owned();
                };
                let of = of_tokens(of);
                match record {
                    Some(Record::Claim(claim)) => {
                        let has_ended = entry.labels.has(Label::Ended);
                        let end = if exists(&key.staged()) {
                            ClaimEnd::Staged
                        } else if refused.contains(&key) {
                            ClaimEnd::Refused
                        } else if has_ended {
                            ClaimEnd::WithoutTokens
                        } else {
                            ClaimEnd::Unknown
                        };
                        claimed(&claim, &of, end, now)
                    }
                    Some(Record::Refusal { refusal, .. }) => format!("the provider refused {of} ({refusal})"),
                    Some(Record::Kept { detail, .. }) => format!("a kept response: for {of} the provider {detail}"),
                    None => format!("a record of {of} that a later version of this program wrote"),
                }
            }
        })
        .collect()
}

/// How the run of a claim ended, as far as the versions show it.
#[derive(Clone, Copy)]
enum ClaimEnd {
    Staged,
    Refused,
    WithoutTokens,
    Unknown,
}

/// What came of a claim.
fn claimed(claim: &Claim, of: &str, end: ClaimEnd, now: DateTime<Utc>) -> String {
    let number = claim.attempt + 1;
    let end = match end {
        ClaimEnd::Staged => "new tokens were staged".to_owned(),
        ClaimEnd::Refused => "the provider refused".to_owned(),
        ClaimEnd::WithoutTokens => "it ended without new tokens".to_owned(),
        ClaimEnd::Unknown if now < claim.lease_ends_at => {
            format!("the run is at work, until {} at most", time(claim.lease_ends_at))
        }
        ClaimEnd::Unknown => "the run did not finish".to_owned(),
    };
    format!("attempt {number}: a run claimed {of}; {end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::VersionId;

    const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:crm-AbCdEf";

    fn token(refresh_token: &str) -> Box<TokenSecret> {
        let text =
            format!(r#"{{"refreshToken":"{refresh_token}","accessToken":"a","expiresAt":"2026-01-01T01:00:00Z"}}"#);
        Box::new(TokenSecret::parse(&text).unwrap())
    }

    fn entry(id: &VersionId, label: Option<Label>, content: Content) -> Entry {
        let labels = label.map(|label| label.as_str().to_owned()).into_iter().collect();
        Entry { id: id.clone(), created: DateTime::UNIX_EPOCH, labels, content }
    }

    #[test]
    fn a_timeline_says_what_came_of_each_version() {
        let (first, now) = (VersionId::from("11111111-first"), "2026-01-01T00:30:00Z".parse().unwrap());
        let old = token("one");
        let key = TokenKey::of(ARN, &old.tokens, &old.client);
        let record = |lease_ends_at: &str| {
            let lease_ends_at = lease_ends_at.parse().unwrap();
            let claim = Record::Claim(Claim { attempt: 0, lease_ends_at, client_settings: None });
            let body = claim.to_text(&key, "holder");
            let arn = ARN.to_owned();
            let labels = Labels::default();
            Content::Other(Version { arn, id: key.claim(0), created: DateTime::UNIX_EPOCH, labels, body })
        };
        let entries = [
            entry(&first, Some(Label::Previous), Content::Token(old)),
            entry(&key.claim(0), Some(Label::Claim), record("2026-01-01T00:31:00Z")),
            entry(&key.staged(), Some(Label::Current), Content::Token(token("two"))),
        ];
        assert_eq!(
            words(ARN, &entries, now),
            [
                "put by a person or another program, good until 2026-01-01T01:00:00Z",
                "attempt 1: a run claimed the tokens of 11111111; new tokens were staged",
                "current: new tokens in exchange for the tokens of 11111111, good until 2026-01-01T01:00:00Z",
            ]
        );
        for (label, lease_ends_at, expected) in [
            (Label::Claim, "2026-01-01T00:31:00Z", "the run is at work, until 2026-01-01T00:31:00Z at most"),
            (Label::Claim, "2026-01-01T00:29:00Z", "the run did not finish"),
            (Label::Ended, "2026-01-01T00:31:00Z", "it ended without new tokens"),
        ] {
            let entries = [
                entry(&first, Some(Label::Current), Content::Token(token("one"))),
                entry(&key.claim(0), Some(label), record(lease_ends_at)),
            ];
            assert!(words(ARN, &entries, now)[1].ends_with(expected), "{label:?}");
        }
    }
}
