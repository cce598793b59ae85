//! The secrets that arguments name: names, ARNs, and prefixes such as `myapp/prod/*`.

use super::{failure::Failure, store::Store};
use crate::{
    store::SecretStore,
    sweep::targets::{Many, Targets},
};

/// One secret to look at.
#[derive(Clone)]
pub(super) struct Target {
    pub secret_id: String,
    /// Whether an argument names it. Under a prefix, what is no token secret is left out.
    pub is_named: bool,
}

/// The secrets in the order of the arguments; those of a prefix in the order of the store. None twice.
pub(super) async fn find(store: &Store, arguments: &[String]) -> Result<Vec<Target>, Failure> {
    let mut targets: Vec<Target> = Vec::new();
    let mut add =
        |secret_id: String, is_named: bool| match targets.iter_mut().find(|other| other.secret_id == secret_id) {
            Some(target) => target.is_named |= is_named,
            None => targets.push(Target { secret_id, is_named }),
        };
    for argument in arguments {
        let targets = Targets::parse(argument);
        let targets = targets.map_err(|problem| Failure::usage(format!("the argument \"{argument}\" {problem}")))?;
        let Many { names, prefixes } = targets.into_many();
        for name in names {
            add(name, true);
        }
        for prefix in prefixes {
            let mut page = None;
            loop {
                let found = store.secrets.find(&prefix, page.as_deref()).await;
                // Nothing could be looked at.
                let failed = |error| Failure::later(store.failure(&format!("{prefix}*"), error).message);
                let found = found.map_err(failed)?;
                for found in found.found {
                    add(found.secret_id, false);
                }
                page = found.next;
                if page.is_none() {
                    break;
                }
            }
        }
    }
    Ok(targets)
}
