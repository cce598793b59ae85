//! Decodes the body of a response: text in UTF-8 or UTF-16, compressed or not, as an object of JSON or of a form.

use std::io::Read;

use flate2::read::GzDecoder;
use zeroize::Zeroizing;

use crate::token_secret::document::{Document, json_string};

/// At most this many bytes are read, both of a response and of what it decompresses to.
pub(super) const MAX_BYTES: usize = 1024 * 1024;

/// A response with more members is hostile: then only its tokens are stored.
pub(super) const MAX_MEMBERS: usize = 256;

/// The first bytes of a gzip file (RFC 1952 section 2.3.1). Some providers compress although the request accepts `identity` only.
const GZIP: &[u8] = &[0x1f, 0x8b];

/// A decoded body.
pub(super) struct Body {
    /// The text, without a byte order mark and without white space around it.
    pub text: Zeroizing<String>,
    /// The object in it, if it is one.
    pub document: Option<Document>,
}

impl Body {
    pub fn read(bytes: &[u8]) -> Self {
        let text = if bytes.starts_with(GZIP) { decode(&decompressed(bytes)) } else { decode(bytes) };
        let text = Zeroizing::new(text.trim_start_matches('\u{feff}').trim().to_owned());
        let document = object(&text);
        Self { text, document }
    }

    /// Whether it is a web page: a proxy, a login page or an error page has answered.
    pub fn is_page(&self) -> bool {
        let start: String = self.text.chars().take(PAGE_START).collect::<String>().to_ascii_lowercase();
        start.starts_with('<') && ["<html", "<!doctype html"].iter().any(|page| start.contains(page))
    }
}

/// How many characters of a page may be comments and processing instructions.
const PAGE_START: usize = 1024;

/// The bytes before their compression. If they are damaged, as many as can be read.
fn decompressed(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    // Allocated at its full length: a vector that grows leaves copies behind.
    let mut plain = Zeroizing::new(Vec::with_capacity(MAX_BYTES));
    let mut reader = GzDecoder::new(bytes).take(MAX_BYTES as u64);
    let mut piece = Zeroizing::new([0; 4096]);
    while let Ok(length @ 1..) = reader.read(piece.as_mut()) {
        plain.extend_from_slice(&piece[..length]);
    }
    plain
}

/// The text. Tokens are ASCII: text in another encoding beside them does no harm.
fn decode(bytes: &[u8]) -> Zeroizing<String> {
    let utf16 = |from_pair: fn([u8; 2]) -> u16| {
        let units = bytes.chunks_exact(2).map(|pair| from_pair([pair[0], pair[1]]));
        Zeroizing::new(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
    };
    match bytes {
        [0xff, 0xfe, ..] | [_, 0, _, 0, ..] => utf16(u16::from_le_bytes),
        [0xfe, 0xff, ..] | [0, _, 0, _, ..] => utf16(u16::from_be_bytes),
        _ => Zeroizing::new(String::from_utf8_lossy(bytes).into_owned()),
    }
}

/// The text as an object: JSON, or form-encoded, whatever the content type (GitHub).
fn object(text: &str) -> Option<Document> {
    if text.starts_with('{') {
        return Document::parse(text).ok();
    }
    // A page or a message may contain a link; it is not a form.
    if text.starts_with(['<', '[', '"']) || !is_form(text) {
        return None;
    }
    let mut document = Document::default();
    for (name, value) in form_urlencoded::parse(text.as_bytes()).take(MAX_MEMBERS) {
        document.set(&name, json_string(&value));
    }
    Some(document)
}

/// A member's name in lower case, its ASCII letters and digits only: providers write `errorCode`, `error_code` and `ErrorCode`.
pub(super) fn ascii_letters(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// Whether the text is a form that names a token or an error. Names must be encoded; some providers leave values unencoded.
fn is_form(text: &str) -> bool {
    let names = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').map(|(name, _)| name));
    let names: Option<Vec<&str>> = names.collect();
    let is_name = |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.%[]+".contains(&byte));
    let is_ours = |name: &&str| name.to_ascii_lowercase().contains("token") || *name == "error";
    names.is_some_and(|names| names.iter().all(is_name) && names.iter().any(is_ours))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn text(bytes: &[u8]) -> String {
        Body::read(bytes).text.to_string()
    }

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_body_is_decoded_whatever_its_encoding() {
        let utf16 = |bytes: fn(u16) -> [u8; 2], mark: bool| {
            let mark = if mark { "\u{feff}" } else { "" };
            format!("{mark}{{\"a\":1}}").encode_utf16().flat_map(bytes).collect::<Vec<u8>>()
        };
        for body in [
            b"{\"a\":1}".to_vec(),
            b"\xef\xbb\xbf \n{\"a\":1}\r\n ".to_vec(),
            utf16(u16::to_le_bytes, true),
            utf16(u16::to_be_bytes, true),
            utf16(u16::to_le_bytes, false),
            utf16(u16::to_be_bytes, false),
            gzipped(b"{\"a\":1}"),
        ] {
            assert_eq!(text(&body), r#"{"a":1}"#, "{body:?}");
            assert!(Body::read(&body).document.is_some());
        }
        assert_eq!(text(b"Jos\xe9"), "Jos\u{fffd}");
    }

    #[test]
    fn a_compressed_body_is_bounded_and_a_damaged_one_is_read_as_far_as_possible() {
        for (length, read) in [(MAX_BYTES, MAX_BYTES), (MAX_BYTES + 1, MAX_BYTES), (64 * MAX_BYTES, MAX_BYTES)] {
            assert_eq!(text(&gzipped(&vec![b'a'; length])).len(), read);
        }
        let mut damaged = gzipped(b"access_token=a&x=");
        damaged.truncate(damaged.len() - 8);
        assert_eq!(text(&damaged), "access_token=a&x=");
        assert_eq!(text(GZIP), "");
    }

    #[test]
    fn a_form_has_names_and_values_only() {
        for (body, is_object) in [
            ("access_token=a", true),
            ("scope=read write&access_token=a", true),
            ("accessToken=a&x=1", true),
            ("access_token=a&", true),
            ("error=invalid_grant", true),
            ("a=1&b=2", false),
            ("see /login?next=1&access_token=a", false),
            ("access_token=a&x", false),
            ("<a href=\"?x=1&access_token=a\">", false),
            ("[1]", false),
            ("", false),
        ] {
            assert_eq!(Body::read(body.as_bytes()).document.is_some(), is_object, "{body}");
        }
    }
}
