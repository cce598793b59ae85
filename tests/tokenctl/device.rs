//! The device flow (RFC 8628).

use serde_json::json;

use crate::{
    process::{Waiting, With, run},
    server::{DEVICE_CODE, REFRESH_TOKEN},
    world::{PUBLIC, SECRET, World},
};

#[tokio::test]
async fn the_device_flow_asks_until_the_person_has_consented() {
    let world = World::new().await;
    for _ in 0..2 {
        world.server.respond_next(400, json!({"error": "authorization_pending"}));
    }
    let waiting = world.start(&["--device", "--scope", "orders.read"]).await;
    assert_eq!(waiting.address.as_str(), format!("{}/enter?code=WDJB-MJHT", world.server.issuer));
    let ended = waiting.end().await.done();
    let instructions = format!("Open {}/enter on any device, and enter the code WDJB-MJHT", world.server.issuer);
    assert!(ended.stderr.contains(&instructions), "{}", ended.stderr);

    let begun = world.server.received("/device").pop().unwrap();
    assert_eq!(begun.parameter("scope").as_deref(), Some("orders.read openid offline_access"));
    assert_eq!(begun.parameter("client_id").as_deref(), Some("public"));
    let asked = world.server.received("/token");
    assert_eq!(asked.len(), 3);
    for asked in asked {
        assert_eq!(asked.parameter("grant_type").as_deref(), Some("urn:ietf:params:oauth:grant-type:device_code"));
        assert_eq!(asked.parameter("device_code").as_deref(), Some(DEVICE_CODE));
        assert_eq!(asked.parameter("scope"), None);
    }
    let document = world.document().await;
    assert_eq!(document["refreshToken"], REFRESH_TOKEN);
    assert_eq!(document["loginSettings"]["device"], json!(true));

    let again = Waiting::start(world.tokenctl(&["login", SECRET, "--yes"])).await;
    again.end().await.done();
}

#[tokio::test]
async fn the_device_flow_ends_with_a_refusal_or_with_its_time() {
    for (status, body, code, text) in [
        (400, json!({"error": "access_denied"}), 1, "the provider did not grant access (access_denied)"),
        (400, json!({"error": "expired_token"}), 1, "nobody entered the code in time"),
        (400, json!({"error": "invalid_grant"}), 1, "refused the device code (status 400, invalid_grant)"),
        (401, json!({"error": "invalid_client"}), 1, "refused the device code (status 401, invalid_client)"),
    ] {
        let world = World::new().await;
        world.server.respond_next(status, body);
        world.start(&["--device"]).await.end().await.failed(code, text);
        assert!(!world.exists().await);
    }
    let world = World::new().await;
    for _ in 0..9 {
        world.server.respond_next(400, json!({"error": "authorization_pending"}));
    }
    world.start(&["--device", "--timeout", "2"]).await.end().await.failed(1, "nobody entered the code in time");
}

#[tokio::test]
async fn a_server_that_fails_for_a_moment_is_asked_again() {
    let world = World::new().await;
    world.server.respond_next(503, json!({}));
    let ended = world.start(&["--device"]).await.end().await.done();
    assert!(ended.stderr.contains("answered 503; trying again"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_server_without_a_device_endpoint_is_named() {
    let world = World::new().await;
    world.server.change_metadata(json!({"device_authorization_endpoint": null}));
    run(world.login(&PUBLIC).with(["--device"]), "").await.failed(2, "no device authorization endpoint is known");
    world.server.change_metadata(json!({"device_authorization_endpoint": "https://elsewhere.example/device"}));
    let ended = run(world.login(&PUBLIC).with(["--device"]), "").await;
    ended.failed(2, "the device authorization endpoint is at elsewhere.example, and the token endpoint at 127.0.0.1");
    let elsewhere = format!("{}/nowhere", world.server.issuer);
    let command = world.login(&PUBLIC).with(["--device", "--device-authorization-endpoint", &elsewhere]);
    run(command, "").await.failed(1, "returned no device code (status 404)");
}
