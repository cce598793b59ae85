//! Compiles `src/providers/profiles.toml`: one line for each provider, its name and a JSON object with what the function needs. The other
//! facts in the file are for people and for pages.

use std::{env, error::Error, fs, path::Path};

use serde_json::{Map, Value, json};

const PROFILES: &str = "src/providers/profiles.toml";

/// The members that are compiled as they are, if an entry has them.
const COMPILED: [&str; 9] = [
    "tokenEndpointAuthMethod",
    "tokenRequestFormat",
    "refreshParameters",
    "headers",
    "defaultLifetimeSeconds",
    "graceSeconds",
    "refreshTokenIdleSeconds",
    "refreshTokenLifetimeSeconds",
    "variables",
];

/// The members that only `tokenctl` needs: what leads to a first token.
const COMPILED_FOR_LOGIN: [&str; 12] = [
    "title",
    "grantType",
    "authorizationEndpoint",
    "tokenEndpoint",
    "deviceAuthorizationEndpoint",
    "revocationEndpoint",
    "pkce",
    "scopeSeparator",
    "offlineScopes",
    "offlineParameters",
    "exchangeParameters",
    "keepFromRedirect",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROFILES}");
    println!("cargo::rerun-if-changed=build.rs");
    let file: Value = toml::from_str(&fs::read_to_string(PROFILES)?)?;
    let entries = file["provider"].as_array().ok_or("no [[provider]]")?;
    let lines = entries.iter().map(line).collect::<Result<String, _>>()?;
    let path = env::var_os("OUT_DIR").ok_or("no OUT_DIR")?;
    Ok(fs::write(Path::new(&path).join("profiles"), lines)?)
}

fn line(entry: &Value) -> Result<String, String> {
    let name = entry["name"].as_str().ok_or("an entry has no name")?;
    let mut compiled = Map::new();
    // A refresh may go to another address than the exchange of the code.
    let endpoint = entry.get("refreshEndpoint").or(entry.get("tokenEndpoint"));
    compiled.insert("tokenEndpoint".to_owned(), endpoint.cloned().ok_or(format!("{name} has no tokenEndpoint"))?);
    for member in COMPILED {
        if let Some(value) = entry.get(member) {
            compiled.insert(member.to_owned(), value.clone());
        }
    }
    if env::var_os("CARGO_FEATURE_CLI").is_some() {
        let members = COMPILED_FOR_LOGIN.into_iter();
        let login = members.filter_map(|member| Some((member.to_owned(), entry.get(member)?.clone()))).collect();
        compiled.insert("login".to_owned(), Value::Object(login));
    }
    // The examples are for people.
    for variable in compiled.get_mut("variables").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        variable.as_object_mut().map(|variable| variable.remove("example"));
    }
    Ok(format!("{name} {}\n", json!(compiled)))
}
