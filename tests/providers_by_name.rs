//! The data file of providers: its schema, the addresses that its variables can make, the vendors' own examples of responses, and the
//! tables on the pages that are made from it.

use std::{collections::BTreeSet, fmt::Write, fs, path::Path};

use chrono::Utc;
use reqwest::Url;
use serde_json::Value;
use token_refresher::{
    oauth::{client, response, response::TokenResponse},
    providers::Profile,
    token_secret::client_settings::{TokenEndpointAuthMethod, TokenRequestFormat},
};

const FILE: &str = "src/providers/profiles.toml";

/// Every key of an entry, and whether it must be there.
const KEYS: [(&str, bool); 29] = [
    ("name", true),
    ("title", true),
    ("grantType", false),
    ("authorizationEndpoint", false),
    ("tokenEndpoint", true),
    ("refreshEndpoint", false),
    ("deviceAuthorizationEndpoint", false),
    ("revocationEndpoint", false),
    ("tokenEndpointAuthMethod", false),
    ("tokenRequestFormat", false),
    ("pkce", false),
    ("scopeSeparator", false),
    ("offlineScopes", false),
    ("offlineParameters", false),
    ("exchangeParameters", false),
    ("refreshParameters", false),
    ("headers", false),
    ("defaultLifetimeSeconds", false),
    ("rotation", false),
    ("graceSeconds", false),
    ("refreshTokenIdleSeconds", false),
    ("refreshTokenLifetimeSeconds", false),
    ("grantLifetimeSeconds", false),
    ("keepFromRedirect", false),
    ("members", false),
    ("certainty", true),
    ("readOn", true),
    ("mind", true),
    ("sources", true),
];

const ENDPOINTS: [&str; 5] =
    ["authorizationEndpoint", "tokenEndpoint", "refreshEndpoint", "deviceAuthorizationEndpoint", "revocationEndpoint"];

fn entries() -> Vec<Value> {
    let file: Value = toml::from_str(&fs::read_to_string(FILE).expect("the file")).expect("TOML");
    file["provider"].as_array().expect("entries").clone()
}

fn text<'a>(entry: &'a Value, key: &str) -> &'a str {
    entry[key].as_str().unwrap_or_else(|| panic!("{}: {key} is not a text", entry["name"]))
}

fn texts<'a>(entry: &'a Value, key: &str) -> Vec<&'a str> {
    let list = entry.get(key).map(|list| list.as_array().unwrap_or_else(|| panic!("{}: {key}", entry["name"])));
    list.into_iter().flatten().map(|text| text.as_str().expect("a text")).collect()
}

#[test]
fn every_entry_has_the_keys_of_the_schema_with_allowed_values() {
    let entries = entries();
    let names: Vec<&str> = entries.iter().map(|entry| text(entry, "name")).collect();
    assert!(names.is_sorted(), "the entries are in alphabetical order");
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "a name is there twice");
    assert!(names.len() >= 50, "{}", names.len());
    for entry in &entries {
        let name = text(entry, "name");
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(name.chars().all(is_allowed), "{name}: lower case, digits and hyphens");
        for key in entry.as_object().expect("an entry").keys() {
            let is_known = key == "variables" || KEYS.iter().any(|(known, _)| known == key);
            assert!(is_known, "{name}: the key {key}");
        }
        for (key, _) in KEYS.iter().filter(|(_, must)| *must) {
            assert!(entry.get(key).is_some(), "{name} has no {key}");
        }
        let one_of = |key: &str, allowed: &[&str]| {
            let Some(value) = entry.get(key) else { return };
            assert!(
                allowed.contains(&value.as_str().expect("a text")),
                "{name}: {key} is {value}; allowed is one of {allowed:?}"
            );
        };
        one_of("pkce", &["required", "allowed", "refused"]);
        one_of("rotation", &["always", "sometimes", "none"]);
        one_of("certainty", &["documented", "code", "partial"]);
        if let Some(method) = entry.get("tokenEndpointAuthMethod") {
            let method = method.as_str().expect("a text");
            assert!(TokenEndpointAuthMethod::read(method).is_some(), "{name}: {method}");
        } else {
            let grant = entry.get("grantType").and_then(Value::as_str).unwrap_or_default();
            assert!(grant.ends_with("jwt-bearer"), "{name}: only an assertion needs no tokenEndpointAuthMethod");
        }
        if let Some(format) = entry.get("tokenRequestFormat") {
            assert!(TokenRequestFormat::read(format.as_str().expect("a text")).is_some(), "{name}: {format}");
        }
        for key in KEYS.iter().map(|(key, _)| *key).filter(|key| key.ends_with("Seconds")) {
            let is_positive = entry.get(key).is_none_or(|seconds| seconds.as_u64().is_some_and(|seconds| seconds > 0));
            assert!(is_positive, "{name}: {key} is a number of seconds, or left out");
        }
        assert!(text(entry, "readOn").parse::<chrono::NaiveDate>().is_ok(), "{name}: readOn is a date");
        let sources = entry["sources"].as_array().expect("sources");
        assert!(!sources.is_empty(), "{name} has no source");
        for source in sources {
            assert!(text(source, "page").starts_with("https://"), "{name}: {source}");
            assert!(!text(source, "says").is_empty(), "{name}: {source}");
        }
        assert!(!texts(entry, "mind").is_empty(), "{name}: what to mind");
    }
}

#[test]
fn no_profile_breaks_a_request() {
    const OF_REQUESTS: [&str; 7] = [
        "grant_type",
        "refresh_token",
        "client_id",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
        "assertion",
    ];
    const RESERVED: [&str; 7] =
        ["authorization", "content-type", "content-length", "transfer-encoding", "connection", "host", "expect"];
    for name in Profile::names() {
        let profile = Profile::named(name).expect("a profile");
        for parameter in profile.refresh_parameters.keys() {
            assert!(!OF_REQUESTS.contains(&parameter.as_str()), "{name}: {parameter}");
        }
        for (header, value) in &profile.headers {
            assert!(!RESERVED.contains(&header.to_ascii_lowercase().as_str()), "{name}: {header}");
            assert!(reqwest::header::HeaderName::try_from(header).is_ok(), "{name}: {header}");
            assert!(reqwest::header::HeaderValue::try_from(value).is_ok(), "{name}: {value}");
        }
        // A value of the host that nobody chose would send a client's secret to a place that nobody meant.
        let host = profile.token_endpoint.trim_start_matches("https://").split('/').next().unwrap_or_default();
        for (variable, described) in &profile.variables {
            let is_in_host = host.contains(&format!("{{{variable}}}"));
            assert!(!is_in_host || described.default.is_none(), "{name}: {variable}");
        }
    }
}

#[test]
fn the_function_has_the_profile_of_every_entry() {
    let entries = entries();
    let names: Vec<&str> = entries.iter().map(|entry| text(entry, "name")).collect();
    assert_eq!(Profile::names().collect::<Vec<_>>(), names);
    for entry in &entries {
        let profile = Profile::named(text(entry, "name")).expect("a profile");
        let endpoint = entry.get("refreshEndpoint").or(entry.get("tokenEndpoint")).and_then(Value::as_str);
        assert_eq!(Some(profile.token_endpoint.as_str()), endpoint);
        assert_eq!(profile.grace_seconds, entry.get("graceSeconds").and_then(Value::as_u64));
    }
    for unknown in ["", "xer", "xero ", "{}", "Xero"] {
        assert!(Profile::named(unknown).is_none(), "{unknown}");
    }
}

/// The variables in a template.
fn variables(template: &str) -> BTreeSet<&str> {
    template.split('{').skip(1).map(|part| part.split_once('}').expect("a closing brace").0).collect()
}

/// The profile's address, with the examples for all variables but one.
fn filled(entry: &Value, template: &str, other: Option<(&str, &str)>) -> Result<String, String> {
    // With the variables of all addresses: the function has only those that it needs.
    let mut variables_of_all = entry["variables"].clone();
    for variable in variables_of_all.as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
        variable.as_object_mut().expect("a table").remove("example");
    }
    let variables_of_all = if variables_of_all.is_null() { serde_json::json!({}) } else { variables_of_all };
    let profile = serde_json::json!({"tokenEndpoint": template, "variables": variables_of_all});
    let profile: Profile = serde_json::from_value(profile).expect("a profile");
    let given = |name: &str| match other {
        Some((other, value)) if other == name => Some(value.to_owned()),
        _ => entry["variables"][name]["example"].as_str().map(str::to_owned),
    };
    let values: Vec<(String, String)> =
        variables(template).into_iter().filter_map(|name| Some((name.to_owned(), given(name)?))).collect();
    profile
        .fill(template, |name| values.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str()))
        .map_err(|problem| format!("{} {}", problem.variable, problem.what))
}

#[test]
fn every_address_is_https_and_each_of_its_variables_is_described() {
    for entry in entries() {
        let name = text(&entry, "name");
        let mut used: BTreeSet<&str> = BTreeSet::new();
        let templates: Vec<&str> = ENDPOINTS.iter().filter_map(|key| entry.get(key)?.as_str()).collect();
        let parameters = entry.get("refreshParameters").and_then(Value::as_object);
        let parameters = parameters.into_iter().flatten().filter_map(|(_, value)| value.as_str());
        used.extend(templates.iter().copied().chain(parameters).flat_map(variables));
        let described: BTreeSet<&str> = entry
            .get("variables")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(used, described, "{name}: the variables that are used, and those that are described");
        for variable in described {
            assert!(!text(&entry["variables"][variable], "description").is_empty(), "{name}: {variable}");
            assert!(!text(&entry["variables"][variable], "example").is_empty(), "{name}: {variable}");
        }
        for template in templates {
            let url = filled(&entry, template, None).unwrap_or_else(|problem| panic!("{name}: {problem}"));
            assert!(url.starts_with("https://") && client::endpoint(&url).is_ok(), "{name}: {url}");
        }
    }
}

#[test]
fn no_value_of_a_variable_changes_another_part_of_the_address() {
    const VALUES: [&str; 34] = [
        "",
        " ",
        ".",
        "..",
        "...",
        "/",
        "a/b",
        "/a",
        "a/",
        "../a",
        "%2e%2e",
        "%2f",
        "a%40b",
        "@evil.example",
        "a@evil.example",
        "evil.example/",
        "evil.example#",
        "evil.example?",
        "a:b",
        "a:8443",
        "a:8443/",
        "a:b@c",
        "a\\b",
        "\\evil.example",
        "a b",
        "a\nb",
        "ä",
        "a?b=c",
        "a#b",
        "{tenant}",
        "a..b",
        ".a",
        "a.",
        "evil.example",
    ];
    for entry in entries() {
        for template in ENDPOINTS.iter().filter_map(|key| entry.get(key)?.as_str()) {
            for variable in variables(template) {
                let usual = Url::parse(&filled(&entry, template, None).expect("an address")).expect("a URL");
                for value in VALUES {
                    let Ok(url) = filled(&entry, template, Some((variable, value))) else { continue };
                    let url = Url::parse(&url).unwrap_or_else(|problem| panic!("{url}: {problem}"));
                    let what = format!("{}: {variable} = {value:?}: {url}", entry["name"]);
                    assert_eq!((url.scheme(), url.username(), url.query()), ("https", "", usual.query()), "{what}");
                    assert_eq!(url.fragment(), None, "{what}");
                    let segments = |url: &Url| url.path_segments().map_or(0, Iterator::count);
                    assert_eq!(segments(&url), segments(&usual), "{what}");
                    // What follows the variable in the host is fixed.
                    let host = template.trim_start_matches("https://").split('/').next().unwrap_or_default();
                    let end = host.rsplit('}').next().unwrap_or_default();
                    assert!(url.host_str().is_some_and(|host| host.ends_with(end)), "{what}");
                }
            }
        }
    }
}

/// The vendors' own examples: each file is named after its entry.
fn fixtures(kind: &str) -> Vec<(String, u16, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("tests/fixtures/providers").expect("the folder") {
        let path = entry.expect("a file").path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        let Some(name) = stem.strip_suffix(kind) else { continue };
        let text = fs::read_to_string(&path).expect("a text");
        let (head, body) = text.split_once("\n\n").expect("an empty line after the head");
        assert!(head.contains("\nx-source: https://"), "{name}: the page that shows it");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        found.push((name.to_owned(), status, body.to_owned()));
    }
    found.sort();
    found
}

#[test]
fn each_vendors_example_of_a_response_brings_tokens() {
    let names: Vec<String> = entries().iter().map(|entry| text(entry, "name").to_owned()).collect();
    for (name, status, body) in fixtures("-response") {
        assert!(names.contains(&name), "{name} has no entry");
        let response = response::read(status, None, body.as_bytes(), Utc::now(), &[]);
        assert!(matches!(response, TokenResponse::Issued(_)), "{name}: {response:?}");
    }
}

#[test]
fn each_vendors_example_of_a_refusal_is_one() {
    for (name, status, body) in fixtures("-refusal") {
        let response = response::read(status, None, body.as_bytes(), Utc::now(), &[]);
        assert!(matches!(response, TokenResponse::Refused(_)), "{name}: {response:?}");
    }
}

fn span(seconds: u64) -> String {
    let units =
        [(365 * 86_400, "years", "year"), (86_400, "days", "day"), (3600, "hours", "hour"), (60, "minutes", "minute")];
    let unit = units.into_iter().find(|(length, ..)| seconds >= *length && seconds.is_multiple_of(*length));
    match unit {
        Some((length, _, one)) if seconds == length => format!("1 {one}"),
        Some((length, many, _)) => format!("{} {many}", seconds / length),
        None => format!("{seconds} s"),
    }
}

fn cell(entry: &Value, key: &str) -> String {
    entry.get(key).and_then(Value::as_u64).map(span).unwrap_or_default()
}

/// A row for each entry.
fn table() -> String {
    let mut table = "| `provider` | | authentication | access token | a refresh brings a new refresh token | refresh token ends | certainty |\n\
                     |---|---|---|---|---|---|---|\n"
        .to_owned();
    for entry in entries() {
        let name = text(&entry, "name");
        let method = entry.get("tokenEndpointAuthMethod").and_then(Value::as_str).unwrap_or("assertion");
        let json = if entry.get("tokenRequestFormat").is_some() { ", JSON" } else { "" };
        let grant = match entry.get("grantType").and_then(Value::as_str) {
            None => text_or(&entry, "rotation", "not known").to_owned(),
            Some(_) => "no refresh token".to_owned(),
        };
        let grace = cell(&entry, "graceSeconds");
        let grace = if grace.is_empty() { grace } else { format!("; the old one is accepted for {grace}") };
        let idle = cell(&entry, "refreshTokenIdleSeconds");
        let idle = if idle.is_empty() { idle } else { format!("{idle} without use") };
        let lifetime = cell(&entry, "refreshTokenLifetimeSeconds");
        let lifetime = if lifetime.is_empty() { lifetime } else { format!("after {lifetime}") };
        let grant_ends = cell(&entry, "grantLifetimeSeconds");
        let grant_ends = if grant_ends.is_empty() { grant_ends } else { format!("{grant_ends} after the consent") };
        let ends: Vec<String> = [idle, lifetime, grant_ends].into_iter().filter(|text| !text.is_empty()).collect();
        writeln!(
            table,
            "| [`{name}`](#{anchor}) | {title} | {method}{json} | {lifetime} | {grant}{grace} | {ends} | {certainty} |",
            anchor = heading(&entry)
                .to_lowercase()
                .replace(' ', "-")
                .replace(|c: char| !c.is_alphanumeric() && c != '-', ""),
            title = text(&entry, "title"),
            lifetime = cell(&entry, "defaultLifetimeSeconds"),
            ends = ends.join(", "),
            certainty = text(&entry, "certainty"),
        )
        .expect("a text");
    }
    table
}

fn text_or<'a>(entry: &'a Value, key: &str, other: &'a str) -> &'a str {
    entry.get(key).and_then(Value::as_str).unwrap_or(other)
}

fn heading(entry: &Value) -> String {
    format!("Provider {}", text(entry, "name"))
}

/// What the first request of a person's consent needs: sentences.
fn of_first_request(entry: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let address = |key: &str| entry.get(key).and_then(Value::as_str).map(|address| format!("`{address}`"));
    let addresses = [("consent", "authorizationEndpoint"), ("token", "tokenEndpoint"), ("refresh", "refreshEndpoint")];
    let addresses: Vec<String> =
        addresses.into_iter().filter_map(|(what, key)| Some(format!("{what} {}", address(key)?))).collect();
    lines.push(format!("Addresses: {}.", addresses.join(", ")));
    let list = |key: &str| -> Vec<String> {
        let members = entry.get(key).and_then(Value::as_object).into_iter().flatten();
        members.map(|(name, value)| format!("`{name}={}`", value.as_str().unwrap_or_default())).collect()
    };
    let scopes: Vec<String> =
        texts(entry, "offlineScopes").iter().map(|scope| format!("the scope `{scope}`")).collect();
    let needed = [scopes, list("offlineParameters")].concat();
    if !needed.is_empty() {
        lines.push(format!("For a refresh token, the address of the consent needs {}.", needed.join(", ")));
    }
    if let Some(separator) = entry.get("scopeSeparator").and_then(Value::as_str) {
        lines.push(format!("Between scopes stands `{separator}`."));
    }
    if !list("exchangeParameters").is_empty() {
        lines.push(format!("The exchange of the code needs {}.", list("exchangeParameters").join(", ")));
    }
    if let Some(pkce) = entry.get("pkce").and_then(Value::as_str) {
        lines.push(format!("PKCE is {pkce}."));
    }
    lines
}

/// A section for each entry: a document, and what to mind.
fn sections() -> String {
    let mut sections = String::new();
    for entry in entries() {
        writeln!(sections, "### {}\n", heading(&entry)).expect("a text");
        let mut members = vec![format!("\"provider\": \"{}\"", text(&entry, "name"))];
        let used = entry.get("variables").and_then(Value::as_object);
        if let Some(variables) = used {
            let values: Vec<String> =
                variables.iter().map(|(name, variable)| format!("\"{name}\": {}", variable["example"])).collect();
            members.push(format!("\"providerParameters\": {{{}}}", values.join(", ")));
        }
        let grant = entry.get("grantType").and_then(Value::as_str);
        let method = text_or(&entry, "tokenEndpointAuthMethod", "");
        let signs = grant.is_some_and(|grant| grant.ends_with("jwt-bearer")) || method.ends_with("_jwt");
        members.push(grant.map_or("\"refreshToken\": \"…\"".to_owned(), |grant| format!("\"grantType\": \"{grant}\"")));
        members.push("\"clientId\": \"…\"".to_owned());
        members.extend(method.starts_with("client_secret").then(|| "\"clientSecret\": \"…\"".to_owned()));
        members.extend(signs.then(|| "\"privateKey\": \"…\"".to_owned()));
        let more = entry.get("members").and_then(Value::as_object).into_iter().flatten();
        members.extend(more.map(|(name, value)| format!("\"{name}\": {value}")));
        writeln!(sections, "```json\n{{{}}}\n```\n", members.join(", ")).expect("a text");
        let page = format!("docs/providers/{}.md", text(&entry, "name"));
        if Path::new(&page).exists() {
            let page = page.trim_start_matches("docs/");
            writeln!(sections, "From the registration to the first read: [{}]({page}).\n", text(&entry, "title"))
                .expect("a text");
        }
        for line in of_first_request(&entry) {
            writeln!(sections, "- {line}").expect("a text");
        }
        for (name, variable) in used.into_iter().flatten() {
            writeln!(sections, "- `{name}`: {}", text(variable, "description")).expect("a text");
        }
        for sentence in texts(&entry, "mind") {
            writeln!(sections, "- {sentence}").expect("a text");
        }
        let pages = entry["sources"].as_array().expect("sources").iter().enumerate();
        let pages: Vec<String> = pages.map(|(i, page)| format!("[{}]({})", i + 1, text(page, "page"))).collect();
        writeln!(sections, "\nRead on {}: {}\n", text(&entry, "readOn"), pages.join(", ")).expect("a text");
    }
    sections
}

/// The names, for the README.
fn names() -> String {
    let count = Profile::names().count();
    let mut lines = vec![String::new()];
    for (index, name) in Profile::names().enumerate() {
        let name = format!("{name}{}", if index + 1 < count { "," } else { "." });
        let last = lines.last_mut().expect("a line");
        if last.len() + name.len() > 158 {
            lines.push(name);
        } else {
            let blank = if last.is_empty() { "" } else { " " };
            *last = format!("{last}{blank}{name}");
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn the_pages_show_what_the_file_says() {
    let mut wrong = Vec::new();
    for (page, marker, made) in [
        ("docs/providers.md", "table", table()),
        ("docs/providers.md", "sections", sections()),
        ("README.md", "names", names()),
    ] {
        let written = fs::read_to_string(page).unwrap_or_else(|problem| panic!("{page}: {problem}"));
        let [start, end] = [format!("<!-- {marker} of {FILE} -->\n"), format!("<!-- end of {marker} -->")];
        let (before, rest) = written.split_once(&start).unwrap_or_else(|| panic!("{page} has no {start}"));
        let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{page} has no {end}"));
        let right = format!("{before}{start}{made}{end}{after}");
        if right != written {
            // `UPDATE_PAGES=1 cargo test --test providers_by_name` writes the pages.
            if std::env::var_os("UPDATE_PAGES").is_some() {
                fs::write(page, &right).expect("the page");
            }
            wrong.push(page);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?} differ from {FILE}: run UPDATE_PAGES=1 cargo test --test providers_by_name");
    assert!(Path::new("docs/adding-a-provider.md").exists());
}
