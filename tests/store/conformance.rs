//! What every store must do: tests that run over any store. `conforms!(name, peer)` runs all of them: see `docs/adding-a-store.md`.

use std::{collections::BTreeSet, sync::Arc};

use token_refresher::{
    error::Audience,
    secret::Secret,
    store::{BATCH, Content, Label, Labels, Listed, Operation, SecretStore, Selector, StoreError, VersionId},
};

/// A store under test, and a way to create a secret in it.
pub trait Peer {
    type Store: SecretStore + 'static;

    /// The store, as a run uses it.
    fn store(&self) -> &Arc<Self::Store>;

    /// Creates a secret with its first version and returns the version's id.
    fn create(&self, name: &str, text: &str) -> impl Future<Output = VersionId>;

    /// A version id that this store accepts. Each number has a different id.
    fn id(&self, number: usize) -> VersionId {
        format!("00000000-0000-4000-8000-{number:012}").into()
    }
}

pub const NAME: &str = "crm/prod/oauth";

fn text(text: &str) -> Secret {
    text.into()
}

async fn labelled<S: SecretStore>(store: &S, label: Label) -> Result<(VersionId, String), StoreError> {
    let version = store.get(NAME, Selector::Label(label)).await?;
    Ok((version.id, version.body.expose().to_owned()))
}

pub async fn a_version_is_read_by_its_label_and_by_its_id(peer: impl Peer) {
    let first = peer.create(NAME, "one").await;
    let store = peer.store();
    store.put(NAME, &peer.id(2), Label::Staged, &text("two")).await.unwrap();
    assert_eq!(labelled(&**store, Label::Current).await.unwrap(), (first.clone(), "one".to_owned()));
    assert_eq!(labelled(&**store, Label::Staged).await.unwrap(), (peer.id(2), "two".to_owned()));
    for (id, expected) in [(&first, "one"), (&peer.id(2), "two")] {
        assert_eq!(store.get(NAME, Selector::Id(id)).await.unwrap().body.expose(), expected);
    }
}

pub async fn a_secret_has_the_same_arn_in_every_read_and_no_other_secret_has_it(peer: impl Peer) {
    peer.create(NAME, "one").await;
    peer.create("another", "one").await;
    let store = peer.store();
    store.put(NAME, &peer.id(2), Label::Staged, &text("two")).await.unwrap();
    let arn = store.get(NAME, Selector::Label(Label::Current)).await.unwrap().arn;
    assert_eq!(store.get(NAME, Selector::Id(&peer.id(2))).await.unwrap().arn, arn);
    assert_ne!(store.get("another", Selector::Label(Label::Current)).await.unwrap().arn, arn);
}

pub async fn a_put_fails_if_the_id_exists_with_another_text(peer: impl Peer) {
    peer.create(NAME, "one").await;
    let store = peer.store();
    for (body, expected) in [("two", Ok(())), ("two", Ok(())), ("other", Err(StoreError::Exists))] {
        assert_eq!(store.put(NAME, &peer.id(2), Label::Claim, &text(body)).await, expected, "{body}");
    }
    assert_eq!(store.get(NAME, Selector::Id(&peer.id(2))).await.unwrap().body.expose(), "two");
}

pub async fn exactly_one_of_several_concurrent_puts_succeeds(peer: impl Peer) {
    peer.create(NAME, "one").await;
    let puts: Vec<_> = (0..8)
        .map(|n| {
            let (store, id) = (Arc::clone(peer.store()), peer.id(2));
            tokio::spawn(async move { store.put(NAME, &id, Label::Claim, &text(&format!("run {n}"))).await })
        })
        .collect();
    let mut winners = Vec::new();
    for (n, put) in puts.into_iter().enumerate() {
        match put.await.unwrap() {
            Ok(()) => winners.push(format!("run {n}")),
            lost => assert_eq!(lost, Err(StoreError::Exists)),
        }
    }
    assert_eq!(winners, [labelled(&**peer.store(), Label::Claim).await.unwrap().1]);
}

pub async fn a_put_moves_its_label_and_not_awscurrent(peer: impl Peer) {
    let first = peer.create(NAME, "one").await;
    let store = peer.store();
    for number in [2, 3] {
        store.put(NAME, &peer.id(number), Label::Claim, &text("a claim")).await.unwrap();
        assert_eq!(labelled(&**store, Label::Claim).await.unwrap().0, peer.id(number));
        assert_eq!(labelled(&**store, Label::Current).await.unwrap().0, first);
    }
    let listed = store.list(NAME).await.unwrap();
    let labelled: Vec<_> = listed.iter().filter(|version| version.labels.any()).map(|version| &version.id).collect();
    assert_eq!((listed.len(), labelled), (3, vec![&first, &peer.id(3)]));
}

pub async fn a_move_is_compare_and_swap(peer: impl Peer) {
    let first = peer.create(NAME, "one").await;
    let store = peer.store();
    for number in [2, 3] {
        store.put(NAME, &peer.id(number), Label::Staged, &text("staged")).await.unwrap();
    }
    assert!(matches!(store.move_current(NAME, &peer.id(2), &peer.id(3)).await, Err(StoreError::Moved { .. })));
    assert_eq!(labelled(&**store, Label::Current).await.unwrap().0, first);
    store.move_current(NAME, &first, &peer.id(2)).await.unwrap();
    assert_eq!(labelled(&**store, Label::Current).await.unwrap().0, peer.id(2));
    assert_eq!(labelled(&**store, Label::Previous).await.unwrap().0, first);
    assert!(matches!(store.move_current(NAME, &first, &peer.id(3)).await, Err(StoreError::Moved { .. })));
}

pub async fn a_label_moves_onto_a_version_from_none_and_from_another(peer: impl Peer) {
    peer.create(NAME, "one").await;
    let store = peer.store();
    for number in [2, 3] {
        store.put(NAME, &peer.id(number), Label::Claim, &text("a claim")).await.unwrap();
    }
    store.move_label(NAME, Label::Ended, None, &peer.id(2)).await.unwrap();
    let not_from_none = store.move_label(NAME, Label::Ended, None, &peer.id(3)).await;
    assert!(matches!(not_from_none, Err(StoreError::Moved { .. })), "{not_from_none:?}");
    store.move_label(NAME, Label::Ended, Some(&peer.id(2)), &peer.id(3)).await.unwrap();
    for (number, labels) in [(2, Labels::default()), (3, Labels::from([Label::Claim, Label::Ended]))] {
        let mut read: Vec<_> =
            store.get(NAME, Selector::Id(&peer.id(number))).await.unwrap().labels.names().map(str::to_owned).collect();
        read.sort();
        assert_eq!(read, labels.names().collect::<Vec<_>>(), "{number}");
    }
}

pub async fn a_label_is_removed_from_the_version_that_has_it_and_no_other(peer: impl Peer) {
    peer.create(NAME, "one").await;
    let store = peer.store();
    for number in [2, 3] {
        store.put(NAME, &peer.id(number), Label::Claim, &text("a claim")).await.unwrap();
    }
    store.move_label(NAME, Label::Pending, None, &peer.id(2)).await.unwrap();
    let elsewhere = store.remove_label(NAME, Label::Pending, &peer.id(3)).await;
    assert!(matches!(elsewhere, Err(StoreError::Moved { .. })), "{elsewhere:?}");
    store.remove_label(NAME, Label::Pending, &peer.id(2)).await.unwrap();
    let labelled = store.list(NAME).await.unwrap();
    assert!(labelled.iter().all(|version| !version.labels.has(Label::Pending)), "{labelled:?}");
    let again = store.remove_label(NAME, Label::Pending, &peer.id(2)).await;
    assert!(matches!(again, Err(StoreError::Moved { .. })), "{again:?}");
}

pub async fn exactly_one_of_several_concurrent_moves_succeeds(peer: impl Peer) {
    let first = peer.create(NAME, "one").await;
    for number in 2..10 {
        peer.store().put(NAME, &peer.id(number), Label::Staged, &text("staged")).await.unwrap();
    }
    let moves: Vec<_> = (2..10)
        .map(|number| {
            let (store, from, to) = (Arc::clone(peer.store()), first.clone(), peer.id(number));
            tokio::spawn(async move { store.move_current(NAME, &from, &to).await.map(|()| to) })
        })
        .collect();
    let mut winners = Vec::new();
    for moved in moves {
        match moved.await.unwrap() {
            Ok(to) => winners.push(to),
            Err(lost) => assert!(matches!(lost, StoreError::Moved { .. }), "{lost:?}"),
        }
    }
    assert_eq!(winners, [labelled(&**peer.store(), Label::Current).await.unwrap().0]);
}

pub async fn a_missing_secret_version_or_label_is_not_found(peer: impl Peer) {
    let first = peer.create(NAME, "one").await;
    let store = peer.store();
    for result in [
        store.get("missing", Selector::Label(Label::Current)).await.map(drop),
        store.put("missing", &peer.id(2), Label::Claim, &text("a claim")).await,
        store.list("missing").await.map(drop),
        store.get(NAME, Selector::Id(&peer.id(9))).await.map(drop),
        store.get(NAME, Selector::Label(Label::Staged)).await.map(drop),
        store.move_current(NAME, &first, &peer.id(9)).await,
    ] {
        assert!(matches!(result, Err(StoreError::NotFound { .. })), "{result:?}");
    }
}

pub async fn every_version_is_listed_with_the_time_when_it_was_put(peer: impl Peer) {
    let first = peer.create(NAME, "one").await;
    let store = peer.store();
    for number in 2..5 {
        store.put(NAME, &peer.id(number), Label::Claim, &text("a claim")).await.unwrap();
    }
    let listed = store.list(NAME).await.unwrap();
    let ids: BTreeSet<_> = listed.iter().map(|version| version.id.clone()).collect();
    assert_eq!(ids, BTreeSet::from([first, peer.id(2), peer.id(3), peer.id(4)]));
    for Listed { id, created, .. } in &listed {
        assert_eq!(store.get(NAME, Selector::Id(id)).await.unwrap().created, *created, "{id}");
    }
}

pub async fn a_version_fits_up_to_the_size_limit(peer: impl Peer) {
    peer.create(NAME, "one").await;
    let (store, max_bytes) = (peer.store(), peer.store().limits().version_bytes);
    store.put(NAME, &peer.id(2), Label::Staged, &text(&"x".repeat(max_bytes))).await.unwrap();
    assert_eq!(store.get(NAME, Selector::Id(&peer.id(2))).await.unwrap().body.expose().len(), max_bytes);
    let too_large = store.put(NAME, &peer.id(3), Label::Staged, &text(&"x".repeat(max_bytes + 1))).await;
    assert!(matches!(too_large, Err(StoreError::Rejected { .. })), "{too_large:?}");
}

pub async fn a_secret_has_room_for_the_versions_of_its_limits(peer: impl Peer) {
    let first = peer.create(NAME, "one").await;
    let (store, versions) = (peer.store(), peer.store().limits().versions);
    for number in 2..=versions {
        store.put(NAME, &peer.id(number), Label::Claim, &text("a claim")).await.unwrap();
    }
    let full = store.put(NAME, &peer.id(versions + 1), Label::Claim, &text("a claim")).await;
    assert!(matches!(full, Err(StoreError::Quota { .. })), "{full:?}");
    // Calls that need no room still succeed.
    store.put(NAME, &peer.id(2), Label::Claim, &text("a claim")).await.unwrap();
    store.move_current(NAME, &first, &peer.id(2)).await.unwrap();
}

pub async fn a_reader_gets_the_same_text(peer: impl Peer) {
    let first = peer.create(NAME, "one").await;
    let (id, content) = peer.store().read(NAME, Selector::Label(Label::Current)).await.unwrap();
    assert_eq!((id, content), (first, Content::Text(text("one"))));
}

pub async fn no_error_contains_the_text_of_a_version(peer: impl Peer) {
    peer.create(NAME, "one").await;
    let (store, body) = (peer.store(), text("unseen-0123456789"));
    store.put(NAME, &peer.id(2), Label::Claim, &body).await.unwrap();
    let too_large = text(&"unseen-0123456789".repeat(store.limits().version_bytes));
    for error in [
        store.put(NAME, &peer.id(2), Label::Claim, &text("unseen-9876543210")).await.unwrap_err(),
        store.put(NAME, &peer.id(3), Label::Claim, &too_large).await.unwrap_err(),
        store.put("missing", &peer.id(3), Label::Claim, &body).await.unwrap_err(),
    ] {
        assert!(!format!("{error} {error:?}").contains("unseen"), "an error contains the text of a version");
    }
}

pub async fn every_operation_has_a_name_and_every_error_has_advice(peer: impl Peer) {
    let store = peer.store();
    for operation in [Operation::Get, Operation::Put, Operation::MoveLabel, Operation::List, Operation::GetBatch] {
        let action = store.action(operation);
        assert!(!action.is_empty(), "{operation:?}");
        let detail = || "no".to_owned();
        for error in [
            StoreError::NotFound { detail: detail() },
            StoreError::AccessDenied { action, detail: detail() },
            StoreError::Exists,
            StoreError::Moved { detail: detail() },
            StoreError::NotAuthenticated { action, detail: detail() },
            StoreError::NotConfigured { detail: detail() },
            StoreError::Quota { detail: detail() },
            StoreError::Binary,
            StoreError::Rejected { action, detail: detail() },
            StoreError::Throttled { action, detail: detail() },
            StoreError::Unavailable { action, detail: detail() },
        ] {
            for audience in [Audience::Function, Audience::CommandLine] {
                assert!(!store.advice(&error, NAME).text(audience).is_empty(), "{error:?} {audience:?}");
            }
        }
    }
}

pub async fn a_batch_has_the_current_versions_in_the_order_of_the_names(peer: impl Peer) {
    let first = peer.create(NAME, "one").await;
    let other = peer.create("another", "other").await;
    let store = peer.store();
    store.put(NAME, &peer.id(2), Label::Staged, &text("two")).await.unwrap();
    let batch = store.get_batch(&["another", "missing", NAME]).await.unwrap();
    let ids: Vec<_> = batch.iter().map(|version| version.as_ref().map(|version| version.id.clone())).collect();
    assert_eq!(ids, [Some(other), None, Some(first)]);
    store.move_current(NAME, &batch[2].as_ref().unwrap().id, &peer.id(2)).await.unwrap();
    let batch = store.get_batch(&[NAME]).await.unwrap();
    let promoted = batch[0].as_ref().expect("the promoted version");
    assert_eq!((promoted.body.expose(), promoted.labels.has(Label::Staged)), ("two", true));
    assert_eq!(promoted.arn, store.get(NAME, Selector::Label(Label::Current)).await.unwrap().arn);
}

pub async fn a_search_finds_each_secret_below_a_prefix_once_and_no_other(peer: impl Peer) {
    let below: BTreeSet<String> = (0..45).map(|n| format!("myapp/prod/{n:02}/oauth")).collect();
    for name in
        below.iter().map(String::as_str).chain(["myapp/prod", "myapp/prodigy", "other/myapp/prod/1", "MYAPP/PROD/1"])
    {
        peer.create(name, name).await;
    }
    let (mut found, mut pages, mut next) = (Vec::new(), 0, None);
    loop {
        let page = peer.store().find("myapp/prod/", next.as_deref()).await.unwrap();
        assert!(page.found.len() <= BATCH);
        pages += 1;
        for secret in page.found {
            assert_eq!(secret.version.expect("its current version").body.expose(), secret.secret_id);
            found.push(secret.secret_id);
        }
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!((found.len(), pages), (below.len(), 3));
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), below);
    let none = peer.store().find("nobody/", None).await.unwrap();
    assert!(none.found.is_empty() && none.next.is_none());
}

/// Runs the suite over a store: `conforms!(module_name, future of a new Peer)`.
#[macro_export]
macro_rules! conforms {
    ($store:ident, $peer:expr) => {
        $crate::conforms!(@ $store, $peer,
            a_version_is_read_by_its_label_and_by_its_id,
            a_secret_has_the_same_arn_in_every_read_and_no_other_secret_has_it,
            a_put_fails_if_the_id_exists_with_another_text,
            exactly_one_of_several_concurrent_puts_succeeds,
            a_put_moves_its_label_and_not_awscurrent,
            a_move_is_compare_and_swap,
            a_label_moves_onto_a_version_from_none_and_from_another,
            a_label_is_removed_from_the_version_that_has_it_and_no_other,
            exactly_one_of_several_concurrent_moves_succeeds,
            a_missing_secret_version_or_label_is_not_found,
            every_version_is_listed_with_the_time_when_it_was_put,
            a_version_fits_up_to_the_size_limit,
            a_secret_has_room_for_the_versions_of_its_limits,
            a_batch_has_the_current_versions_in_the_order_of_the_names,
            a_search_finds_each_secret_below_a_prefix_once_and_no_other,
            a_reader_gets_the_same_text,
            no_error_contains_the_text_of_a_version,
            every_operation_has_a_name_and_every_error_has_advice,
        );
    };
    (@ $store:ident, $peer:expr, $($test:ident),+ $(,)?) => {
        mod $store {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $crate::conformance::$test($peer.await).await;
            })+
        }
    };
}
