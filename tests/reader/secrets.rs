//! Secrets that are not token secrets, through the same cache.

use std::collections::BTreeMap;

use token_refresher::{
    reader::{SecretReader, SecretReaderBuilder, SecretVersion, Wanted},
    store::StoreError,
};

use crate::world::{SECRET_ID, World, seconds, unavailable};

fn builder(world: &World) -> SecretReaderBuilder {
    SecretReader::builder(world.source(), SECRET_ID).clock(world.clock())
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_read_as_text_bytes_or_json() {
    let world = World::new();
    world.put("v2", r#"{"host": "db.example", "port": "5432"}"#);
    let text = builder(&world).text().get().await.unwrap();
    assert_eq!(text.expose().as_str(), r#"{"host": "db.example", "port": "5432"}"#);
    assert_eq!(text.version_id().as_str(), "v2");
    let json = builder(&world).json::<BTreeMap<String, String>>().get().await.unwrap();
    assert_eq!(json.expose()["port"], "5432");
    assert_eq!(builder(&world).bytes().get().await.unwrap().expose().as_slice(), text.expose().as_bytes());
    world.put_version(SecretVersion::bytes("v3", vec![0, 159, 146]));
    assert_eq!(builder(&world).bytes().get().await.unwrap().expose().as_slice(), [0, 159, 146]);
    world.put_version(SecretVersion::bytes("v4", b"{\"a\":\"b\"}".to_vec()));
    assert_eq!(builder(&world).json::<BTreeMap<String, String>>().get().await.unwrap().expose()["a"], "b");
}

#[tokio::test(start_paused = true)]
async fn the_error_of_a_secret_in_another_form_shows_no_value() {
    for (version, problem) in [
        (SecretVersion::text("v", "hunter2"), "it is not JSON (line 1, column 1)"),
        (
            SecretVersion::text("v", r#"{"port": "hunter2"}"#),
            "it is JSON, but not of the requested type (line 1, column 18)",
        ),
        (SecretVersion::bytes("v", vec![255]), "it is not JSON (line 1, column 1)"),
    ] {
        let world = World::new();
        world.put_version(version);
        let error = builder(&world).json::<BTreeMap<String, u16>>().get().await.unwrap_err().to_string();
        assert_eq!(error, format!("secret `crm/oauth` cannot be used: {problem}"));
    }
    let world = World::new();
    world.put_version(SecretVersion::bytes("v", vec![255]));
    assert_eq!(
        builder(&world).text().get().await.unwrap_err().to_string(),
        "secret `crm/oauth` cannot be used: it is binary, where text (SecretString) is wanted"
    );
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_read_in_the_background_in_the_last_fifth_of_its_ttl_and_waited_for_after_it() {
    let world = World::new();
    world.put("v1", "one");
    let reader = builder(&world).ttl(seconds(100)).text();
    let get = async || reader.get().await.unwrap().expose().to_string();
    for (second, text, reads) in [(0, "one", 1), (79, "one", 1)] {
        world.until(second).await;
        assert_eq!((get().await.as_str(), world.reads()), (text, reads));
    }
    world.put("v2", "two");
    world.until(90).await;
    assert_eq!(get().await, "one", "the background read starts");
    world.until(91).await;
    assert_eq!((get().await.as_str(), world.reads()), ("two", 2));
    world.put("v3", "three");
    world.until(191).await;
    assert_eq!((get().await.as_str(), world.reads()), ("three", 3), "the call did not wait for the read");
    assert!(world.wanted().iter().all(|wanted| *wanted == Wanted::Current));
}

#[tokio::test(start_paused = true)]
async fn a_temporary_error_is_hidden_and_a_missing_secret_is_an_error() {
    let world = World::new();
    world.put("v1", "one");
    let reader = builder(&world).text();
    reader.get().await.unwrap();
    world.fail_with(unavailable());
    for second in (0..3000).step_by(100) {
        world.until(second).await;
        assert_eq!(reader.get().await.unwrap().expose().as_str(), "one", "after {second} s");
    }
    world.fail_with(StoreError::NotFound { detail: "no".to_owned() });
    world.until(3100).await;
    assert!(reader.get().await.unwrap_err().to_string().starts_with("secret `crm/oauth` was not found (no)"));
}

#[tokio::test(start_paused = true)]
async fn the_previous_version_can_be_read_too() {
    let world = World::new();
    world.put("v2", "new");
    let current = builder(&world).text().get().await.unwrap();
    let previous = builder(&world).previous().text().get().await.unwrap();
    assert_eq!((current.version_id().as_str(), previous.version_id().as_str()), ("v2", "v1"));
}
