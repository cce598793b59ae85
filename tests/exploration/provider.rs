//! Authorization servers as values: what each kind makes of a refresh token, and what became of every answer. Knows
//! nothing of the store.

use serde_json::json;

/// What an authorization server does at a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Manners {
    /// A new refresh token each time. One that is used again ends the whole grant.
    ReuseEndsGrant,
    /// A new refresh token each time. The one before is answered with the same pair, until that is used.
    GraceRepeats,
    /// A new refresh token each time. The one before is answered with another new pair; both live on.
    GraceIssuesMore,
    /// A new refresh token each time. The one before is answered with another new pair, which ends the first.
    GraceReplaces,
    /// The same refresh token, and a new access token each time.
    Echo,
    /// The same refresh token and the same access token.
    RepeatAll,
    /// The same refresh token, and a new access token that ends the one before.
    EndsOldAccess,
}

impl Manners {
    pub const ALL: [Self; 7] = [
        Self::ReuseEndsGrant,
        Self::GraceRepeats,
        Self::GraceIssuesMore,
        Self::GraceReplaces,
        Self::Echo,
        Self::RepeatAll,
        Self::EndsOldAccess,
    ];

    fn rotates(self) -> bool {
        matches!(self, Self::ReuseEndsGrant | Self::GraceRepeats | Self::GraceIssuesMore | Self::GraceReplaces)
    }
}

/// Tokens that were issued together.
#[derive(Clone, Debug, Hash)]
pub struct Issue {
    pub refresh: String,
    pub access: String,
    /// The consent they come of, counted from 0.
    pub consent: usize,
    /// The issue that the refresh token was exchanged for: the first, or the one that took its place.
    led_to: Option<usize>,
    /// Whether a later answer took its place.
    replaced: bool,
}

/// Who has the answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// The run that asked, which has not stored it yet.
    Held { run: usize },
    /// A version of the secret. It came too late for these runs (bits), which had claimed the token by then.
    Stored { too_late_for: u32 },
    /// The memory of a living process.
    InMemory { process: usize },
    /// No one: it was lost on the way, or with the process that held it.
    Lost,
}

/// One request that was granted.
#[derive(Clone, Debug, Hash)]
pub struct Sending {
    /// The tokens that the run held.
    refresh: String,
    access: Option<String>,
    pub issue: usize,
    pub fate: Fate,
}

/// An authorization server with all it has issued.
#[derive(Clone, Debug, Hash)]
pub struct Provider {
    pub manners: Manners,
    /// Whether a new consent ends the grants before it.
    consent_ends_others: bool,
    pub issues: Vec<Issue>,
    ended: Vec<usize>,
    pub sendings: Vec<Sending>,
}

impl Provider {
    pub fn new(manners: Manners, consent_ends_others: bool) -> Self {
        Self { manners, consent_ends_others, issues: Vec::new(), ended: Vec::new(), sendings: Vec::new() }
    }

    /// A person consents: the issue that comes of it.
    pub fn consent(&mut self) -> usize {
        let consent = self.issues.iter().map(|issue| issue.consent + 1).max().unwrap_or(0);
        if self.consent_ends_others {
            self.ended.extend(0..consent);
        }
        self.issue(consent)
    }

    fn issue(&mut self, consent: usize) -> usize {
        let n = self.issues.iter().filter(|issue| issue.consent == consent).count();
        let refresh =
            if self.manners.rotates() { format!("refresh-{consent}.{n}") } else { format!("refresh-{consent}") };
        let access = if self.manners == Manners::RepeatAll {
            format!("access-{consent}")
        } else {
            format!("access-{consent}.{n}")
        };
        self.issues.push(Issue { refresh, access, consent, led_to: None, replaced: false });
        self.issues.len() - 1
    }

    /// The tokens of an issue, in the form of an answer: status and body.
    fn answer(&self, issue: usize) -> (u16, String) {
        let Issue { refresh, access, .. } = &self.issues[issue];
        (200, json!({"access_token": access, "refresh_token": refresh, "expires_in": 3600}).to_string())
    }

    /// Answers a refresh request: status and body, and the issue where it was granted.
    pub fn exchange(&mut self, refresh: &str) -> (u16, String, Option<usize>) {
        let issue = self.accept(refresh);
        let (status, body) = match issue {
            Some(issue) => self.answer(issue),
            None => (400, json!({"error": "invalid_grant"}).to_string()),
        };
        (status, body, issue)
    }

    fn accept(&mut self, refresh: &str) -> Option<usize> {
        let used = self.issues.iter().rposition(|issue| issue.refresh == refresh)?;
        let consent = self.issues[used].consent;
        if self.ended.contains(&consent) || self.issues[used].replaced {
            return None;
        }
        let again = self.issues[used].led_to;
        let issue = match (self.manners, again) {
            (Manners::ReuseEndsGrant, Some(_)) => {
                self.ended.push(consent);
                return None;
            }
            (Manners::GraceRepeats, Some(next)) => {
                return self.issues[next].led_to.is_none().then_some(next);
            }
            (Manners::GraceReplaces, Some(next)) => {
                if self.issues[next].led_to.is_some() {
                    return None;
                }
                self.issues[next].replaced = true;
                let issue = self.issue(consent);
                self.issues[used].led_to = Some(issue);
                issue
            }
            (Manners::RepeatAll, _) => used,
            _ => self.issue(consent),
        };
        self.issues[used].led_to.get_or_insert(issue);
        Some(issue)
    }

    /// The newest issue with these tokens.
    pub fn find(&self, refresh: &str, access: &str) -> Option<usize> {
        self.issues.iter().rposition(|issue| issue.refresh == refresh && issue.access == access)
    }

    /// Whether the provider would accept the refresh token, and (where they end each other) the access token.
    pub fn is_alive(&self, issue: usize) -> bool {
        let Issue { consent, led_to, replaced, .. } = &self.issues[issue];
        let newest = || self.issues.iter().rposition(|other| other.consent == *consent) == Some(issue);
        !self.ended.contains(consent)
            && match self.manners {
                Manners::ReuseEndsGrant | Manners::GraceRepeats | Manners::GraceIssuesMore | Manners::GraceReplaces => {
                    led_to.is_none() && !replaced
                }
                Manners::Echo | Manners::RepeatAll => true,
                Manners::EndsOldAccess => newest(),
            }
    }

    /// What became of the answers to the requests before with the same tokens.
    pub fn fates_of(&self, refresh: &str, access: Option<&str>) -> Vec<Fate> {
        let same =
            |sent: &&Sending| sent.refresh == refresh && (self.manners.rotates() || sent.access.as_deref() == access);
        match self.manners {
            // What repeats itself altogether cannot be told apart here.
            Manners::RepeatAll => Vec::new(),
            _ => self.sendings.iter().filter(same).map(|sent| sent.fate).collect(),
        }
    }

    /// Keeps a granted request in mind.
    pub fn record(&mut self, refresh: &str, access: Option<&str>, issue: usize, fate: Fate) {
        let (refresh, access) = (refresh.to_owned(), access.map(str::to_owned));
        self.sendings.push(Sending { refresh, access, issue, fate });
    }

    /// The tokens are in the store, put there by this run; `claimed`: the runs (bits) that have a claim by now.
    pub fn stored(&mut self, refresh: &str, access: &str, in_time: Option<usize>, claimed: u32) {
        let Self { issues, sendings, .. } = self;
        for sending in sendings {
            let issue = &issues[sending.issue];
            if issue.refresh == refresh && issue.access == access && !matches!(sending.fate, Fate::Stored { .. }) {
                let in_time = in_time.is_some_and(|run| sending.fate == Fate::Held { run });
                sending.fate = Fate::Stored { too_late_for: if in_time { 0 } else { claimed } };
            }
        }
    }

    /// What a run or a process held goes elsewhere.
    pub fn hand_over(&mut self, from: Fate, to: Fate) {
        self.sendings.iter_mut().filter(|sending| sending.fate == from).for_each(|sending| sending.fate = to);
    }
}
