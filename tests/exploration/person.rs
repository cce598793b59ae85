//! What a person does to a secret while runs work on it. An edit is two steps, so that a run can act in between: read, then save.

use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UserAction {
    /// Reads the secret, and saves it with another member changed: two steps.
    Edit,
    /// Reads the secret, consents again, and saves it with the new tokens: two steps.
    Consent,
    /// Saves a copy of the first document.
    SaveOldCopy,
    /// Moves AWSCURRENT back to AWSPREVIOUS.
    RollBack,
}

impl UserAction {
    pub const ALL: [Self; 4] = [Self::Edit, Self::Consent, Self::SaveOldCopy, Self::RollBack];

    /// Those that make sense without a refresh token.
    pub const WITHOUT_CONSENT: [Self; 3] = [Self::Edit, Self::SaveOldCopy, Self::RollBack];
}

/// A person with a list of actions.
#[derive(Clone, Debug, Hash)]
pub struct Person {
    user_actions: Vec<UserAction>,
    done: usize,
    /// The text that the person has read and not saved yet.
    screen: Option<String>,
}

/// The effect of a person's next step on the store.
pub enum PersonStep {
    /// None: the person reads.
    Read,
    /// This text becomes current. With `consents`, new tokens are added to it first.
    Save {
        text: String,
        consents: bool,
    },
    RollBack,
}

impl Person {
    pub fn new(user_actions: &[UserAction]) -> Self {
        Self { user_actions: user_actions.to_vec(), done: 0, screen: None }
    }

    pub fn next(&self) -> Option<UserAction> {
        self.user_actions.get(self.done).copied()
    }

    /// Does the next step. `current` is the current text of the secret, and `first` the first one.
    pub fn act(&mut self, current: &str, first: &str) -> PersonStep {
        let action = self.next().expect("an action");
        let step = match (action, self.screen.take()) {
            (UserAction::Edit | UserAction::Consent, None) => {
                self.screen = Some(current.to_owned());
                return PersonStep::Read;
            }
            (UserAction::Edit, Some(seen)) => PersonStep::Save { text: with_note(&seen, self.done), consents: false },
            (UserAction::Consent, Some(seen)) => PersonStep::Save { text: with_note(&seen, self.done), consents: true },
            (UserAction::SaveOldCopy, _) => PersonStep::Save { text: with_note(first, self.done), consents: false },
            (UserAction::RollBack, _) => PersonStep::RollBack,
        };
        self.done += 1;
        step
    }
}

fn with_note(text: &str, action: usize) -> String {
    let mut document: Value = serde_json::from_str(text).expect("a document");
    document["note"] = json!(format!("action {action}"));
    document.to_string()
}
