//! The error in a response: where providers put its code and its description, and what is shown of them. Pure. What they mean is
//! decided in [`words`](super::words).

use super::{
    body::{MAX_MEMBERS, ascii_letters},
    words::{Meaning, code_meaning, meaning},
};
use crate::{sanitize::redact, secret::Secret, token_secret::document::Document};

/// The error in a response.
#[derive(Default)]
pub(super) struct ErrorText {
    pub meaning: Option<Meaning>,
    /// The error code, sanitized.
    pub error: Option<String>,
    /// The description, sanitized.
    pub description: Option<String>,
    /// Whether a member reports an error explicitly: `error`, `errors`, `"ok": false`.
    pub is_explicit: bool,
    /// Whether a flag says that the request failed.
    pub is_denied: bool,
}

impl ErrorText {
    /// The error in a response. `None`: no member of it names one.
    pub fn read(document: &Document, secrets: &[&Secret]) -> Option<Self> {
        let mut found = Found::of(document);
        for text in found.codes.iter_mut().chain(&mut found.texts) {
            truncate(text);
        }
        if found.codes.is_empty() && found.texts.is_empty() && !found.is_explicit {
            return None;
        }
        let meaning = meaning(found.codes.iter().chain(&found.texts).map(String::as_str), &found.codes);
        // A number says less than a word.
        let is_word = |code: &&String| !code.bytes().all(|byte| byte.is_ascii_digit());
        let code = found.codes.iter().find(is_word).or(found.codes.first());
        let error = code.map(|code| {
            // A known code is not a secret, even if a secret contains it.
            if code_meaning(code).is_some() { code.trim().to_owned() } else { redact(code, secrets) }
        });
        let mut texts: Vec<&str> = Vec::new();
        for text in &found.texts {
            let text = text.trim();
            if Some(text) != code.map(|code| code.trim()) && !texts.contains(&text) {
                texts.push(text);
            }
        }
        let description = (!texts.is_empty()).then(|| redact(&texts.join("; "), secrets));
        Some(Self { meaning, error, description, is_explicit: found.is_explicit, is_denied: found.is_denied })
    }
}

/// The codes and texts of an error, as they are.
#[derive(Default)]
struct Found {
    codes: Vec<String>,
    texts: Vec<String>,
    is_explicit: bool,
    /// Whether `ok` or `success` is `false`.
    is_denied: bool,
}

/// What providers put into the members of an error when there is no error.
const NO_ERROR: [&str; 9] = ["null", "false", "0", "{}", "[]", "", "200", "ok", "success"];

/// Words that say only that there is an error.
const JUST_AN_ERROR: [&str; 5] = ["error", "err", "fail", "failed", "failure"];

/// How much of a text is searched for words and shown.
const MAX_TEXT_BYTES: usize = 4096;

fn truncate(text: &mut String) {
    let end = (0..=MAX_TEXT_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or_default());
}

impl Found {
    fn of(document: &Document) -> Self {
        let found = Self::at_the_top(document);
        // `{"data": {"error_code": 10010, "description": "…"}, "message": "error"}` (TikTok)
        if found.codes.is_empty() && found.texts.iter().all(|text| is_just_an_error(text)) {
            let inner = document.members().filter_map(|(_, value)| Document::parse(value).ok());
            if let Some(inner) = inner.map(|inner| Self::at_the_top(&inner)).find(|inner| !inner.codes.is_empty()) {
                let is_explicit = found.is_explicit || inner.is_explicit;
                return Self { is_explicit, is_denied: found.is_denied || inner.is_denied, ..inner };
            }
        }
        found
    }

    fn at_the_top(document: &Document) -> Self {
        let mut found = Self::default();
        let mut descriptions = Vec::new();
        let mut texts = Vec::new();
        for (name, value) in document.members().take(MAX_MEMBERS) {
            let name = ascii_letters(name);
            found.is_denied |= ["ok", "success"].contains(&name.as_str()) && value == "false";
            if is_none(value) {
                continue;
            }
            match name.as_str() {
                "error" => found.read_error(value),
                "errors" => found.read_error(&first_of(value).unwrap_or_else(|| value.to_owned())),
                "errorcode" | "errcode" | "code" | "status" => match code(value) {
                    Some(code) if is_just_an_error(&code) => found.is_explicit = true,
                    Some(code) => found.codes.push(code),
                    None => {}
                },
                "errordescription" => descriptions.extend(text(value)),
                "message" | "msg" | "reason" | "detail" | "errormessage" | "errmsg" => texts.extend(text(value)),
                _ => {}
            }
        }
        found.is_explicit |= found.is_denied;
        found.texts.extend(if descriptions.is_empty() { texts } else { descriptions });
        found
    }

    /// The value of `error`, or the first of `errors`: a text, or an object.
    fn read_error(&mut self, json: &str) {
        if is_none(json) {
            return;
        }
        self.is_explicit = true;
        let Ok(object) = Document::parse(json) else {
            self.codes.extend(code(json).filter(|code| !is_just_an_error(code)));
            return;
        };
        for name in ["status", "code", "type", "error"] {
            self.codes.extend(object.get(name).and_then(code).filter(|code| !is_none(code)));
        }
        // "resource": "RefreshToken", "field": "refresh_token", "code": "invalid" (Strava)
        let place = ["resource", "field"].map(|name| object.get(name).and_then(text));
        if place.iter().any(Option::is_some) {
            let words = place.into_iter().chain([object.get("code").and_then(code)]).flatten();
            self.texts.push(words.collect::<Vec<_>>().join(" "));
        }
        for name in ["message", "msg", "description", "detail", "title", "reason"] {
            self.texts.extend(object.get(name).and_then(text));
        }
        // "refresh_token": ["is invalid"]
        for (name, value) in object.members().take(MAX_MEMBERS) {
            if let Some(text) = first_of(value).as_deref().and_then(text) {
                self.texts.push(format!("{name} {text}"));
            }
        }
    }
}

fn is_just_an_error(text: &str) -> bool {
    JUST_AN_ERROR.contains(&text.trim().to_ascii_lowercase().as_str())
}

/// Whether a member's value (JSON text, or the text in it) says that there is no error.
fn is_none(value: &str) -> bool {
    let value: String = value.split_ascii_whitespace().collect();
    NO_ERROR.contains(&value.trim_matches('"').to_lowercase().as_str())
}

fn first_of(array: &str) -> Option<String> {
    let values: Vec<&serde_json::value::RawValue> = serde_json::from_str(array).ok()?;
    values.first().map(|value| value.get().to_owned())
}

fn text(json: &str) -> Option<String> {
    let text: String = serde_json::from_str(json).ok()?;
    (!text.trim().is_empty()).then_some(text)
}

/// A text or a whole number.
fn code(json: &str) -> Option<String> {
    text(json).or_else(|| json.parse::<i64>().ok().map(|number| number.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str) -> Option<ErrorText> {
        ErrorText::read(&Document::parse(json).unwrap(), &[])
    }

    #[test]
    fn an_error_is_found_wherever_a_provider_puts_it() {
        for (json, shown) in [
            (r#"{"error":"invalid_grant","error_description":"no"}"#, "invalid_grant: no"),
            (
                r#"{"error":{"code":400,"message":"TOKEN_EXPIRED","status":"INVALID_ARGUMENT"}}"#,
                "INVALID_ARGUMENT: TOKEN_EXPIRED",
            ),
            (r#"{"error":{"code":401}}"#, "401"),
            (
                r#"{"message":"Bad Request","errors":[{"resource":"RefreshToken","field":"refresh_token","code":"invalid"}]}"#,
                "invalid: RefreshToken refresh_token invalid; Bad Request",
            ),
            (r#"{"errors":["bad things"]}"#, "bad things"),
            (r#"{"code":40105,"message":"refresh_token is invalid","data":{}}"#, "40105: refresh_token is invalid"),
            (
                r#"{"status":"BAD_REFRESH_TOKEN","message":"missing or unknown refresh token"}"#,
                "BAD_REFRESH_TOKEN: missing or unknown refresh token",
            ),
            (r#"{"errorCode":"E17","errorMessage":"no"}"#, "E17: no"),
            (r#"{"error":"invalid_grant","reason":"Invalid Token!"}"#, "invalid_grant: Invalid Token!"),
            (r#"{"message":"Bad Request","code":"E17"}"#, "E17: Bad Request"),
            (r#"{"status":401,"body":{}}"#, "401"),
            (r#"{"errcode":40030,"errmsg":"invalid refresh_token"}"#, "40030: invalid refresh_token"),
            (r#"{"ErrorCode":"invalid_request","Error":"Invalid refresh token"}"#, "invalid_request"),
            (
                r#"{"data":{"description":"x","error_code":10010,"msg":"Invalid refresh_token"},"message":"error"}"#,
                "10010: Invalid refresh_token",
            ),
            (r#"{"errors":{"refresh_token":["is invalid"]}}"#, ": refresh_token is invalid"),
            (r#"{"errors":"bad things"}"#, "bad things"),
            (r#"{"ok":false}"#, ""),
            (r#"{"status":"error","message":"no such thing"}"#, ": no such thing"),
        ] {
            let found = error(json).unwrap_or_else(|| panic!("{json}"));
            let description = found.description.map(|text| format!(": {text}")).unwrap_or_default();
            assert_eq!(found.error.unwrap_or_default() + &description, shown, "{json}");
        }
        for json in [
            "{}",
            r#"{"error":null}"#,
            r#"{"error":"0","errors":[],"code":0,"message":"OK"}"#,
            r#"{"error":{},"status":200}"#,
            r#"{"error":[ ],"ok":true,"success":true,"status":"success"}"#,
        ] {
            assert!(error(json).is_none(), "{json}");
        }
    }
}
