//! Verifies the signatures of webhooks of Stripe, Slack and GitHub. Reads neither secrets nor the clock.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The allowed difference between a signature's time and now, in seconds. Stripe and Slack recommend it against replays.
pub const TOLERANCE_SECONDS: u64 = 300;

/// The senders of webhooks. Each signs them in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// `Stripe-Signature: t=…,v1=…,v1=…`, over `t.body`: <https://docs.stripe.com/webhooks#verify-manually>.
    Stripe,
    /// `X-Slack-Signature: v0=…` and `X-Slack-Request-Timestamp`, over `v0:timestamp:body`:
    /// <https://docs.slack.dev/authentication/verifying-requests-from-slack>.
    Slack,
    /// `X-Hub-Signature-256: sha256=…`, over the body, without a time. To detect replays, store the ids in
    /// `X-GitHub-Delivery`. <https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries>.
    GitHub,
}

/// Why a webhook is rejected. For the log only: the response does not contain it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This header is missing or malformed.
    Header(&'static str),
    /// It was signed too long ago, or in the future.
    Time,
    /// It was signed with another key, or changed after it was signed.
    Signature,
}

/// The signatures in the headers, and the signed text except the body.
struct Signed<'a> {
    /// Seconds since the epoch, as in the header: it is part of the signed text.
    timestamp: Option<&'a str>,
    /// The signed text before the body.
    prefix: String,
    /// In hexadecimal. Stripe sends two while a key is replaced.
    signatures: Vec<&'a str>,
}

impl Sender {
    /// The sender by the last segment of the path. API Gateway can put the name of a stage before it.
    pub fn at(path: &str) -> Option<Self> {
        match path.rsplit('/').next()? {
            "stripe" => Some(Self::Stripe),
            "slack" => Some(Self::Slack),
            "github" => Some(Self::GitHub),
            _ => None,
        }
    }

    /// Verifies that one of the keys signed this body. If the sender signs a time, it must be near `now` (seconds since the
    /// epoch).
    ///
    /// `header` gets names in lower case.
    pub fn verify<'a>(
        self,
        header: impl Fn(&str) -> Option<&'a str>,
        body: &[u8],
        keys: &[&[u8]],
        now: u64,
    ) -> Result<(), Refusal> {
        let Signed { timestamp, prefix, signatures } = self.signed(header)?;
        if let Some(timestamp) = timestamp {
            let is_number = timestamp.bytes().all(|byte| byte.is_ascii_digit());
            let signed_at: u64 = timestamp.parse().ok().filter(|_| is_number).ok_or(Refusal::Time)?;
            if signed_at.abs_diff(now) > TOLERANCE_SECONDS {
                return Err(Refusal::Time);
            }
        }
        let signatures: Vec<_> = signatures.iter().filter_map(|signature| hex::decode(signature).ok()).collect();
        // Anyone can sign with an empty key.
        for key in keys.iter().filter(|key| !key.is_empty()) {
            let mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| Refusal::Signature)?;
            let mac = mac.chain_update(prefix.as_bytes()).chain_update(body);
            // In constant time: the duration must not depend on the number of correct bytes.
            if signatures.iter().any(|signature| mac.clone().verify_slice(signature).is_ok()) {
                return Ok(());
            }
        }
        Err(Refusal::Signature)
    }

    fn signed<'a>(self, header: impl Fn(&str) -> Option<&'a str>) -> Result<Signed<'a>, Refusal> {
        let required = |name| header(name).ok_or(Refusal::Header(name));
        match self {
            Self::Stripe => {
                let name = "stripe-signature";
                let members = required(name)?.split(',').filter_map(|member| member.trim().split_once('='));
                let all = |wanted| members.clone().filter(move |(name, _)| *name == wanted).map(|(_, value)| value);
                let timestamp = all("t").next().ok_or(Refusal::Header(name))?;
                let prefix = format!("{timestamp}.");
                Ok(Signed { timestamp: Some(timestamp), prefix, signatures: all("v1").collect() })
            }
            Self::Slack => {
                let (timestamp, name) = (required("x-slack-request-timestamp")?, "x-slack-signature");
                let signature = required(name)?.strip_prefix("v0=").ok_or(Refusal::Header(name))?;
                let prefix = format!("v0:{timestamp}:");
                Ok(Signed { timestamp: Some(timestamp), prefix, signatures: vec![signature] })
            }
            Self::GitHub => {
                let name = "x-hub-signature-256";
                let signature = required(name)?.strip_prefix("sha256=").ok_or(Refusal::Header(name))?;
                Ok(Signed { timestamp: None, prefix: String::new(), signatures: vec![signature] })
            }
        }
    }
}
