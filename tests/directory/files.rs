//! Files that are damaged, inconsistent or not state files: the error names the file and the remedy, and the file is unchanged.

use std::{collections::BTreeMap, fs, ops::Range, os::unix::fs::symlink, path::Path};

use serde_json::{Value, json};
use token_refresher::store::{Label, SecretStore, Selector, StoreError, directory::DirectoryStore};

use crate::{
    summary,
    world::{NAME, TestClock, World, block_on, id},
};

/// The size limit of a state file, by the sizes that Secrets Manager documents: 100 versions of 65,536 bytes.
const MAX_BYTES: usize = 100 * (6 * 65_536 + 1024);

/// Reads the file: `Ok`, or the reason in the error message.
async fn read(store: &DirectoryStore, path: &Path) -> Result<(), String> {
    match store.list(NAME).await {
        Ok(_) => Ok(()),
        Err(StoreError::Rejected { action: "read", detail }) => {
            let (before, after) = (
                format!("{} is not a secret's state file, or a damaged one (", path.display()),
                "); repair it or replace it by a copy; it was not changed",
            );
            let reason = detail.strip_prefix(&before).and_then(|detail| detail.strip_suffix(after));
            Err(reason.unwrap_or_else(|| panic!("another reason")).to_owned())
        }
        Err(other) => panic!("another error: {other}"),
    }
}

/// Fails unless every operation rejects the file and leaves it unchanged.
async fn assert_rejected_and_unchanged(store: &DirectoryStore, path: &Path, case: &str) {
    let before = fs::read(path).ok();
    for rejected in [
        store.get(NAME, Selector::Label(Label::Current)).await.map(drop),
        store.create(NAME, &"new".into()).await.map(drop),
        store.put(NAME, &id(9), Label::Claim, &"new".into()).await,
        store.put_value(NAME, &"new".into()).await.map(drop),
        store.move_current(NAME, &id(2), &id(3)).await,
        store.roll_back(NAME).await.map(drop),
    ] {
        assert!(matches!(rejected, Err(StoreError::Rejected { .. })), "{case}: not rejected");
    }
    assert!(fs::read(path).ok() == before, "{case}: the file was changed");
}

#[test]
fn a_truncated_file_is_rejected() {
    let world = block_on(World::new());
    let (store, path) = (world.store(&TestClock::new()), world.file("json"));
    let whole = fs::read(&path).expect("the state file");
    block_on(async {
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).expect("a file");
            let column = read(&store, &path).await.expect_err("it is damaged");
            assert_eq!(column, format!("line 1, column {length}"));
            assert_rejected_and_unchanged(&store, &path, &format!("{length} bytes")).await;
        }
        fs::write(&path, &whole).expect("a file");
        assert_eq!(read(&store, &path).await, Ok(()));
    });
    summary(&format!("directory: a state file truncated to {} lengths", whole.len()));
}

/// The ranges in which a damaged byte can leave a valid state file: inside texts. Among ids only those of versions without a label,
/// among label names all but AWSCURRENT.
fn texts(whole: &str) -> Vec<Range<usize>> {
    let parsed: Value = serde_json::from_str(whole).expect("a state file");
    let mut texts = Vec::new();
    let mut allow = |member: &str, text: &Value| {
        let text = text.to_string();
        let at = whole.find(&format!("{member}{text}")).expect("the text") + member.len();
        texts.push(at + 1..at + text.len() - 1);
    };
    allow("\"arn\":", &parsed["arn"]);
    for version in parsed["versions"].as_array().expect("versions") {
        allow(&format!("\"id\":{},\"created\":", version["id"]), &version["created"]);
        allow("\"body\":", &version["body"]);
        if !parsed["labels"].as_object().expect("labels").values().any(|id| *id == version["id"]) {
            allow("\"id\":", &version["id"]);
        }
    }
    for label in parsed["labels"].as_object().expect("labels").keys().filter(|label| *label != "AWSCURRENT") {
        allow("", &json!(label));
    }
    texts
}

#[test]
fn a_damaged_byte_outside_of_texts_is_rejected() {
    let world = block_on(World::new());
    let (store, path) = (world.store(&TestClock::new()), world.file("json"));
    block_on(store.put(NAME, &id(4), Label::Staged, &"staged next".into())).expect("a version");
    let mut whole = fs::read_to_string(&path).expect("the state file");
    // Real ids differ in many bytes. These do too, so that no damaged byte turns one into another.
    for n in 2..=4 {
        whole = whole.replace(id(n).as_str(), &format!("{n:x}{n:x}{n:x}{n:x}0000-0000-4000-8000-00000000000{n}"));
    }
    let texts = texts(&whole);
    let whole = whole.into_bytes();
    let mut outcomes = BTreeMap::new();
    block_on(async {
        for at in 0..whole.len() {
            let flipped = (0..8).map(|bit| whole[at] ^ 1 << bit);
            for byte in flipped.chain([0, 0xff]) {
                let mut damaged = whole.clone();
                damaged[at] = byte;
                fs::write(&path, &damaged).expect("a file");
                match read(&store, &path).await {
                    Ok(()) => {
                        assert!(texts.iter().any(|text| text.contains(&at)), "byte {at} as {byte:#x} is accepted");
                        *outcomes.entry("still a state file").or_insert(0) += 1;
                    }
                    Err(reason) => {
                        let kind =
                            if reason.starts_with("line 1, column ") { "not a state file" } else { "inconsistent" };
                        *outcomes.entry(kind).or_insert(0) += 1;
                        if byte == 0 {
                            assert_rejected_and_unchanged(&store, &path, &format!("byte {at}")).await;
                        }
                    }
                }
            }
        }
    });
    assert_eq!(outcomes.len(), 3);
    summary(&format!("directory: {} damaged bytes: {outcomes:?}", 10 * whole.len()));
}

type Damage = Box<dyn Fn(&mut Value)>;

#[test]
fn an_inconsistent_file_is_rejected() {
    let world = block_on(World::new());
    let (store, path) = (world.store(&TestClock::new()), world.file("json"));
    let whole: Value = serde_json::from_slice(&fs::read(&path).expect("the state file")).expect("JSON");
    let [two, three, missing] = [id(2), id(3), id(9)].map(|id| id.as_str().to_owned());
    let mut cases: Vec<(&str, Damage, Result<(), &str>)> = vec![
        ("unchanged", Box::new(|_| {}), Ok(())),
        (
            "two labels on one version",
            Box::new({
                let two = two.clone();
                move |state| state["labels"]["OAUTH_CLAIM"] = json!(two)
            }),
            Ok(()),
        ),
    ];
    let moved = "a staging label is on a version that is not there";
    for label in ["AWSCURRENT", "AWSPREVIOUS", "OAUTH_CLAIM", "another"] {
        let missing = missing.clone();
        cases.push((
            "a label on no version",
            Box::new(move |state| state["labels"][label] = json!(missing)),
            Err(moved),
        ));
    }
    let without_current = "no version has the staging label AWSCURRENT";
    cases.push((
        "no current version",
        Box::new(|state| {
            state["labels"].as_object_mut().expect("labels").remove("AWSCURRENT");
        }),
        Err(without_current),
    ));
    cases.push(("no label", Box::new(|state| state["labels"] = json!({})), Err(without_current)));
    cases.push(("no version", Box::new(|state| state["versions"] = json!([])), Err(moved)));
    cases.push((
        "no version and no label",
        Box::new(|state| {
            state["versions"] = json!([]);
            state["labels"] = json!({});
        }),
        Ok(()),
    ));
    cases.push((
        "one version less",
        Box::new(|state| drop(state["versions"].as_array_mut().expect("versions").pop())),
        Err(moved),
    ));
    cases.push((
        "a duplicate id",
        Box::new(move |state| state["versions"][0]["id"] = json!(three)),
        Err("two versions have the same id"),
    ));
    block_on(async {
        for (case, damage, expected) in cases {
            let mut state = whole.clone();
            damage(&mut state);
            fs::write(&path, state.to_string()).expect("a file");
            assert_eq!(read(&store, &path).await, expected.map_err(str::to_owned), "{case}");
            if expected.is_err() {
                assert_rejected_and_unchanged(&store, &path, case).await;
            }
        }
    });
}

#[test]
fn a_file_with_unknown_content_is_rejected_and_not_overwritten() {
    let world = block_on(World::new());
    let (store, path) = (world.store(&TestClock::new()), world.file("json"));
    let whole = fs::read_to_string(&path).expect("the state file");
    let bytes = |text: String| text.into_bytes();
    let label = r#""AWSCURRENT":"00000000-0000-4000-8000-000000000002""#;
    assert!(whole.contains(label));
    block_on(async {
        for (case, text) in [
            ("empty", Vec::new()),
            ("a byte order mark", bytes(format!("\u{feff}{whole}"))),
            ("UTF-16", whole.encode_utf16().flat_map(u16::to_le_bytes).collect()),
            ("not UTF-8", whole.replace("staged", "st\u{e4}ged").chars().map(|char| char as u8).collect()),
            ("an unknown member", bytes(whole.replacen('{', r#"{"note":"mine","#, 1))),
            ("an unknown member of a version", bytes(whole.replacen(r#"{"id""#, r#"{"note":"mine","id""#, 1))),
            ("a duplicate member", bytes(whole.replacen('{', r#"{"arn":"mine","#, 1))),
            ("a duplicate label", bytes(whole.replacen(label, &format!("{label},{label}"), 1))),
            ("two files in one", bytes(format!("{whole}{whole}"))),
            ("a merge conflict", bytes(format!("<<<<<<< mine\n{whole}\n=======\n{whole}\n>>>>>>> theirs\n"))),
        ] {
            fs::write(&path, text).expect("a file");
            let reason = read(&store, &path).await.expect_err(case);
            assert!(reason.starts_with("line 1, column "), "{case}: {reason}");
            assert_rejected_and_unchanged(&store, &path, case).await;
        }
        for (case, text) in [("white space", format!(" \r\n\t{whole}\n")), ("a final newline", format!("{whole}\n"))] {
            fs::write(&path, text).expect("a file");
            assert_eq!(read(&store, &path).await, Ok(()), "{case}");
        }
    });
}

#[test]
fn a_folder_a_link_or_a_device_in_place_of_the_file_is_rejected() {
    let world = block_on(World::new());
    let (store, path) = (world.store(&TestClock::new()), world.file("json"));
    let elsewhere = world.path("elsewhere.json");
    fs::rename(&path, &elsewhere).expect("a file");
    let rejected = Err("a folder, a link or a device".to_owned());
    block_on(async {
        symlink(&elsewhere, &path).expect("a link");
        assert_eq!(read(&store, &path).await, rejected);
        assert_rejected_and_unchanged(&store, &path, "a link").await;
        assert!(fs::symlink_metadata(&path).expect("the link").is_symlink());
        fs::remove_file(&path).expect("the link");

        fs::create_dir(&path).expect("a folder");
        assert_eq!(read(&store, &path).await, rejected);
        assert_rejected_and_unchanged(&store, &path, "a folder").await;
        fs::remove_dir(&path).expect("the folder");

        // A read of a pipe would wait for a writer without end.
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
        assert!(made.success());
        assert_eq!(read(&store, &path).await, rejected);
        fs::remove_file(&path).expect("the pipe");

        // The folder itself may be a link.
        fs::rename(&elsewhere, &path).expect("a file");
        symlink(world.folder(), world.path("link")).expect("a link");
        let store = DirectoryStore::open(world.path("link"), TestClock::new().clock()).expect("the folder");
        assert_eq!(store.list(NAME).await.expect("the secret").len(), 3);
    });
}

#[test]
fn the_longest_allowed_state_file_is_read_and_a_longer_one_only_up_to_the_limit() {
    let world = block_on(World::new());
    let (store, path) = (world.store(&TestClock::new()), world.file("json"));
    // Each of its characters takes six bytes in JSON.
    let longest = "\u{1}".repeat(65_536);
    let versions: Vec<Value> = (1..=100)
        .map(|n| json!({"id": id(n).as_str(), "created": "2026-01-01T00:00:00.000000001Z", "body": longest}))
        .collect();
    let state =
        json!({"arn": "local:longest", "labels": {"AWSCURRENT": id(1).as_str()}, "versions": versions}).to_string();
    block_on(async {
        for (length, expected) in [
            (state.len(), Ok(())),
            (MAX_BYTES, Ok(())),
            (MAX_BYTES + 1, Err(format!("over {MAX_BYTES} bytes"))),
            (100 << 20, Err(format!("over {MAX_BYTES} bytes"))),
            (1 << 40, Err(format!("over {MAX_BYTES} bytes"))),
        ] {
            if length <= MAX_BYTES + 1 {
                fs::write(&path, [state.as_str(), &" ".repeat(length - state.len())].concat()).expect("a file");
            } else {
                // A file with a hole takes no room.
                let file = fs::OpenOptions::new().write(true).open(&path).expect("the file");
                file.set_len(length as u64).expect("a longer file");
            }
            assert_eq!(read(&store, &path).await, expected, "{length} bytes");
        }
    });
}
