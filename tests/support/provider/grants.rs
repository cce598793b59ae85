//! The refresh tokens that the authorization server accepts, and its reaction to a second use. Opens no socket and knows no client.

use std::hash::{BuildHasher, Hasher, RandomState};

/// What a provider does with a refresh token that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// Rotates. A spent refresh token revokes all tokens of the grant, the newest ones too (oidc-provider, Okta).
    ReuseKillsFamily,
    /// Rotates. For the refresh token before the current one it returns the current pair again (Xero, Atlassian).
    Grace,
    /// Rotates. A spent refresh token returns `invalid_grant` and revokes nothing (Django OAuth Toolkit's default).
    NoReuseDetection,
    /// Returns the same refresh token each time, with a new access token.
    Echo,
    /// Returns the same refresh token and the same access token each time.
    RepeatAll,
}

/// An access token and the refresh token that came with it.
#[derive(Clone)]
pub struct Pair {
    pub access: String,
    pub refresh: String,
}

/// All tokens of one consent.
struct Family {
    alive: bool,
    current: Pair,
    /// Refresh tokens that were rotated away, oldest first.
    spent: Vec<String>,
}

pub struct Grants {
    pub world: World,
    families: Vec<Family>,
    /// Every token that was issued.
    pub issued: Vec<String>,
    /// How many exchanges issued tokens.
    pub granted: usize,
    /// How many times a spent refresh token was used again.
    pub reuses: usize,
}

impl Grants {
    pub fn new(world: World) -> Self {
        Self { world, families: Vec::new(), issued: Vec::new(), granted: 0, reuses: 0 }
    }

    /// A person consents: starts a new family.
    pub fn issue(&mut self) -> Pair {
        let current = Pair { access: self.new_token("access"), refresh: self.new_token("refresh") };
        self.families.push(Family { alive: true, current: current.clone(), spent: Vec::new() });
        current
    }

    /// A new access token for the client itself.
    pub fn issue_to_client(&mut self) -> String {
        self.granted += 1;
        self.new_token("access")
    }

    /// Exchanges a refresh token. `None` is `invalid_grant`.
    pub fn refresh(&mut self, token: &str) -> Option<Pair> {
        let index = self.families.iter().position(|family| family.knows(token))?;
        if self.families[index].current.refresh == token {
            return self.families[index].alive.then(|| self.rotate(index));
        }
        self.reuses += 1;
        let family = &mut self.families[index];
        match self.world {
            World::Grace if family.alive && family.spent.last().is_some_and(|last| last == token) => {
                self.granted += 1;
                Some(family.current.clone())
            }
            World::ReuseKillsFamily => {
                family.alive = false;
                None
            }
            _ => None,
        }
    }

    fn rotate(&mut self, index: usize) -> Pair {
        let (rotates, renews) = match self.world {
            World::Echo => (false, true),
            World::RepeatAll => (false, false),
            World::ReuseKillsFamily | World::Grace | World::NoReuseDetection => (true, true),
        };
        if renews {
            self.families[index].current.access = self.new_token("access");
        }
        if rotates {
            let next = self.new_token("refresh");
            let family = &mut self.families[index];
            family.spent.push(std::mem::replace(&mut family.current.refresh, next));
        }
        self.granted += 1;
        self.families[index].current.clone()
    }

    /// Revokes every family, as when a person removes the application from their account.
    pub fn withdraw_consent(&mut self) {
        self.families.iter_mut().for_each(|family| family.alive = false);
    }

    /// Whether this refresh token is the current one of a family that is not revoked.
    pub fn is_alive(&self, token: &str) -> bool {
        self.families.iter().any(|family| family.alive && family.current.refresh == token)
    }

    /// A new token. Its end must be form-encoded to arrive unchanged. `tests/check-no-secrets` searches all output for its start.
    fn new_token(&mut self, kind: &str) -> String {
        let random = || {
            let mut hasher = RandomState::new().build_hasher();
            hasher.write_usize(self.issued.len());
            hasher.finish()
        };
        let token = format!("unseen-{kind}.{:016x}{:016x}+/=", random(), random());
        self.issued.push(token.clone());
        token
    }
}

impl Family {
    fn knows(&self, token: &str) -> bool {
        self.current.refresh == token || self.spent.iter().any(|spent| spent == token)
    }
}
