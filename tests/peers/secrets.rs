//! Secrets Manager as a person uses it: through the AWS SDK, with moto as the server.

use std::collections::BTreeMap;

use aws_sdk_secretsmanager::{
    Client, Config,
    config::{BehaviorVersion, Credentials, Region},
    primitives::Blob,
};
use serde_json::Value;
use token_refresher::http_client::{HttpClients, SdkHttpClient};

use super::peer;

/// The label of a person's edit before it becomes current.
const EDITED: &str = "EDITED";

/// The peer moto.
pub struct Secrets {
    client: Client,
    pub url: String,
}

impl Secrets {
    pub fn connect() -> Self {
        let url = peer("PEER_MOTO_URL");
        let http = HttpClients::new(|_| None).expect("HTTP clients").store;
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
            .endpoint_url(&url)
            .http_client(SdkHttpClient(http))
            .build();
        Self { client: Client::from_conf(config), url }
    }

    /// Creates a secret and returns its version's id.
    pub async fn create(&self, name: &str, document: &Value) -> String {
        self.create_text(name, &document.to_string()).await
    }

    pub async fn create_text(&self, name: &str, text: &str) -> String {
        let created = self.client.create_secret().name(name).secret_string(text).send().await.expect("a secret");
        created.version_id.expect("its version")
    }

    /// Creates a secret without a value.
    pub async fn create_empty(&self, name: &str) {
        self.client.create_secret().name(name).send().await.expect("a secret");
    }

    pub async fn create_binary(&self, name: &str, bytes: &[u8]) {
        self.client.create_secret().name(name).secret_binary(Blob::new(bytes)).send().await.expect("a secret");
    }

    /// Writes a new current version, as a person does in the console. Returns its id.
    pub async fn edit(&self, name: &str, document: &Value) -> String {
        self.edit_text(name, &document.to_string()).await
    }

    pub async fn edit_text(&self, name: &str, text: &str) -> String {
        // Not an ordinary put: after a compare-and-swap promotion, moto would leave AWSCURRENT on two versions.
        let put = self.client.put_secret_value().secret_id(name).version_stages(EDITED);
        let put = put.secret_string(text).send().await.expect("a version");
        let edited = put.version_id.expect("its id");
        self.promote(name, &edited).await;
        edited
    }

    /// Makes this version current.
    pub async fn promote(&self, name: &str, version: &str) {
        let (current, _) = self.labelled(name, "AWSCURRENT").await;
        let promotion = self.client.update_secret_version_stage().secret_id(name).version_stage("AWSCURRENT");
        promotion.remove_from_version_id(current).move_to_version_id(version).send().await.expect("a promotion");
    }

    /// The id and the text of the version with this label.
    pub async fn labelled(&self, name: &str, label: &str) -> (String, String) {
        let got = self.client.get_secret_value().secret_id(name).version_stage(label).send().await;
        let got = got.unwrap_or_else(|error| panic!("{name} {label}: {error:?}"));
        (got.version_id.expect("an id"), got.secret_string.expect("a text"))
    }

    /// The document in the current version.
    pub async fn current(&self, name: &str) -> Value {
        serde_json::from_str(&self.labelled(name, "AWSCURRENT").await.1).expect("JSON")
    }

    /// The labels of every version, by its id. Versions without a label are included.
    pub async fn versions(&self, name: &str) -> BTreeMap<String, Vec<String>> {
        let listed = self.client.list_secret_version_ids().secret_id(name).include_deprecated(true).send().await;
        let versions = listed.expect("a list").versions.expect("versions");
        let labels = |mut labels: Vec<String>| {
            labels.sort();
            labels
        };
        let versions = versions.into_iter();
        versions.map(|v| (v.version_id.expect("an id"), labels(v.version_stages.unwrap_or_default()))).collect()
    }

    /// Every token and client's secret that any version of the secret has ever held.
    pub async fn all_ever_held(&self, name: &str) -> Vec<String> {
        let mut held = Vec::new();
        for id in self.versions(name).await.into_keys() {
            let got = self.client.get_secret_value().secret_id(name).version_id(id).send().await.expect("a version");
            let document: Value = serde_json::from_str(&got.secret_string.expect("a text")).expect("JSON");
            let own = ["accessToken", "refreshToken", "clientSecret", "access_token", "refresh_token", "client_secret"];
            let answered = ["tokenResponse", "token_response"].map(|member| &document[member]["id_token"]);
            let members = own.iter().map(|member| &document[member]).chain(answered);
            held.extend(members.filter_map(Value::as_str).map(str::to_owned));
        }
        held.sort();
        held.dedup();
        held
    }
}
