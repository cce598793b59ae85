//! Signed assertions in the binary: which JWTs providers receive, and where the keys come from.

use std::time::Duration;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use chrono::Utc;
use serde_json::{Value, json};

use crate::{
    bench::{Bench, SECRET, lines_of_key, outcome_of},
    support::{
        jwt::{ED25519_KEY, Jwt, P256, P256_SEC1, RSA, RSA_PKCS1, verified},
        provider::{CLIENT_ID, CLIENT_SECRET, Provider, Response},
        runtime_api::Deadline,
        secrets_manager::GET,
    },
};

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const TOKENS: &str =
    r#"{"access_token": "unseen-access-for-an-assertion", "token_type": "Bearer", "expires_in": 3600}"#;

impl Bench {
    /// With a provider that issues an access token for every request.
    async fn issuing() -> Self {
        Self::responding(Response::fixed(200, "application/json", TOKENS)).await
    }

    /// A document without any token, whose client signs.
    fn signed_document(&self, changes: &Value) -> Value {
        let mut document = json!({"tokenEndpoint": self.provider.url(), "clientId": CLIENT_ID, "privateKey": RSA});
        for (name, value) in changes.as_object().expect("an object") {
            document[name] = value.clone();
        }
        document.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
        document
    }

    /// The JWT in this field of the newest request.
    fn jwt(&self, field: &str) -> Jwt {
        let requests = self.provider.requests();
        verified(requests.last().expect("a request").field(field).expect("a JWT"))
    }
}

/// The names of a form's fields, in order.
fn fields(bench: &Bench) -> Vec<String> {
    bench.provider.requests().last().expect("a request").form.iter().map(|(name, _)| name.clone()).collect()
}

/// The key file of a service account of Google, as it is downloaded.
fn key_file(bench: &Bench) -> Value {
    json!({
        "type": "service_account",
        "project_id": "orders-4711",
        "private_key_id": "0123456789abcdef0123456789abcdef01234567",
        "private_key": RSA,
        "client_email": "refresher@orders-4711.iam.gserviceaccount.com",
        "client_id": "117123456789012345678",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": bench.provider.url(),
        "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
        "universe_domain": "googleapis.com",
    })
}

#[tokio::test]
async fn the_key_file_of_google_needs_only_the_claims_of_its_tokens() {
    let bench = Bench::issuing().await;
    let mut document = key_file(&bench);
    document["assertionClaims"] = json!({"scope": "https://www.googleapis.com/auth/drive.readonly"});
    bench.secret(SECRET, &document);
    let process = bench.process().await;
    let report = process.report("{}").await;
    assert_eq!((outcome_of(&report), report["expiresInSeconds"].as_i64()), (("refreshed", "due"), Some(3599)));

    assert_eq!(fields(&bench), ["grant_type", "assertion"]);
    let Jwt { header, mut claims } = bench.jwt("assertion");
    assert_eq!(header, json!({"alg": "RS256", "typ": "JWT", "kid": "0123456789abcdef0123456789abcdef01234567"}));
    let mut time = |name: &str| claims.as_object_mut().unwrap().remove(name).unwrap().as_i64().unwrap();
    let (issued, expires, now) = (time("iat"), time("exp"), Utc::now().timestamp());
    assert!((now - 90..=now - 30).contains(&issued), "issued {} s ago", now - issued);
    assert!((now + 10..=now + 60).contains(&expires), "valid for {} s", expires - now);
    assert_eq!(claims.as_object_mut().unwrap().remove("jti").unwrap().as_str().unwrap().len(), 32);
    assert_eq!(
        claims,
        json!({
            "iss": "refresher@orders-4711.iam.gserviceaccount.com",
            "aud": bench.provider.url(),
            "scope": "https://www.googleapis.com/auth/drive.readonly",
        })
    );
    let mut current = bench.current(SECRET);
    for (name, value) in document.as_object().unwrap() {
        assert_eq!(current.as_object_mut().unwrap().remove(name).as_ref(), Some(value), "{name}");
    }
    assert!(current["accessToken"].is_string() && current["expiresAt"].is_i64(), "{current}");
    assert_eq!(outcome_of(&process.report("{}").await), ("skipped", "not_due"));
}

#[tokio::test]
async fn a_key_file_without_claims_is_ignored_below_a_prefix() {
    let bench = Bench::issuing().await;
    bench.secret("myapp/prod/google", key_file(&bench));
    let process = bench.process_with(&[("SECRET_ID", "myapp/prod/*")]).await;
    let report = process.report("{}").await;
    assert_eq!(
        (&report["secrets"], &report["ignored"], &report["failed"]),
        (&json!(1), &json!(1), &json!(0)),
        "{report}"
    );
    let (error_type, message) = process.error(r#"{"secretId": "myapp/prod/google"}"#).await;
    assert_eq!(error_type, "InvalidSecret");
    assert!(message.contains("it is the key file of a service account without `assertionClaims`"), "{message}");
    assert_eq!(bench.provider.exchanges(), 0);
}

#[tokio::test]
async fn every_form_of_key_signs_with_every_algorithm_that_fits_it() {
    let one_line = RSA.replace('\n', "\\n");
    for (key, algorithm, expected) in [
        (RSA, None, "RS256"),
        (RSA_PKCS1, None, "RS256"),
        (&one_line, Some("PS256"), "PS256"),
        (P256, None, "ES256"),
        (P256_SEC1, Some("ES256"), "ES256"),
        (ED25519_KEY, None, "EdDSA"),
    ] {
        let bench = Bench::issuing().await;
        bench.secret(
            SECRET,
            bench.signed_document(&json!({
                "grantType": "client_credentials", "tokenEndpointAuthMethod": "private_key_jwt",
                "privateKey": key, "keyId": "key 1", "signingAlgorithm": algorithm,
            })),
        );
        let process = bench.process().await;
        assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"), "{expected}");
        assert_eq!(fields(&bench), ["grant_type", "client_id", "client_assertion_type", "client_assertion"]);
        let jwt = bench.jwt("client_assertion");
        assert_eq!(jwt.header, json!({"alg": expected, "typ": "JWT", "kid": "key 1"}));
        let names = ["iss", "sub", "aud"].map(|name| jwt.claims[name].as_str().unwrap().to_owned());
        assert_eq!(names, [CLIENT_ID, CLIENT_ID, &bench.provider.url()]);
    }
}

#[tokio::test]
async fn a_refresh_token_is_exchanged_by_a_client_that_signs() {
    let response = r#"{"access_token": "unseen-access-2-of-client", "refresh_token": "unseen-refresh-2-of-client", "expires_in": 3600}"#;
    let bench = Bench::responding(Response::fixed(200, "application/json", response)).await;
    let document =
        json!({"clientSecret": null, "tokenEndpointAuthMethod": "private_key_jwt", "private_key": P256, "key_id": "1"});
    bench.secret(SECRET, bench.due_token_but(&document));
    let process = bench.process().await;
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
    assert_eq!(bench.jwt("client_assertion").header["alg"], "ES256");
    assert_eq!(bench.current(SECRET)["refreshToken"], "unseen-refresh-2-of-client");
    assert_eq!(bench.current(SECRET)["private_key"], P256);
}

#[tokio::test]
async fn a_github_app_gets_an_installation_token() {
    let expires_at = (Utc::now() + chrono::TimeDelta::minutes(59)).format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let response = json!({
        "token": "ghs_unseen-installation-token", "expires_at": expires_at,
        "permissions": {"contents": "read"}, "repository_selection": "all",
    });
    let bench = Bench::responding(Response::fixed(201, "application/json; charset=utf-8", &response.to_string())).await;
    bench.secret(
        SECRET,
        bench.signed_document(&json!({
            "grantType": "", "tokenEndpointAuthMethod": "bearer_jwt", "clientId": 4711, "privateKey": RSA_PKCS1,
            "extraHeaders": {"accept": "application/vnd.github+json", "x-github-api-version": "2022-11-28"},
        })),
    );
    let process = bench.process().await;
    let report = process.report("{}").await;
    assert_eq!(outcome_of(&report), ("refreshed", "due"));
    assert!((3500..=3540).contains(&report["expiresInSeconds"].as_i64().unwrap()), "{report}");

    let request = bench.provider.requests().pop().unwrap();
    assert_eq!((request.body.as_str(), request.header("accept")), ("", Some("application/vnd.github+json")));
    assert_eq!(request.header("content-length"), Some("0"));
    let jwt = verified(request.header("authorization").unwrap().strip_prefix("Bearer ").unwrap());
    let names: Vec<&str> = jwt.claims.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!((names, &jwt.claims["iss"]), (vec!["exp", "iat", "iss"], &json!("4711")));
    assert_eq!(bench.current(SECRET)["accessToken"], "ghs_unseen-installation-token");
}

#[tokio::test]
async fn the_client_authenticates_beside_an_assertion_if_a_secret_or_a_method_says_so() {
    for (changes, settings, expected) in [
        // Salesforce, DocuSign.
        (json!({}), vec![], vec!["grant_type", "assertion"]),
        // Box, ServiceNow.
        (json!({"clientSecret": CLIENT_SECRET}), vec![], vec!["grant_type", "assertion", "client_id", "client_secret"]),
        // The one of the environment is for other secrets.
        (json!({}), vec![("CLIENT_SECRET", CLIENT_SECRET)], vec!["grant_type", "assertion"]),
        (
            json!({"tokenEndpointAuthMethod": "client_secret_post"}),
            vec![("CLIENT_SECRET", CLIENT_SECRET)],
            vec!["grant_type", "assertion", "client_id", "client_secret"],
        ),
        (
            json!({}),
            vec![("CLIENT_SECRET", CLIENT_SECRET), ("TOKEN_ENDPOINT_AUTH_METHOD", "client_secret_post")],
            vec!["grant_type", "assertion", "client_id", "client_secret"],
        ),
    ] {
        let bench = Bench::issuing().await;
        let mut document = bench.signed_document(&changes);
        document["grantType"] = json!(JWT_BEARER);
        document["assertionClaims"] = json!({"sub": "user@example.com", "aud": "https://login.example", "jti": null});
        bench.secret(SECRET, document);
        let process = bench.process_with(&settings).await;
        assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
        assert_eq!(fields(&bench), expected, "{changes} {settings:?}");
        let mut claims = bench.jwt("assertion").claims;
        claims.as_object_mut().unwrap().retain(|name, _| name != "iat" && name != "exp");
        assert_eq!(claims, json!({"iss": CLIENT_ID, "sub": "user@example.com", "aud": "https://login.example"}));
    }
}

#[tokio::test]
async fn each_try_has_an_assertion_of_its_own() {
    let bench = Bench::issuing().await;
    bench.provider.respond_next(Response::CloseBeforeProcessing);
    bench.secret(SECRET, bench.signed_document(&json!({"grantType": JWT_BEARER})));
    let process = bench.process().await;
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
    let jwts: Vec<_> =
        bench.provider.requests().iter().map(|request| request.field("assertion").unwrap().to_owned()).collect();
    assert_eq!(jwts.len(), 2);
    assert_ne!(verified(&jwts[0]).claims["jti"], verified(&jwts[1]).claims["jti"]);
}

#[tokio::test]
async fn a_key_that_cannot_sign_is_an_error_before_anything_is_sent_or_claimed() {
    let key = |name: &str| {
        std::fs::read_to_string(format!("{}/tests/fixtures/keys/{name}.pem", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    let cut = RSA[..RSA.len() / 2].to_owned();
    let not_a_key = "its `privateKey` is not a private key in PEM";
    let not_supported =
        "its `privateKey` is not a key that is supported: RSA with 2,048 to 4,096 bits, P-256 or Ed25519";
    let encrypted = "its `privateKey` is encrypted; remove the passphrase";
    for (changes, problem) in [
        (json!({"privateKey": "unseen-and-no-key-at-all"}), not_a_key),
        (
            json!({"privateKey": cut}),
            "its `privateKey` is cut off: its last line, which begins with \"-----END\", is missing",
        ),
        (json!({"privateKey": RSA.replace(" PRIVATE", " EC PRIVATE")}), not_supported),
        (json!({"privateKey": key("encrypted-pkcs8")}), encrypted),
        (json!({"privateKey": key("encrypted-sec1")}), encrypted),
        (json!({"privateKey": key("rsa-1024")}), not_supported),
        (json!({"privateKey": key("p384")}), not_supported),
        (json!({"signingAlgorithm": "ES256"}), "its `privateKey` does not fit the signing algorithm"),
        (json!({"signingAlgorithm": "HS256"}), "its member `signingAlgorithm` is a string, where one of \"RS256\""),
        (json!({"signingKmsKeyId": "alias/a"}), "it has both `privateKey` and `signingKmsKeyId`; take one out"),
        (json!({"assertionClaims": "scope"}), "its member `assertionClaims` is a string, where an object is wanted"),
        (
            json!({"privateKey": null}),
            "`privateKey` is neither in it, nor in its `clientCredentialsSecretId`, nor set as PRIVATE_KEY",
        ),
    ] {
        for document in [
            json!({"grantType": JWT_BEARER}),
            json!({"refreshToken": "unseen-refresh-of-client", "tokenEndpointAuthMethod": "private_key_jwt"}),
        ] {
            let bench = Bench::issuing().await;
            let mut document = bench.signed_document(&document);
            document.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            bench.secret(SECRET, &document);
            let process = bench.process().await;
            let (error_type, message) = process.error("{}").await;
            assert_eq!(error_type, "InvalidSecret", "{message}");
            assert!(message.contains(problem), "{message}");
            assert_eq!((bench.sm.actions(), bench.provider.exchanges()), (vec![GET.to_owned()], 0), "{problem}");
        }
    }
}

#[tokio::test]
async fn signing_members_are_ignored_if_nothing_is_signed() {
    let bench = Bench::new().await;
    let others = json!({"privateKey": "no key", "keyId": 5, "signing_algorithm": "rot13", "assertionClaims": []});
    bench.secret(SECRET, bench.due_token_but(&others));
    let process = bench.process().await;
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
    bench.assert_alive(SECRET);
}

#[tokio::test]
async fn the_key_may_be_in_the_clients_secret_or_in_the_environment() {
    let escaped = P256.replace('\n', "\\n");
    for (of_client, settings) in [
        (json!({"privateKey": RSA, "keyId": "k", "assertionClaims": {"scope": "a"}}), vec![]),
        (json!({"private_key": RSA, "key_id": "k", "assertion_claims": r#"{"scope": "a"}"#}), vec![]),
        (
            json!({}),
            vec![("PRIVATE_KEY", escaped.as_str()), ("KEY_ID", "k"), ("ASSERTION_CLAIMS", r#"{"scope": "a"}"#)],
        ),
    ] {
        let bench = Bench::issuing().await;
        for line in [lines_of_key(RSA), lines_of_key(P256)].concat() {
            bench.hide(&line);
        }
        bench.secret("crm/client", &of_client);
        bench.secret(
            SECRET,
            bench.signed_document(&json!({
                "privateKey": null, "grantType": JWT_BEARER, "clientCredentialsSecretId": "crm/client",
                "assertionClaims": {"sub": "user"},
            })),
        );
        let process = bench.process_with(&settings).await;
        assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"), "{settings:?}");
        let Jwt { header, claims } = bench.jwt("assertion");
        assert_eq!((&header["kid"], &claims["sub"], &claims["scope"]), (&json!("k"), &json!("user"), &json!("a")));
    }
}

#[tokio::test]
async fn the_key_file_of_google_may_be_the_clients_secret() {
    let bench = Bench::issuing().await;
    bench.secret("google/key", key_file(&bench));
    bench.secret(
        SECRET,
        json!({"grantType": JWT_BEARER, "clientCredentialsSecretId": "google/key", "assertionClaims": {"scope": "a"}}),
    );
    let process = bench.process().await;
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
    let claims = bench.jwt("assertion").claims;
    assert_eq!(
        (&claims["iss"], &claims["sub"]),
        (&json!("refresher@orders-4711.iam.gserviceaccount.com"), &Value::Null)
    );
}

#[tokio::test]
async fn a_key_of_the_clients_secret_signs_for_no_other_endpoint() {
    for (of_client, member) in
        [(json!({"privateKey": RSA}), "privateKey"), (json!({"signingKmsKeyId": "alias/a"}), "signingKmsKeyId")]
    {
        let bench = Bench::issuing().await;
        let mut of_client = of_client;
        of_client["tokenEndpoint"] = json!("https://id.example/token");
        bench.secret("crm/client", &of_client);
        let document = json!({"privateKey": null, "grantType": JWT_BEARER, "clientCredentialsSecretId": "crm/client"});
        bench.secret(SECRET, bench.signed_document(&document));
        let process = bench.process().await;
        let (error_type, message) = process.error("{}").await;
        assert_eq!(error_type, "InvalidSecret");
        assert!(message.contains(&format!("is not the endpoint that its `{member}` belongs to")), "{message}");
        assert_eq!(bench.provider.exchanges(), 0);
    }
}

#[tokio::test]
async fn an_assertion_that_a_refusal_quotes_is_not_shown() {
    for (grant, field) in [
        (json!({"grantType": JWT_BEARER}), "assertion"),
        (json!({"grantType": "client_credentials", "tokenEndpointAuthMethod": "private_key_jwt"}), "client_assertion"),
    ] {
        let bench = Bench::responding(Response::RefusalThatQuotes(field)).await;
        bench.secret(SECRET, bench.signed_document(&grant));
        let process = bench.process().await;
        let (error_type, message) = process.error("{}").await;
        assert_eq!(error_type, "ReauthorizationRequired", "{message}");
        let jwt = bench.provider.requests()[0].field(field).unwrap().to_owned();
        bench.hide(jwt.rsplit('.').next().unwrap());
        bench.assert_shows_no_secret(&message);
        assert!(message.contains("[redacted]"), "{message}");
    }
}

#[tokio::test]
async fn settings_of_a_key_are_checked_at_start() {
    for (settings, message) in [
        (vec![("PRIVATE_KEY", "unseen-and-no-key")], "PRIVATE_KEY is not a private key in PEM"),
        (vec![("PRIVATE_KEY", RSA), ("SIGNING_ALGORITHM", "ES256")], "PRIVATE_KEY does not fit the signing algorithm"),
        (vec![("SIGNING_ALGORITHM", "none")], "SIGNING_ALGORITHM is \"none\"; allowed is one of \"RS256\""),
        (
            vec![("PRIVATE_KEY", RSA), ("SIGNING_KMS_KEY_ID", "alias/a")],
            "PRIVATE_KEY and SIGNING_KMS_KEY_ID are both set",
        ),
        (vec![("ASSERTION_CLAIMS", "scope")], "ASSERTION_CLAIMS is not a JSON object"),
        (vec![("AWS_ENDPOINT_URL_KMS", "kms")], "AWS_ENDPOINT_URL_KMS is \"kms\"; allowed is an https or http URL"),
    ] {
        let bench = Bench::issuing().await;
        for line in lines_of_key(RSA) {
            bench.hide(&line);
        }
        let process = bench.process_with(&settings).await;
        let (error_type, found) = process.init_error().await;
        assert_eq!(error_type, "InvalidConfiguration");
        assert!(found.contains(message), "{found}");
    }
}

/// A response of KMS with a signature of RSA.
fn signature_by_kms() -> String {
    json!({"KeyId": "k", "Signature": STANDARD.encode([7; 256])}).to_string()
}

/// A KMS that sends this response.
fn kms(status: u16, body: &str) -> Provider {
    Provider::responding(status, "application/x-amz-json-1.1", body)
}

#[tokio::test]
async fn a_key_in_kms_signs() {
    let bench = Bench::issuing().await;
    let kms = kms(200, &signature_by_kms());
    let key = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    let document = json!({"privateKey": null, "signingKmsKeyId": key, "grantType": JWT_BEARER, "keyId": "k"});
    bench.secret(SECRET, bench.signed_document(&document));
    let process = bench.process_with(&[("AWS_ENDPOINT_URL_KMS", &kms.url())]).await;
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));

    let request = kms.requests().pop().unwrap();
    assert_eq!(request.header("x-amz-target"), Some("TrentService.Sign"));
    // The key's Region, not the function's.
    assert!(request.header("authorization").unwrap().contains("/eu-central-1/kms/aws4_request"));
    let body: Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!((&body["KeyId"], &body["MessageType"]), (&json!(key), &json!("RAW")));
    let jwt = bench.provider.requests()[0].field("assertion").unwrap().to_owned();
    assert_eq!(URL_SAFE_NO_PAD.decode(jwt.rsplit('.').next().unwrap()).unwrap(), [7; 256]);
}

#[tokio::test]
async fn an_error_of_kms_names_its_remedy_and_nothing_is_sent_to_the_provider() {
    let key = "alias/unknown";
    for (status, body, key, expected_type, expected) in [
        (
            400,
            r#"{"__type": "AccessDeniedException", "Message": "User is not authorized to perform: kms:Sign"}"#,
            key,
            "AccessDenied",
            "secret `crm/oauth`: not allowed to kms:Sign (KMS answered 400, AccessDeniedException: User is not authorized to perform: \
             kms:Sign); allow kms:Sign on this key in the function's role (SigningKmsKeyArn in schedule.yaml) and in the key's policy",
        ),
        (
            400,
            r#"{"__type": "NotFoundException", "message": "Alias is not found."}"#,
            key,
            "InvalidSecret",
            "the key `alias/unknown` that `signingKmsKeyId` names cannot sign (KMS answered 400, NotFoundException: Alias is not found.)",
        ),
        (
            400,
            r#"{"__type": "InvalidKeyUsageException", "message": "algorithm"}"#,
            key,
            "InvalidSecret",
            "fits the `signingAlgorithm` (RS256 if there is none)",
        ),
        (
            200,
            "{}",
            "arn:aws:kms:evil.example/:1:key/1",
            "InvalidSecret",
            "its member `signingKmsKeyId` is a string, where",
        ),
        (200, "{}", "arn:aws:kms:_:1:key/1", "InvalidSecret", "cannot sign (its ARN names no Region)"),
        (
            500,
            "",
            key,
            "StoreUnavailable",
            "secret `crm/oauth`: kms:Sign failed (KMS answered 500, without a code: ); the next run tries again",
        ),
    ] {
        let bench = Bench::issuing().await;
        let kms = kms(status, body);
        for document in [
            json!({"grantType": JWT_BEARER}),
            json!({"refreshToken": "unseen-refresh-of-client", "tokenEndpointAuthMethod": "private_key_jwt"}),
        ] {
            let mut document = bench.signed_document(&document);
            document["privateKey"] = Value::Null;
            document["signingKmsKeyId"] = json!(key);
            let name = document["grantType"].as_str().map_or("crm/oauth", |_| "crm/oauth-2");
            bench.secret(name, document);
        }
        let process = bench.process_with(&[("AWS_ENDPOINT_URL_KMS", &kms.url())]).await;
        for name in ["crm/oauth", "crm/oauth-2"] {
            // Twice: the first run's claim has ended.
            for _ in 0..2 {
                let (error_type, message) = process.error(&format!(r#"{{"secretId": "{name}"}}"#)).await;
                assert_eq!(error_type, expected_type, "{message}");
                assert!(message.replace(name, "crm/oauth").contains(expected), "{message}");
            }
        }
        assert_eq!(bench.provider.exchanges(), 0);
    }
}

#[tokio::test]
async fn a_temporary_error_of_kms_is_tried_again() {
    let bench = Bench::issuing().await;
    let kms = kms(200, &signature_by_kms());
    kms.respond_next(Response::fixed(400, "application/json", r#"{"__type": "ThrottlingException"}"#));
    let document = json!({"privateKey": null, "signingKmsKeyId": "alias/a", "grantType": JWT_BEARER});
    bench.secret(SECRET, bench.signed_document(&document));
    let process = bench.process_with(&[("AWS_ENDPOINT_URL_KMS", &kms.url())]).await;
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
    assert_eq!((kms.exchanges(), bench.provider.exchanges()), (2, 1));
}

#[tokio::test]
async fn a_refused_assertion_is_explained_by_the_members_that_make_it() {
    let grants = json!({
        "github": {"grantType": "", "tokenEndpointAuthMethod": "bearer_jwt"},
        "jwt-bearer": {"grantType": JWT_BEARER},
        "private_key_jwt": {"grantType": "client_credentials", "tokenEndpointAuthMethod": "private_key_jwt"},
    });
    let check_client =
        "check clientId, the key, keyId, signingAlgorithm and assertionClaims against the provider's console";
    let check_assertion = "check clientId, the key, keyId, signingAlgorithm and assertionClaims against the provider's console, and \
                           whether the client may act for this user there";
    for (grant, status, body, expected_type, advice) in [
        (
            "github",
            401,
            r#"{"message": "A JSON web token could not be decoded", "status": "401"}"#,
            "ProviderRejected",
            check_client,
        ),
        (
            "github",
            401,
            r#"{"message": "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires"}"#,
            "ProviderRejected",
            check_client,
        ),
        ("github", 404, r#"{"message": "Not Found", "status": "404"}"#, "ProviderRejected", "check tokenEndpoint"),
        (
            "jwt-bearer",
            400,
            r#"{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}"#,
            "ReauthorizationRequired",
            check_assertion,
        ),
        (
            "jwt-bearer",
            400,
            r#"{"error": "invalid_grant", "error_description": "user hasn't approved this consumer"}"#,
            "ReauthorizationRequired",
            check_assertion,
        ),
        ("jwt-bearer", 400, r#"{"error": "consent_required"}"#, "ReauthorizationRequired", check_assertion),
        (
            "private_key_jwt",
            401,
            r#"{"error": "invalid_client", "error_description": "AADSTS700027: Client assertion contains an invalid signature."}"#,
            "ClientRejected",
            check_client,
        ),
    ] {
        let bench = Bench::responding(Response::fixed(status, "application/json", body)).await;
        bench.secret(SECRET, bench.signed_document(&grants[grant]));
        let process = bench.process().await;
        let (error_type, message) = process.error("{}").await;
        assert_eq!(error_type, expected_type, "{body}: {message}");
        assert!(message.contains(advice), "{message}");
    }
}

#[tokio::test]
async fn an_assertion_and_the_clients_jwt_are_two() {
    let bench = Bench::issuing().await;
    let grant = json!({"grantType": JWT_BEARER, "tokenEndpointAuthMethod": "private_key_jwt", "assertionClaims": {"sub": "user"}});
    bench.secret(SECRET, bench.signed_document(&grant));
    let process = bench.process().await;
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
    let (grant, client) = (bench.jwt("assertion").claims, bench.jwt("client_assertion").claims);
    assert_eq!((&grant["sub"], &client["sub"]), (&json!("user"), &json!(CLIENT_ID)));
    assert_ne!(grant["jti"], client["jti"]);
}

#[tokio::test]
async fn a_sweep_obtains_tokens_of_clients_that_sign() {
    let bench = Bench::issuing().await;
    let mut google = key_file(&bench);
    google["assertionClaims"] = json!({"scope": "a"});
    bench.secret("myapp/google", &google);
    bench.secret(
        "myapp/github",
        bench.signed_document(&json!({"grantType": "", "tokenEndpointAuthMethod": "bearer_jwt"})),
    );
    // A text that is not JSON, because the PEM has real line breaks.
    bench.secret("myapp/damaged", google.to_string().replace("\\n", "\n"));
    for line in lines_of_key(RSA) {
        bench.hide(&line);
    }
    let process = bench.process_with(&[("SECRET_ID", "myapp/*")]).await;
    let report = process.report("{}").await;
    let counts = ["secrets", "refreshed", "ignored", "failed"].map(|name| report[name].as_u64().unwrap());
    assert_eq!(counts, [3, 2, 0, 1], "{report}");
    assert_eq!(report["failures"][0]["secretId"], "myapp/damaged");
}

#[tokio::test]
async fn a_signature_of_p256_by_kms_is_sent_as_two_numbers() {
    // KMS answers in DER.
    let signature = [0x30, 0x08, 0x02, 0x02, 0x00, 0xff, 0x02, 0x02, 0x01, 0x02];
    let body = json!({"Signature": STANDARD.encode(signature)}).to_string();
    let bench = Bench::issuing().await;
    let kms = kms(200, &body);
    let document =
        json!({"privateKey": null, "signingKmsKeyId": "alias/a", "signingAlgorithm": "ES256", "grantType": JWT_BEARER});
    bench.secret(SECRET, bench.signed_document(&document));
    let process = bench.process_with(&[("AWS_ENDPOINT_URL_KMS", &kms.url())]).await;
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
    let jwt = bench.provider.requests()[0].field("assertion").unwrap().to_owned();
    let sent = URL_SAFE_NO_PAD.decode(jwt.rsplit('.').next().unwrap()).unwrap();
    let mut expected = [0; 64];
    (expected[31], expected[62], expected[63]) = (0xff, 0x01, 0x02);
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn a_signature_that_is_none_is_an_error_and_nothing_is_sent() {
    for (algorithm, signature) in [("ES256", "c2lnbmF0dXJl"), ("RS256", "c2lnbmF0dXJl"), ("EdDSA", ""), ("PS256", "")] {
        let bench = Bench::issuing().await;
        let kms = kms(200, &json!({"Signature": signature}).to_string());
        let document = json!({
            "privateKey": null, "signingKmsKeyId": "alias/a", "signingAlgorithm": algorithm, "grantType": JWT_BEARER,
        });
        bench.secret(SECRET, bench.signed_document(&document));
        let process = bench.process_with(&[("AWS_ENDPOINT_URL_KMS", &kms.url())]).await;
        let (error_type, message) = process.error("{}").await;
        assert_eq!(error_type, "ProviderUnavailable");
        assert!(message.contains("was not asked, because no JWT could be signed"), "{message}");
        assert_eq!(bench.provider.exchanges(), 0, "{algorithm}");
    }
}

#[tokio::test]
async fn a_kms_that_hangs_ends_the_run_before_its_deadline() {
    let bench = Bench::issuing().await;
    let kms = Provider::always(Response::NeverResponds);
    let refresh = json!({
        "privateKey": null, "signingKmsKeyId": "alias/a", "tokenEndpointAuthMethod": "private_key_jwt",
        "refreshToken": "unseen-refresh-of-client",
    });
    bench.secret(SECRET, bench.signed_document(&refresh));
    let process = bench.process_with(&[("AWS_ENDPOINT_URL_KMS", &kms.url())]).await;
    let outcome = process.invoke_until("{}", Deadline::InMs(4_000)).await;
    let (error_type, message) = crate::bench::error(outcome);
    assert_eq!(error_type, "StoreUnavailable");
    assert!(message.contains("kms:Sign failed (KMS did not answer in time)"), "{message}");
    assert_eq!(bench.provider.exchanges(), 0);
    // The claim has ended with the run.
    kms.respond_next(Response::fixed(200, "application/json", &signature_by_kms()));
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
}

#[tokio::test]
async fn without_an_address_for_kms_a_test_reaches_no_real_one() {
    let bench = Bench::issuing().await;
    let document = json!({"privateKey": null, "signingKmsKeyId": "alias/a", "grantType": JWT_BEARER});
    bench.secret(SECRET, bench.signed_document(&document));
    let (error_type, message) = bench.process().await.error("{}").await;
    assert_eq!(error_type, "InvalidConfiguration");
    assert!(message.contains("KMS cannot sign for secret `crm/oauth`: AWS_ENDPOINT_URL_KMS is not set"), "{message}");
}

#[tokio::test]
async fn a_key_in_the_clients_secret_that_cannot_be_read_is_an_error_of_that_secret() {
    for method in ["private_key_jwt", "bearer_jwt"] {
        let bench = Bench::issuing().await;
        bench.secret("crm/client", json!({"privateKey": "unseen-and-no-key-at-all"}));
        let document = json!({
            "privateKey": null, "clientCredentialsSecretId": "crm/client", "grantType": "client_credentials",
            "tokenEndpointAuthMethod": method,
        });
        bench.secret(SECRET, bench.signed_document(&document));
        let (error_type, message) = bench.process().await.error("{}").await;
        assert_eq!(error_type, "InvalidSecret");
        assert!(
            message.starts_with("secret `crm/client` cannot be used: its `privateKey` is not a private key"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_header_for_the_jwt_cannot_be_an_extra_header_too() {
    let bench = Bench::issuing().await;
    let document = json!({
        "grantType": "", "tokenEndpointAuthMethod": "bearer_jwt", "extraHeaders": {"Authorization": "unseen-basic-of-client"},
    });
    bench.secret(SECRET, bench.signed_document(&document));
    let (error_type, message) = bench.process().await.error("{}").await;
    assert_eq!(error_type, "InvalidSecret");
    assert!(message.contains("its `extraHeaders.authorization` conflicts with bearer_jwt; take one out"), "{message}");
}

#[tokio::test]
async fn a_slow_kms_leaves_the_provider_its_time_or_nothing_is_sent() {
    let bench = Bench::issuing().await;
    let signed = Response::fixed(200, "application/json", &signature_by_kms());
    let kms = Provider::always(Response::Delay(Duration::from_millis(2_700), Box::new(signed)));
    let refresh = json!({
        "privateKey": null, "signingKmsKeyId": "alias/a", "tokenEndpointAuthMethod": "private_key_jwt",
        "refreshToken": "unseen-refresh-of-client",
    });
    bench.secret(SECRET, bench.signed_document(&refresh));
    let process = bench.process_with(&[("AWS_ENDPOINT_URL_KMS", &kms.url())]).await;
    let (error_type, message) = crate::bench::error(process.invoke_until("{}", Deadline::InMs(4_200)).await);
    assert_eq!((error_type.as_str(), bench.provider.exchanges()), ("StoreUnavailable", 0), "{message}");
}

#[tokio::test]
async fn a_private_key_in_place_of_a_kms_key_id_is_not_shown_and_not_sent() {
    for pem in [P256.replace('\n', "\\n"), P256.replace('\n', " "), P256.to_owned()] {
        let bench = Bench::issuing().await;
        let kms = kms(400, "{}");
        for line in lines_of_key(P256) {
            bench.hide(&line);
        }
        let document = json!({"privateKey": null, "signingKmsKeyId": pem, "grantType": JWT_BEARER});
        bench.secret(SECRET, bench.signed_document(&document));
        let process = bench.process_with(&[("AWS_ENDPOINT_URL_KMS", &kms.url())]).await;
        let (error_type, message) = process.error("{}").await;
        assert_eq!((error_type.as_str(), kms.exchanges()), ("InvalidSecret", 0), "{message}");
        assert!(
            message.contains("its member `signingKmsKeyId` is a string, where the id, the ARN or the alias"),
            "{message}"
        );

        let process = bench.process_with(&[("SIGNING_KMS_KEY_ID", &pem)]).await;
        let (_, message) = process.init_error().await;
        assert!(
            message.contains("SIGNING_KMS_KEY_ID is not allowed; allowed is the id, the ARN or the alias"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn an_assertion_that_somebody_else_signed_is_sent_as_it_is() {
    for (client_secret, settings) in
        [(json!(CLIENT_SECRET), vec![]), (json!(null), vec![("CLIENT_SECRET", CLIENT_SECRET)])]
    {
        let bench = Bench::issuing().await;
        let document = json!({
            "grantType": JWT_BEARER, "privateKey": null, "clientSecret": client_secret,
            "extraParameters": {"assertion": "unseen.assertion.of-others", "requested_token_use": "on_behalf_of"},
        });
        bench.secret(SECRET, bench.signed_document(&document));
        assert_eq!(outcome_of(&bench.process_with(&settings).await.report("{}").await), ("refreshed", "due"));
        assert_eq!(bench.provider.requests()[0].field("assertion"), Some("unseen.assertion.of-others"));
        assert_eq!(fields(&bench), ["grant_type", "client_id", "client_secret", "assertion", "requested_token_use"]);
    }
}

#[tokio::test]
async fn member_names_may_point_to_members_of_these_names() {
    let bench = Bench::new().await;
    let mut document = bench.due_token_but(&json!({"clientId": null, "clientSecret": null, "keyId": CLIENT_ID}));
    document["private_key"] = json!(CLIENT_SECRET);
    document["memberNames"] = json!({"clientId": "/keyId", "clientSecret": "/private_key"});
    bench.secret(SECRET, document);
    assert_eq!(outcome_of(&bench.process().await.report("{}").await), ("refreshed", "due"));
    bench.assert_alive(SECRET);
}

#[tokio::test]
async fn a_rejected_client_is_stopped_although_each_token_has_its_own_subject() {
    let bench = Bench::responding(Response::fixed(401, "application/json", r#"{"error": "invalid_client"}"#)).await;
    bench.secret("client", json!({"tokenEndpoint": bench.provider.url(), "clientId": CLIENT_ID, "privateKey": P256}));
    for n in 0..12 {
        let claims = json!({"sub": format!("user{n}")});
        let document =
            json!({"grantType": JWT_BEARER, "clientCredentialsSecretId": "client", "assertionClaims": claims});
        bench.secret(&format!("myapp/{n:02}"), document);
    }
    let process = bench.process_with(&[("SECRET_ID", "myapp/*")]).await;
    let report = process.report("{}").await;
    assert_eq!((bench.provider.exchanges(), &report["notReached"]), (3, &json!(9)), "{report}");
}

#[tokio::test]
async fn the_method_of_the_environment_counts_for_what_is_missing() {
    let bench = Bench::issuing().await;
    bench.secret("crm/client", json!({"clientSecret": CLIENT_SECRET}));
    bench.secret(SECRET, bench.signed_document(&json!({"grantType": JWT_BEARER})));
    let settings =
        [("TOKEN_ENDPOINT_AUTH_METHOD", "client_secret_basic"), ("CLIENT_CREDENTIALS_SECRET_ID", "crm/client")];
    let process = bench.process_with(&settings).await;
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
    assert!(bench.provider.requests()[0].header("authorization").is_some_and(|header| header.starts_with("Basic ")));
}

#[tokio::test]
async fn a_key_that_nothing_uses_is_mentioned() {
    for changes in [json!({"grantType": "client_credentials"}), json!({"grantType": "jwt-bearer"})] {
        let bench = Bench::issuing().await;
        bench.secret(SECRET, bench.signed_document(&changes));
        let (error_type, message) = bench.process().await.error("{}").await;
        assert_eq!(error_type, "InvalidSecret");
        assert!(message.contains("there is a key, and nothing uses it"), "{message}");
    }
}

#[tokio::test]
async fn white_space_in_the_id_of_a_key_is_named() {
    for key_id in [" k1", "k1\n"] {
        let bench = Bench::issuing().await;
        bench.secret(SECRET, bench.signed_document(&json!({"grantType": JWT_BEARER, "keyId": key_id})));
        let (error_type, message) = bench.process().await.error("{}").await;
        assert_eq!(error_type, "InvalidSecret");
        assert!(message.contains("its member `keyId` has a"), "{message}");
    }
}
