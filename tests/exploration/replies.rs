//! Replies to steps, from the store or as errors. Digests of replies, and descriptions of steps.

use std::hash::{DefaultHasher, Hash, Hasher};

use token_refresher::{
    oauth::response::{TokenResponse, TransportError},
    store::{StoreError, VersionId, aws, versions::Versions},
};

use crate::{
    neighbour::current_of,
    run::{Reply, Step, Which},
};

pub fn read_reply(versions: &Versions, step: &Step) -> Reply {
    match step {
        Step::Get(Which::Id(id)) => Reply::Version(versions.get(Some(id), None)),
        Step::Get(Which::Label(label)) => Reply::Version(versions.get(None, Some(label.as_str()))),
        Step::GetBatch | Step::Find => Reply::Current(Ok(current_of(versions))),
        Step::List => Reply::Listed(Ok(versions.list(true))),
        other => unreachable!("{other:?} is not a read"),
    }
}

pub fn error_reply(step: &Step, error: impl FnOnce(&'static str) -> StoreError) -> Reply {
    match step {
        Step::Get(_) => Reply::Version(Err(error(aws::GET))),
        Step::GetBatch | Step::Find => Reply::Current(Err(error(aws::GET_BATCH))),
        Step::Put { .. } => Reply::Done(Err(error(aws::PUT))),
        Step::Move { .. } => Reply::Done(Err(error(aws::MOVE))),
        Step::List => Reply::Listed(Err(error(aws::LIST))),
        Step::Exchange(_) => Reply::Response(TokenResponse::Failed(TransportError::MaybeSpent {
            what: "the connection was lost".to_owned(),
            responded: false,
        })),
        Step::OnPublished(step) => error_reply(step, error),
    }
}

/// The store or the provider may have done the step.
pub fn unavailable_reply(step: &Step) -> Reply {
    error_reply(step, |action| StoreError::Unavailable { action, detail: "the connection was lost".to_owned() })
}

pub fn denied_reply(step: &Step) -> Reply {
    error_reply(step, |action| StoreError::AccessDenied { action, detail: "explicit deny".to_owned() })
}

pub fn throttled_reply(step: &Step) -> Reply {
    error_reply(step, |action| StoreError::Throttled { action, detail: "Rate exceeded".to_owned() })
}

pub fn digest_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Includes the secret texts of a reply.
pub fn digest(reply: &Reply) -> u64 {
    match reply {
        Reply::Version(Ok(version)) | Reply::Current(Ok(Some(version))) => {
            let labels: Vec<_> = version.labels.names().collect();
            digest_of(&(0, &version.id, version.created, version.body.expose(), labels))
        }
        Reply::Current(Ok(None)) => 7,
        Reply::Version(Err(error))
        | Reply::Current(Err(error))
        | Reply::Done(Err(error))
        | Reply::Listed(Err(error)) => digest_of(&(1, error.to_string())),
        Reply::Done(Ok(())) => 2,
        Reply::Listed(Ok(versions)) => digest_of(
            &versions
                .iter()
                .map(|version| (&version.id, version.labels.names().collect::<Vec<_>>()))
                .collect::<Vec<_>>(),
        ),
        Reply::Response(TokenResponse::Issued(_)) => 3,
        Reply::Response(TokenResponse::Refused(_)) => 4,
        Reply::Response(TokenResponse::Failed(_)) => 5,
        Reply::Response(TokenResponse::Unreadable(_)) => 6,
    }
}

pub fn describe(step: &Step) -> String {
    let short = |id: &VersionId| id.as_str().chars().take(8).collect::<String>();
    match step {
        Step::Get(Which::Label(label)) => format!("reads {}", label.as_str()),
        Step::Get(Which::Id(id)) => format!("reads {}", short(id)),
        Step::GetBatch => "reads the secrets of the sweep".to_owned(),
        Step::Find => "searches for secrets".to_owned(),
        Step::Put { id, label, .. } => format!("puts {} under {}", short(id), label.as_str()),
        Step::Move { label, from: Some(from), to } => {
            format!("moves {} from {} to {}", label.as_str(), short(from), short(to))
        }
        Step::Move { label, from: None, to } => format!("moves {} to {}", label.as_str(), short(to)),
        Step::List => "lists the versions".to_owned(),
        Step::Exchange(_) => "asks the provider for tokens".to_owned(),
        Step::OnPublished(step) => format!("{} (published secret)", describe(step)),
    }
}
