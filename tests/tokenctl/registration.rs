//! Dynamic client registration (RFC 7591).

use serde_json::{Value, json};

use crate::{
    process::{Waiting, run},
    server::{REGISTERED_SECRET, REGISTRATION_TOKEN},
    world::World,
};

#[tokio::test]
async fn a_client_is_registered_where_the_secret_and_the_options_name_none() {
    let world = World::new().await;
    let waiting = Waiting::start(world.login(&["--scope", "orders.read"])).await;
    let redirect_uri = waiting.parameter("redirect_uri").unwrap();
    let registered = world.server.received("/register").pop().unwrap();
    let request: Value = serde_json::from_str(&registered.body).unwrap();
    assert_eq!(
        request,
        json!({
            "client_name": "token-refresher", "token_endpoint_auth_method": "client_secret_basic", "redirect_uris": [redirect_uri],
            "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"], "application_type": "native",
            "scope": "orders.read openid offline_access",
        })
    );
    assert_eq!(waiting.parameter("client_id").as_deref(), Some("registered"));
    let issuer = form_urlencoded::byte_serialize(world.server.issuer.as_bytes()).collect::<String>();
    waiting.call(&format!("code=c&state=STATE&iss={issuer}")).await;
    waiting.end().await.done();
    let document = world.document().await;
    for (member, value) in [
        ("clientId", "registered"),
        ("clientSecret", REGISTERED_SECRET),
        ("clientSecretExpiresAt", "2100-01-01T00:00:00Z"),
        ("tokenEndpointAuthMethod", "client_secret_basic"),
        ("registrationAccessToken", REGISTRATION_TOKEN),
    ] {
        assert_eq!(document[member], value, "{member}");
    }
    // The client is good for this very address.
    assert_eq!(document["loginSettings"]["redirectUri"], redirect_uri);
    assert_eq!(world.server.received("/register").len(), 1);
}

#[tokio::test]
async fn a_server_that_registers_nobody_needs_a_client_id() {
    let world = World::new().await;
    world.server.change_metadata(json!({"registration_endpoint": null}));
    run(world.login(&[]), "").await.failed(2, "the client's id is missing: pass --client-id");
    world.server.change_metadata(json!({"registration_endpoint": format!("{}/nowhere", world.server.issuer)}));
    run(world.login(&[]), "")
        .await
        .failed(1, "did not register a client (status 404): register one by hand, and pass --client-id");
}
