//! Whether a webhook was signed by its sender: Stripe, Slack and GitHub. Knows headers, bodies and keys; reads
//! neither secrets nor the clock.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// How far a signature's time may be from ours, in seconds: what Stripe and Slack recommend against replays.
pub const TOLERANCE_SECONDS: u64 = 300;

/// Who sends webhooks, each with its own way to sign them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// `Stripe-Signature: t=…,v1=…,v1=…`, over `t.body`: <https://docs.stripe.com/webhooks#verify-manually>.
    Stripe,
    /// `X-Slack-Signature: v0=…` and `X-Slack-Request-Timestamp`, over `v0:timestamp:body`:
    /// <https://docs.slack.dev/authentication/verifying-requests-from-slack>.
    Slack,
    /// `X-Hub-Signature-256: sha256=…`, over the body. Without a time: whoever must not do a thing twice keeps the
    /// ids of `X-GitHub-Delivery`. <https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries>.
    GitHub,
}

/// Why a webhook is not taken. For the log: the sender is told nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This header is missing or not as the sender writes it.
    Header(&'static str),
    /// Signed too long ago, or in the future.
    Time,
    /// Signed by someone else, or changed on the way.
    Signature,
}

/// What a sender claims.
struct Claim<'a> {
    /// Seconds since the epoch, as written; it is part of what is signed.
    timestamp: Option<&'a str>,
    /// What is signed before the body.
    prefix: String,
    /// In hexadecimal. Stripe sends two while a key is replaced.
    signatures: Vec<&'a str>,
}

impl Sender {
    /// The sender whose webhooks come to this path: by its last segment, as a stage's name may stand before it.
    pub fn at(path: &str) -> Option<Self> {
        match path.rsplit('/').next()? {
            "stripe" => Some(Self::Stripe),
            "slack" => Some(Self::Slack),
            "github" => Some(Self::GitHub),
            _ => None,
        }
    }

    /// Whether one of the keys has signed this body, at a time near `now` (seconds since the epoch) where the sender
    /// tells it.
    ///
    /// `header` gets names in lower case.
    pub fn verify<'a>(
        self,
        header: impl Fn(&str) -> Option<&'a str>,
        body: &[u8],
        keys: &[&[u8]],
        now: u64,
    ) -> Result<(), Refusal> {
        let Claim { timestamp, prefix, signatures } = self.claim(header)?;
        if let Some(timestamp) = timestamp {
            let is_number = timestamp.bytes().all(|byte| byte.is_ascii_digit());
            let signed_at: u64 = timestamp.parse().ok().filter(|_| is_number).ok_or(Refusal::Time)?;
            if signed_at.abs_diff(now) > TOLERANCE_SECONDS {
                return Err(Refusal::Time);
            }
        }
        let signatures: Vec<_> = signatures.iter().filter_map(|signature| hex::decode(signature).ok()).collect();
        // With an empty key anyone could sign.
        for key in keys.iter().filter(|key| !key.is_empty()) {
            let mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| Refusal::Signature)?;
            let mac = mac.chain_update(prefix.as_bytes()).chain_update(body);
            // In constant time: how long it takes must not tell how many bytes were right.
            if signatures.iter().any(|signature| mac.clone().verify_slice(signature).is_ok()) {
                return Ok(());
            }
        }
        Err(Refusal::Signature)
    }

    fn claim<'a>(self, header: impl Fn(&str) -> Option<&'a str>) -> Result<Claim<'a>, Refusal> {
        let required = |name| header(name).ok_or(Refusal::Header(name));
        match self {
            Self::Stripe => {
                let name = "stripe-signature";
                let members = required(name)?.split(',').filter_map(|member| member.trim().split_once('='));
                let all = |wanted| members.clone().filter(move |(name, _)| *name == wanted).map(|(_, value)| value);
                let timestamp = all("t").next().ok_or(Refusal::Header(name))?;
                let prefix = format!("{timestamp}.");
                Ok(Claim { timestamp: Some(timestamp), prefix, signatures: all("v1").collect() })
            }
            Self::Slack => {
                let (timestamp, name) = (required("x-slack-request-timestamp")?, "x-slack-signature");
                let signature = required(name)?.strip_prefix("v0=").ok_or(Refusal::Header(name))?;
                let prefix = format!("v0:{timestamp}:");
                Ok(Claim { timestamp: Some(timestamp), prefix, signatures: vec![signature] })
            }
            Self::GitHub => {
                let name = "x-hub-signature-256";
                let signature = required(name)?.strip_prefix("sha256=").ok_or(Refusal::Header(name))?;
                Ok(Claim { timestamp: None, prefix: String::new(), signatures: vec![signature] })
            }
        }
    }
}
