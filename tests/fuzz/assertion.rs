//! Any bytes as the settings of a client that signs, as its private key, and as a signature of KMS: a JWT with the claims that were
//! asked for, or an error that quotes nothing of the key.

use chrono::DateTime;
use serde_json::{Map, Value};
use token_refresher::{
    oauth::{
        assertion::{Key, Purpose},
        client::Client,
        grant::Grant,
        jwt::{self, PrivateKey},
    },
    token_secret::{
        client_settings::ClientSettings,
        document::Document,
        signing::{JWT_BEARER, SigningAlgorithm},
    },
};

use crate::{support::output::assert_no_secret, text::assert_one_printable_line};

pub fn target(input: &[u8]) {
    assert!(jwt::raw_ecdsa(input).is_none_or(|signature| signature.len() == 64));
    let text = String::from_utf8_lossy(input);
    let Ok(document) = Document::parse(&text) else {
        if let Err(problem) = PrivateKey::read(text.as_ref().into(), None) {
            assert_quotes_nothing(problem, &text);
        }
        return;
    };
    let Ok(settings) = ClientSettings::read(&document) else { return };
    let claims = settings.signing.assertion_claims.clone();
    let grant = Grant::Other(JWT_BEARER.to_owned());
    match Client::new(settings, &grant) {
        Ok(client) => assert_signs(&client, &grant, &claims),
        Err(problem) => {
            assert_one_printable_line(&problem, 1000);
            let key = document.get("privateKey").or(document.get("private_key")).unwrap_or_default();
            assert_quotes_nothing(&problem, key);
        }
    }
}

/// The messages name members and the heads of PEM.
fn assert_quotes_nothing(message: &str, key: &str) {
    let lines = key.split(['\n', '"', '\\', ' ', '-']).filter(|line| line.len() >= 24);
    assert_no_secret(message, &lines.map(str::to_owned).collect::<Vec<_>>());
}

fn assert_signs(client: &Client, grant: &Grant, claims: &Document) {
    let now = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
    let signer = client.signer.as_ref().expect("a client of this grant signs");
    let input = signer.input(Purpose::Grant, client, grant, now);
    if let Key::Private(key) = &signer.key {
        let token = jwt::token(&input, key.algorithm, key.sign(&input).expect("a signature")).expect("a JWT");
        let length = token.expose().len() - input.len() - 1;
        let is_short = matches!(key.algorithm, SigningAlgorithm::Es256 | SigningAlgorithm::EdDsa);
        // 64 bytes, or 2,048 bits and more, in base64.
        assert!(if is_short { length == 86 } else { length >= 342 }, "{length}");
    }
    let jwt_claims = part(&input, 1);
    for (name, value) in claims.members() {
        // A name that is there twice has its last value.
        let value: Value = serde_json::from_str(claims.get(name).unwrap_or(value)).expect("JSON");
        assert_eq!(jwt_claims.get(name).unwrap_or(&Value::Null), &value, "another claim");
    }
    if claims.get("exp").is_none() && claims.get("iat").is_none() {
        let time = |name: &str| jwt_claims[name].as_i64().expect("a number");
        assert!(time("iat") < now.timestamp() && time("exp") > now.timestamp() && time("exp") - time("iat") <= 600);
    }
    assert_eq!(part(&input, 0)["alg"], signer.key.algorithm().name());
}

fn part(input: &str, index: usize) -> Map<String, Value> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let text = URL_SAFE_NO_PAD.decode(input.split('.').nth(index).expect("a part")).expect("base64");
    serde_json::from_slice(&text).expect("a JSON object")
}
