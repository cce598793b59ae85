//! The verification of signatures in `examples/readers/webhooks`: with the senders' own test vectors, and with invalid requests.

#[path = "../examples/readers/webhooks/signature.rs"]
mod signature;

use signature::{Refusal, Sender, TOLERANCE_SECONDS};

/// A webhook with its sender's signature.
struct Vector {
    sender: Sender,
    key: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    /// Seconds since the epoch.
    signed_at: u64,
}

/// The vectors of GitHub and Slack are from their documentation. Stripe publishes none: this one was made with openssl.
const VECTORS: [Vector; 3] = [
    Vector {
        sender: Sender::Stripe,
        key: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        headers: &[(
            "stripe-signature",
            "t=1492774577,v1=6a5114927fdc8227d5197eacbbafe76fe8944817ba6e1c1f168a406fe6a73b28",
        )],
        body: r#"{"id":"evt_1","object":"event","type":"charge.succeeded"}"#,
        signed_at: 1_492_774_577,
    },
    Vector {
        sender: Sender::Slack,
        key: "8f742231b10e8888abcd99yyyzzz85a5",
        headers: &[
            ("x-slack-request-timestamp", "1531420618"),
            ("x-slack-signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"),
        ],
        body: "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V\
               &channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=\
               &response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F\
               96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
        signed_at: 1_531_420_618,
    },
    Vector {
        sender: Sender::GitHub,
        key: "It's a Secret to Everybody",
        headers: &[("x-hub-signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")],
        body: "Hello, World!",
        signed_at: 0,
    },
];

impl Vector {
    fn verify(&self, headers: &[(&str, String)], body: &str, keys: &[&str], now: u64) -> Result<(), Refusal> {
        let header = |name: &str| headers.iter().find(|(each, _)| *each == name).map(|(_, value)| value.as_str());
        let keys: Vec<_> = keys.iter().map(|key| key.as_bytes()).collect();
        self.sender.verify(header, body.as_bytes(), &keys, now)
    }

    /// The headers, with one of them changed.
    fn headers(&self, changed: &str, change: impl Fn(&str) -> String) -> Vec<(&'static str, String)> {
        let change = |name, value: &str| if name == changed { change(value) } else { value.to_owned() };
        self.headers.iter().map(|&(name, value)| (name, change(name, value))).collect()
    }

    fn as_sent(&self) -> Vec<(&'static str, String)> {
        self.headers("", str::to_owned)
    }

    /// The name of the header with the signature.
    fn signature_header(&self) -> &'static str {
        self.headers.last().expect("a header").0
    }
}

#[test]
fn a_webhook_signed_as_its_sender_documents_is_accepted() {
    for vector in &VECTORS {
        let verified = vector.verify(&vector.as_sent(), vector.body, &[vector.key], vector.signed_at);
        assert_eq!(verified, Ok(()), "{:?}", vector.sender);
    }
}

#[test]
fn a_signature_is_valid_for_five_minutes_before_and_after_its_time() {
    for vector in VECTORS.iter().filter(|vector| vector.sender != Sender::GitHub) {
        for (now, verified) in [
            (vector.signed_at + TOLERANCE_SECONDS, Ok(())),
            (vector.signed_at + TOLERANCE_SECONDS + 1, Err(Refusal::Time)),
            (vector.signed_at - TOLERANCE_SECONDS, Ok(())),
            (vector.signed_at - TOLERANCE_SECONDS - 1, Err(Refusal::Time)),
            (0, Err(Refusal::Time)),
            (u64::MAX, Err(Refusal::Time)),
        ] {
            let found = vector.verify(&vector.as_sent(), vector.body, &[vector.key], now);
            assert_eq!(found, verified, "{:?} at {now}", vector.sender);
        }
    }
}

#[test]
fn a_webhook_that_was_changed_or_signed_with_another_key_is_rejected() {
    for vector in &VECTORS {
        let (sent, now, sender) = (vector.as_sent(), vector.signed_at, vector.sender);
        for (what, body, keys) in [
            ("one more byte", format!("{} ", vector.body), vec![vector.key]),
            ("one byte less", vector.body[1..].to_owned(), vec![vector.key]),
            ("no body", String::new(), vec![vector.key]),
            ("another key", vector.body.to_owned(), vec!["another key"]),
            ("an empty key", vector.body.to_owned(), vec![""]),
            ("no key", vector.body.to_owned(), vec![]),
        ] {
            assert_eq!(vector.verify(&sent, &body, &keys, now), Err(Refusal::Signature), "{sender:?}: {what}");
        }
        // Each byte of the signature counts, and its length.
        let name = vector.signature_header();
        let length = vector.headers.last().expect("a header").1.len();
        for position in length - 64..length {
            let changed = vector.headers(name, |value| {
                let other = if &value[position..=position] == "0" { "1" } else { "0" };
                format!("{}{other}{}", &value[..position], &value[position + 1..])
            });
            let found = vector.verify(&changed, vector.body, &[vector.key], now);
            assert_eq!(found, Err(Refusal::Signature), "{sender:?}: digit {position}");
        }
        for digits in ["", "00", "zz", &"0".repeat(62), &"0".repeat(66), "é"] {
            let changed = vector.headers(name, |value| format!("{}{digits}", &value[..length - 64]));
            let found = vector.verify(&changed, vector.body, &[vector.key], now);
            assert_eq!(found, Err(Refusal::Signature), "{sender:?}: {digits:?}");
        }
    }
}

#[test]
fn a_missing_or_malformed_header_is_named() {
    let slack_time = "x-slack-request-timestamp";
    for (sender, changed, value, refusal) in [
        (Sender::Stripe, "stripe-signature", "", Refusal::Header("stripe-signature")),
        (Sender::Stripe, "stripe-signature", "t", Refusal::Header("stripe-signature")),
        (Sender::Stripe, "stripe-signature", "v1=00", Refusal::Header("stripe-signature")),
        (Sender::Stripe, "stripe-signature", "t=1492774577", Refusal::Signature),
        // An older scheme, which must be rejected.
        (
            Sender::Stripe,
            "stripe-signature",
            "t=1492774577,v0=6a5114927fdc8227d5197eacbbafe76fe8944817ba6e1c1f168a406fe6a73b28",
            Refusal::Signature,
        ),
        (
            Sender::Stripe,
            "stripe-signature",
            "t=,v1=6a5114927fdc8227d5197eacbbafe76fe8944817ba6e1c1f168a406fe6a73b28",
            Refusal::Time,
        ),
        (
            Sender::Stripe,
            "stripe-signature",
            "t=+1492774577,v1=6a5114927fdc8227d5197eacbbafe76fe8944817ba6e1c1f168a406fe6a73b28",
            Refusal::Time,
        ),
        (
            Sender::Stripe,
            "stripe-signature",
            "t=now,v1=6a5114927fdc8227d5197eacbbafe76fe8944817ba6e1c1f168a406fe6a73b28",
            Refusal::Time,
        ),
        (
            Sender::Stripe,
            "stripe-signature",
            "t=99999999999999999999,v1=6a5114927fdc8227d5197eacbbafe76fe8944817ba6e1c1f168a406fe6a73b28",
            Refusal::Time,
        ),
        // Two times: the first one counts, for the tolerance and for the signature.
        (
            Sender::Stripe,
            "stripe-signature",
            "t=1492774578,t=1492774577,v1=6a5114927fdc8227d5197eacbbafe76fe8944817ba6e1c1f168a406fe6a73b28",
            Refusal::Signature,
        ),
        (Sender::Slack, "x-slack-signature", "v1=00", Refusal::Header("x-slack-signature")),
        (Sender::Slack, slack_time, "1531420619", Refusal::Signature),
        (Sender::Slack, slack_time, "", Refusal::Time),
        (Sender::Slack, slack_time, "-1", Refusal::Time),
        (Sender::GitHub, "x-hub-signature-256", "sha1=00", Refusal::Header("x-hub-signature-256")),
        (Sender::GitHub, "x-hub-signature-256", "00", Refusal::Header("x-hub-signature-256")),
    ] {
        let vector = VECTORS.iter().find(|vector| vector.sender == sender).expect("its vector");
        let changed = vector.headers(changed, |_| value.to_owned());
        let found = vector.verify(&changed, vector.body, &[vector.key], vector.signed_at);
        assert_eq!(found, Err(refusal), "{sender:?}: {value}");
    }
    for vector in &VECTORS {
        for (missing, _) in vector.headers {
            let left: Vec<_> = vector.as_sent().into_iter().filter(|(name, _)| name != missing).collect();
            let found = vector.verify(&left, vector.body, &[vector.key], vector.signed_at);
            assert_eq!(found, Err(Refusal::Header(missing)), "{:?}", vector.sender);
        }
    }
}

#[test]
fn the_old_and_the_new_key_are_accepted_during_a_key_replacement() {
    for vector in &VECTORS {
        for keys in [[vector.key, "the next"], ["the one before", vector.key]] {
            let found = vector.verify(&vector.as_sent(), vector.body, &keys, vector.signed_at);
            assert_eq!(found, Ok(()), "{:?}", vector.sender);
        }
    }
    // During that time Stripe signs with both of its keys.
    let stripe = &VECTORS[0];
    for extra in [",v1=00", ", v1=zz,v0=1,unknown"] {
        let changed = stripe.headers("stripe-signature", |value| format!("{value}{extra}"));
        assert_eq!(stripe.verify(&changed, stripe.body, &[stripe.key], stripe.signed_at), Ok(()), "{extra}");
    }
    let changed =
        stripe.headers("stripe-signature", |value| value.replace(",v1=", &format!(",v1={},v1=", "0".repeat(64))));
    assert_eq!(stripe.verify(&changed, stripe.body, &[stripe.key], stripe.signed_at), Ok(()));
}

#[test]
fn the_path_determines_the_sender() {
    for (path, sender) in [
        ("/stripe", Some(Sender::Stripe)),
        ("/prod/slack", Some(Sender::Slack)),
        ("/hooks/v2/github", Some(Sender::GitHub)),
        ("/", None),
        ("", None),
        ("/stripe/", None),
        ("/Stripe", None),
        ("/stripes", None),
    ] {
        assert_eq!(Sender::at(path), sender, "{path}");
    }
}
