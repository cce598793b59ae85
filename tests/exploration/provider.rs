//! Simulated authorization servers: how each kind responds to a refresh token, and where the tokens of every response are. Does not
//! know the store.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use token_refresher::oauth::grant::Grant;

use crate::plan::Responses;

/// How an authorization server responds to a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Behaviour {
    /// A new refresh token each time. A second use revokes the whole grant.
    ReuseEndsGrant,
    /// A new refresh token each time. A second use returns the same pair again, until that pair is used.
    GraceRepeats,
    /// A new refresh token each time. A second use returns another new pair. Both pairs stay valid.
    GraceIssuesMore,
    /// A new refresh token each time. A second use returns another new pair, and revokes the first.
    GraceReplaces,
    /// The same refresh token, and a new access token each time.
    Echo,
    /// The same refresh token and the same access token.
    RepeatAll,
    /// The same refresh token, and a new access token that revokes the one before.
    EndsOldAccess,
    /// No refresh token: the client's own credentials are enough, as often as it asks. A new access token each time. All stay valid.
    ClientCredentials,
}

/// The `grantType` of `ClientCredentials`.
pub const GRANT_TYPE: &str = "client_credentials";

/// What the runs send in place of a refresh token.
pub fn identity_of(grant_type: &str) -> String {
    Grant::Other(grant_type.to_owned()).identity().into_owned()
}

impl Behaviour {
    /// All that issue refresh tokens.
    pub const ALL: [Self; 7] = [
        Self::ReuseEndsGrant,
        Self::GraceRepeats,
        Self::GraceIssuesMore,
        Self::GraceReplaces,
        Self::Echo,
        Self::RepeatAll,
        Self::EndsOldAccess,
    ];

    pub fn rotates(self) -> bool {
        matches!(self, Self::ReuseEndsGrant | Self::GraceRepeats | Self::GraceIssuesMore | Self::GraceReplaces)
    }

    pub fn issues_refresh_tokens(self) -> bool {
        self != Self::ClientCredentials
    }
}

/// A refresh token and an access token that were issued together.
#[derive(Clone, Debug, Hash)]
pub struct TokenPair {
    /// With `ClientCredentials`, the identity of the grant.
    pub refresh: String,
    /// With `ClientCredentials`, empty in the first pair: the client's document has no token.
    pub access: String,
    /// The consent that they come from, counted from 0.
    pub consent: usize,
    /// The index of the pair that the refresh token was exchanged for: the first, or the one that replaced it.
    exchanged_for: Option<usize>,
    /// Whether a later response replaced it.
    replaced: bool,
}

/// Where the tokens of a response are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenLocation {
    /// In the run that sent the request. It has not stored them yet.
    InRun { run: usize },
    /// In a version of the secret. The runs in this bit set had claimed the token before that version was put.
    Stored { too_late_for: u32 },
    /// In the memory of a living process.
    InMemory { process: usize },
    /// Nowhere: the response was lost, or the process that held them ended.
    Lost,
}

/// A request that was granted.
#[derive(Clone, Debug, Hash)]
pub struct GrantedRequest {
    /// The tokens of the run that sent it.
    refresh: String,
    access: Option<String>,
    pub pair: usize,
    /// When the run asked, with `ClientCredentials`: its tokens all stay valid, and the time decides which become current.
    asked_at: Option<DateTime<Utc>>,
    pub location: TokenLocation,
}

/// An authorization server, with all the tokens that it has issued.
#[derive(Clone, Debug, Hash)]
pub struct Provider {
    pub behaviour: Behaviour,
    pub responses: Responses,
    /// Whether a new consent ends the grants before it.
    consent_ends_others: bool,
    pub pairs: Vec<TokenPair>,
    revoked_consents: Vec<usize>,
    pub granted_requests: Vec<GrantedRequest>,
}

impl Provider {
    pub fn new(behaviour: Behaviour, responses: Responses, consent_ends_others: bool) -> Self {
        Self {
            behaviour,
            responses,
            consent_ends_others,
            pairs: Vec::new(),
            revoked_consents: Vec::new(),
            granted_requests: Vec::new(),
        }
    }

    /// A person consents. Returns the index of the new pair.
    ///
    /// With `ClientCredentials` nobody consents. The first pair is what the client's document has.
    pub fn consent(&mut self) -> usize {
        let consent = self.pairs.iter().map(|pair| pair.consent + 1).max().unwrap_or(0);
        if self.consent_ends_others {
            self.revoked_consents.extend(0..consent);
        }
        self.issue_pair(consent)
    }

    fn issue_pair(&mut self, consent: usize) -> usize {
        let n = self.pairs.iter().filter(|pair| pair.consent == consent).count();
        let refresh = match self.behaviour {
            Behaviour::ClientCredentials => identity_of(GRANT_TYPE),
            behaviour if behaviour.rotates() => format!("refresh-{consent}.{n}"),
            _ => format!("refresh-{consent}"),
        };
        let access = match self.behaviour {
            Behaviour::RepeatAll => format!("access-{consent}"),
            Behaviour::ClientCredentials if n == 0 => String::new(),
            _ => format!("access-{consent}.{n}"),
        };
        self.pairs.push(TokenPair { refresh, access, consent, exchanged_for: None, replaced: false });
        self.pairs.len() - 1
    }

    /// The response with a pair: status and body.
    fn response(&self, pair: usize) -> (u16, String) {
        let TokenPair { refresh, access, .. } = &self.pairs[pair];
        let mut tokens = json!({"access_token": access, "expires_in": 3600});
        if self.behaviour.issues_refresh_tokens() {
            tokens["refresh_token"] = json!(refresh);
        }
        let body = match self.responses {
            Responses::Understood => tokens,
            Responses::Kept => json!({"issued": [tokens]}),
        };
        (200, body.to_string())
    }

    /// The refresh token and the access token of a response that is not understood.
    pub fn tokens_of(body: &str) -> Option<(String, String)> {
        let body: Value = serde_json::from_str(body).ok()?;
        let tokens = body.get("issued")?.get(0)?;
        let text = |name: &str| tokens.get(name)?.as_str().map(str::to_owned);
        Some((text("refresh_token")?, text("access_token")?))
    }

    /// Responds to a refresh request: status, body, and the index of the pair if it was granted.
    pub fn exchange(&mut self, refresh: &str) -> (u16, String, Option<usize>) {
        let pair = self.accept(refresh);
        let (status, body) = match pair {
            Some(pair) => self.response(pair),
            None => (400, json!({"error": "invalid_grant"}).to_string()),
        };
        (status, body, pair)
    }

    fn accept(&mut self, refresh: &str) -> Option<usize> {
        let used = self.pairs.iter().rposition(|pair| pair.refresh == refresh)?;
        let consent = self.pairs[used].consent;
        if self.revoked_consents.contains(&consent) || self.pairs[used].replaced {
            return None;
        }
        let earlier = self.pairs[used].exchanged_for;
        let pair = match (self.behaviour, earlier) {
            (Behaviour::ReuseEndsGrant, Some(_)) => {
                self.revoked_consents.push(consent);
                return None;
            }
            (Behaviour::GraceRepeats, Some(next)) => {
                return self.pairs[next].exchanged_for.is_none().then_some(next);
            }
            (Behaviour::GraceReplaces, Some(next)) => {
                if self.pairs[next].exchanged_for.is_some() {
                    return None;
                }
                self.pairs[next].replaced = true;
                let pair = self.issue_pair(consent);
                self.pairs[used].exchanged_for = Some(pair);
                pair
            }
            (Behaviour::RepeatAll, _) => used,
            _ => self.issue_pair(consent),
        };
        self.pairs[used].exchanged_for.get_or_insert(pair);
        Some(pair)
    }

    /// The index of the newest pair with these tokens.
    pub fn find(&self, refresh: &str, access: &str) -> Option<usize> {
        self.pairs.iter().rposition(|pair| pair.refresh == refresh && pair.access == access)
    }

    /// When the tokens of a pair were asked for, with `ClientCredentials`.
    pub fn asked_at(&self, pair: usize) -> Option<DateTime<Utc>> {
        self.granted_requests.iter().find(|request| request.pair == pair)?.asked_at
    }

    /// Whether the refresh token is still accepted, and, with `EndsOldAccess`, the access token too. With `ClientCredentials`, whether
    /// it is a token.
    pub fn is_alive(&self, pair: usize) -> bool {
        let TokenPair { access, consent, exchanged_for, replaced, .. } = &self.pairs[pair];
        let newest = || self.pairs.iter().rposition(|other| other.consent == *consent) == Some(pair);
        !self.revoked_consents.contains(consent)
            && match self.behaviour {
                Behaviour::ReuseEndsGrant
                | Behaviour::GraceRepeats
                | Behaviour::GraceIssuesMore
                | Behaviour::GraceReplaces => exchanged_for.is_none() && !replaced,
                Behaviour::Echo | Behaviour::RepeatAll => true,
                Behaviour::EndsOldAccess => newest(),
                Behaviour::ClientCredentials => !access.is_empty(),
            }
    }

    /// Where the tokens of earlier responses to the same tokens are.
    pub fn locations_of(&self, refresh: &str, access: Option<&str>) -> Vec<TokenLocation> {
        let same = |sent: &&GrantedRequest| {
            sent.refresh == refresh && (self.behaviour.rotates() || sent.access.as_deref() == access)
        };
        match self.behaviour {
            // The responses of the one cannot be distinguished. The other may be asked again, whatever happened before.
            Behaviour::RepeatAll | Behaviour::ClientCredentials => Vec::new(),
            _ => self.granted_requests.iter().filter(same).map(|sent| sent.location).collect(),
        }
    }

    /// Records a request of a run that was granted.
    pub fn record(&mut self, refresh: &str, access: Option<&str>, pair: usize, run: usize, asked_at: DateTime<Utc>) {
        let (refresh, access, location) = (refresh.to_owned(), access.map(str::to_owned), TokenLocation::InRun { run });
        let asked_at = (self.behaviour == Behaviour::ClientCredentials).then_some(asked_at);
        self.granted_requests.push(GrantedRequest { refresh, access, pair, asked_at, location });
    }

    /// Records that the tokens are in the store.
    ///
    /// `in_time`: the run that put them, if it did so before its deadline. `claimed`: a bit set of the runs that have a claim by
    /// now.
    pub fn stored(&mut self, refresh: &str, access: &str, in_time: Option<usize>, claimed: u32) {
        let Self { pairs, granted_requests, .. } = self;
        for request in granted_requests {
            let pair = &pairs[request.pair];
            if pair.refresh == refresh
                && pair.access == access
                && !matches!(request.location, TokenLocation::Stored { .. })
            {
                let in_time = in_time.is_some_and(|run| request.location == TokenLocation::InRun { run });
                request.location = TokenLocation::Stored { too_late_for: if in_time { 0 } else { claimed } };
            }
        }
    }

    /// Moves the tokens of all requests at one location to another.
    pub fn move_tokens(&mut self, from: TokenLocation, to: TokenLocation) {
        self.granted_requests
            .iter_mut()
            .filter(|request| request.location == from)
            .for_each(|request| request.location = to);
    }
}
