//! Which secrets a setting or an event names: one, several, or all with a prefix. No IO.

/// What is allowed, for messages.
pub const ALLOWED: &str = "names, ARNs and prefixes such as \"myapp/prod/*\", with commas between them";

/// What an event may name, for messages.
const ALLOWED_IN_EVENT: &str = "one name, ARN or prefix such as \"myapp/prod/*\"";

/// The longest name or ARN of a secret (`SecretId`, Secrets Manager API Reference).
pub const MAX_SECRET_ID_CHARS: usize = 2048;

/// Which secrets to run for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// One secret, by its name or ARN.
    One(String),
    /// Several.
    Many(Many),
}

/// Several secrets. No name is in it twice, and no prefix begins with another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Many {
    /// Names and ARNs.
    pub names: Vec<String>,
    /// Prefixes of names.
    pub prefixes: Vec<String>,
}

impl Targets {
    /// Reads a list, such as `crm/prod/oauth,myapp/prod/*`.
    ///
    /// # Errors
    ///
    /// The problem; the text continues a sentence that begins with the setting's name.
    pub fn parse(list: &str) -> Result<Self, String> {
        Self::parse_list(list).map_err(|problem| format!("{problem}; allowed are {ALLOWED}"))
    }

    fn parse_list(list: &str) -> Result<Self, &'static str> {
        let (mut names, mut prefixes) = (Vec::new(), Vec::new());
        for item in list.split(',') {
            match Item::parse(item)? {
                Item::Name(name) if !names.contains(&name) => names.push(name),
                Item::Prefix(prefix) if !prefixes.contains(&prefix) => prefixes.push(prefix),
                Item::Name(_) | Item::Prefix(_) => {}
            }
        }
        // The shorter one finds the same secrets.
        let all = prefixes.clone();
        prefixes.retain(|prefix| !all.iter().any(|other| other != prefix && prefix.starts_with(other)));
        Ok(match (names.as_slice(), prefixes.as_slice()) {
            ([name], []) => Self::One(name.clone()),
            _ => Self::Many(Many { names, prefixes }),
        })
    }

    /// One secret as several.
    #[cfg(feature = "cli")]
    #[must_use]
    pub fn into_many(self) -> Many {
        match self {
            Self::One(name) => Many { names: vec![name], prefixes: Vec::new() },
            Self::Many(many) => many,
        }
    }

    /// Reads what an event names: one secret, or one prefix.
    ///
    /// # Errors
    ///
    /// The problem; the text continues a sentence that begins with the member's name.
    pub fn parse_one(text: &str) -> Result<Self, String> {
        let parsed = if text.contains(',') { Err("contains a comma") } else { Self::parse_list(text) };
        parsed.map_err(|problem| format!("{problem}; allowed is {ALLOWED_IN_EVENT}"))
    }

    /// How these targets include a secret; `None`: they do not. `arn`: `None` if it is not known.
    #[must_use]
    pub fn include(&self, name: &str, arn: Option<&str>) -> Option<Included> {
        // An ARN may be given without the six characters at its end, or in full.
        let is_it = |given: &str| given == name || arn.is_some_and(|arn| arn == given || without_suffix(arn) == given);
        match self {
            Self::One(given) => is_it(given).then(|| Included::ByName(given.clone())),
            Self::Many(Many { names, prefixes }) => {
                let by_name = names.iter().find(|given| is_it(given)).cloned().map(Included::ByName);
                let by_prefix = || prefixes.iter().any(|prefix| name.starts_with(prefix));
                by_name.or_else(|| by_prefix().then(|| Included::ByPrefix(name.to_owned())))
            }
        }
    }

    /// The targets as text, for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::One(name) => name.clone(),
            Self::Many(Many { names, prefixes }) => {
                let prefixes = prefixes.iter().map(|prefix| format!("{prefix}*"));
                names.iter().cloned().chain(prefixes).collect::<Vec<_>>().join(",")
            }
        }
    }
}

/// How targets include a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Included {
    /// By this name or ARN, as it was given.
    ByName(String),
    /// By the start of this name.
    ByPrefix(String),
}

impl Included {
    /// The secret, as runs name it.
    #[must_use]
    pub fn secret_id(&self) -> &str {
        match self {
            Self::ByName(secret_id) | Self::ByPrefix(secret_id) => secret_id,
        }
    }
}

/// An ARN without the hyphen and the six characters that Secrets Manager adds to the name.
fn without_suffix(arn: &str) -> &str {
    match arn.char_indices().rev().nth(6) {
        Some((at, '-')) => &arn[..at],
        _ => arn,
    }
}

enum Item {
    Name(String),
    Prefix(String),
}

impl Item {
    fn parse(item: &str) -> Result<Self, &'static str> {
        if item.is_empty() {
            return Err("contains an empty name");
        }
        if item.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("contains white space");
        }
        if item.chars().count() > MAX_SECRET_ID_CHARS {
            return Err("contains a name that is too long");
        }
        match item.split_once('*') {
            None => Ok(Self::Name(item.to_owned())),
            Some(("", "")) => Err("contains \"*\" alone, which selects every secret of the account"),
            Some((prefix, "")) if prefix.starts_with("arn:") => Err("contains a \"*\" after an ARN"),
            Some((prefix, "")) => Ok(Self::Prefix(prefix.to_owned())),
            Some(_) => Err("contains a \"*\" that is not at the end of a name"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many(names: &[&str], prefixes: &[&str]) -> Targets {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Targets::Many(Many { names: owned(names), prefixes: owned(prefixes) })
    }

    #[test]
    fn a_list_has_names_arns_and_prefixes() {
        let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:crm-AbCdEf";
        for (list, expected) in [
            ("crm", Targets::One("crm".to_owned())),
            (arn, Targets::One(arn.to_owned())),
            ("crm,crm", Targets::One("crm".to_owned())),
            ("a,b", many(&["a", "b"], &[])),
            ("myapp/prod/*", many(&[], &["myapp/prod/"])),
            ("m*", many(&[], &["m"])),
            ("a,myapp/*,b,other/*", many(&["a", "b"], &["myapp/", "other/"])),
            ("a/b/*,a/*,a/c*,ab/*", many(&[], &["a/", "ab/"])),
        ] {
            assert_eq!(Targets::parse(list).as_ref(), Ok(&expected), "{list}");
        }
    }

    #[test]
    fn what_is_not_allowed_is_named_together_with_what_is() {
        let long = "n".repeat(MAX_SECRET_ID_CHARS + 1);
        for (list, problem) in [
            ("*", "contains \"*\" alone"),
            ("a,*", "contains \"*\" alone"),
            ("", "contains an empty name"),
            ("a,,b", "contains an empty name"),
            ("a,", "contains an empty name"),
            ("a, b", "contains white space"),
            ("a b", "contains white space"),
            ("a\n", "contains white space"),
            ("a\u{a0}", "contains white space"),
            ("a*b", "contains a \"*\" that is not at the end"),
            ("*/b", "contains a \"*\" that is not at the end"),
            ("a/*/b", "contains a \"*\" that is not at the end"),
            ("a**", "contains a \"*\" that is not at the end"),
            ("arn:aws:secretsmanager:eu-west-1:1:secret:a/*", "contains a \"*\" after an ARN"),
            (&long, "contains a name that is too long"),
        ] {
            let error = Targets::parse(list).unwrap_err();
            assert!(error.starts_with(problem) && error.ends_with(ALLOWED), "{list}: {error}");
        }
        for (text, problem) in
            [("a,b", "contains a comma"), ("*", "contains \"*\" alone"), ("a b", "contains white space")]
        {
            let error = Targets::parse_one(text).unwrap_err();
            assert!(error.starts_with(problem) && error.ends_with(ALLOWED_IN_EVENT), "{text}: {error}");
        }
        assert_eq!(Targets::parse_one("a/*"), Ok(many(&[], &["a/"])));
    }

    #[test]
    fn a_secret_is_included_by_its_name_its_arn_or_a_prefix() {
        const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app/crm-AbCdEf";
        let name = |name: &str| Some(Included::ByName(name.to_owned()));
        let prefix = || Some(Included::ByPrefix("app/crm".to_owned()));
        for (list, included) in [
            ("app/crm", name("app/crm")),
            ("app/cr", None),
            ("app/crm2", None),
            (ARN, name(ARN)),
            (&ARN[..ARN.len() - 7], name(&ARN[..ARN.len() - 7])),
            (&ARN.replace("eu-west-1", "us-east-1"), None),
            ("app/*", prefix()),
            ("app/crm*", prefix()),
            ("other/*,app/crm", name("app/crm")),
            ("app/*,app/crm", name("app/crm")),
            ("other/*,other", None),
        ] {
            assert_eq!(Targets::parse(list).unwrap().include("app/crm", Some(ARN)), included, "{list}");
        }
        assert_eq!(Targets::parse("app/crm").unwrap().include("app/crm", None), name("app/crm"));
        assert_eq!(Targets::parse(ARN).unwrap().include("app/crm", None), None);
    }
}
