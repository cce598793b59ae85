//! Signed assertions in the binary: which JWTs providers receive, and where the keys come from.

use chrono::Utc;
use serde_json::{Value, json};

use crate::{
    bench::{Bench, SECRET, lines_of_key, outcome_of},
    support::{
        jwt::{ED25519_KEY, Jwt, P256, P256_SEC1, RSA, RSA_PKCS1, verified},
        provider::{CLIENT_ID, CLIENT_SECRET, Provider, Response},
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
async fn a_key_file_that_nobody_meant_for_the_refresher_is_left_alone() {
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
    let jwt = verified(request.header("authorization").unwrap().strip_prefix("Bearer ").unwrap());
    let names: Vec<&str> = jwt.claims.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!((names, &jwt.claims["iss"]), (vec!["exp", "iat", "iss"], &json!("4711")));
    assert_eq!(bench.current(SECRET)["accessToken"], "ghs_unseen-installation-token");
}

#[tokio::test]
async fn an_assertion_is_sent_beside_a_clients_secret_if_the_token_secret_has_one() {
    for (changes, settings, expected) in [
        // Salesforce, DocuSign.
        (json!({}), vec![], vec!["grant_type", "assertion"]),
        // Box, ServiceNow.
        (json!({"clientSecret": CLIENT_SECRET}), vec![], vec!["grant_type", "assertion", "client_id", "client_secret"]),
        // The one of the environment is for other secrets.
        (json!({}), vec![("CLIENT_SECRET", CLIENT_SECRET)], vec!["grant_type", "assertion"]),
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
    let not_supported = "its `privateKey` is not a key that is supported: RSA from 2,048 bits on, P-256 or Ed25519";
    let encrypted = "its `privateKey` is encrypted; write it without a passphrase";
    for (changes, problem) in [
        (json!({"privateKey": "unseen-and-no-key-at-all"}), not_a_key),
        (json!({"privateKey": cut}), not_supported),
        (json!({"privateKey": key("encrypted-pkcs8")}), encrypted),
        (json!({"privateKey": key("encrypted-sec1")}), encrypted),
        (json!({"privateKey": key("rsa-1024")}), not_supported),
        (json!({"privateKey": key("p384")}), not_supported),
        (json!({"signingAlgorithm": "ES256"}), "its `privateKey` does not fit the `signingAlgorithm`"),
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
async fn members_of_the_same_names_are_nobodys_business_where_nothing_is_signed() {
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
        (vec![("PRIVATE_KEY", RSA), ("SIGNING_ALGORITHM", "ES256")], "PRIVATE_KEY does not fit the `signingAlgorithm`"),
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

/// A KMS that sends this response.
fn kms(status: u16, body: &str) -> Provider {
    Provider::responding(status, "application/x-amz-json-1.1", body)
}

#[tokio::test]
async fn a_key_in_kms_signs() {
    let bench = Bench::issuing().await;
    let kms =
        kms(200, r#"{"KeyId": "k", "Signature": "c2lnbmF0dXJl", "SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_256"}"#);
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
    // base64url of the signature.
    assert!(bench.provider.requests()[0].field("assertion").unwrap().ends_with(".c2lnbmF0dXJl"));
}

#[tokio::test]
async fn an_error_of_kms_says_what_ends_it_and_nothing_is_sent_to_the_provider() {
    let key = "alias/unknown";
    for (status, body, key, expected_type, expected) in [
        (
            400,
            r#"{"__type": "AccessDeniedException", "Message": "User is not authorized to perform: kms:Sign"}"#,
            key,
            "AccessDenied",
            "secret `crm/oauth`: not allowed to kms:Sign (KMS answered 400, AccessDeniedException: User is not authorized to perform: \
             kms:Sign); allow the function's role kms:Sign on the key of signingKmsKeyId",
        ),
        (
            400,
            r#"{"__type": "NotFoundException", "message": "Alias is not found."}"#,
            key,
            "InvalidSecret",
            "its `signingKmsKeyId` names a key that cannot sign (KMS answered 400, NotFoundException: Alias is not found.)",
        ),
        (
            400,
            r#"{"__type": "InvalidKeyUsageException", "message": "algorithm"}"#,
            key,
            "InvalidSecret",
            "fits the `signingAlgorithm` (RS256 if there is none)",
        ),
        (200, "{}", "arn:aws:kms:evil.example/:1:key/1", "InvalidSecret", "cannot sign (its ARN names no Region)"),
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
async fn a_moments_failure_of_kms_is_bridged() {
    let bench = Bench::issuing().await;
    let kms = kms(200, r#"{"Signature": "c2lnbmF0dXJl"}"#);
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
        "check clientId, privateKey, keyId, signingAlgorithm and assertionClaims against the provider's console";
    let check_assertion = "check clientId, privateKey, keyId and assertionClaims against the provider's console, and whether the client \
                           may act for this user there";
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
