//! What people do to a secret while runs are at it, in the steps in which they do it: look, then save what they saw.

use serde_json::{Value, json};

/// One thing that a person does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deed {
    /// Looks at the secret, and saves it with another member changed: two steps.
    Edit,
    /// Looks at the secret, consents again, and saves it with the new tokens: two steps.
    Consent,
    /// Saves a copy of the document as it was at first.
    SaveOldCopy,
    /// Goes back to AWSPREVIOUS.
    RollBack,
}

impl Deed {
    pub const ALL: [Self; 4] = [Self::Edit, Self::Consent, Self::SaveOldCopy, Self::RollBack];
}

/// A person with a list of deeds.
#[derive(Clone, Debug, Hash)]
pub struct Person {
    deeds: Vec<Deed>,
    done: usize,
    /// What they have on their screen.
    screen: Option<String>,
}

/// What a person's next step does to the store.
pub enum Act {
    /// Nothing: they look.
    Look,
    /// They save this text, the new tokens of a consent in it where there is one.
    Save {
        text: String,
        consents: bool,
    },
    RollBack,
}

impl Person {
    pub fn new(deeds: &[Deed]) -> Self {
        Self { deeds: deeds.to_vec(), done: 0, screen: None }
    }

    pub fn next(&self) -> Option<Deed> {
        self.deeds.get(self.done).copied()
    }

    /// Their next step, `current` and `first` being what the secret holds and what it held at first.
    pub fn act(&mut self, current: &str, first: &str) -> Act {
        let deed = self.next().expect("a deed to do");
        let act = match (deed, self.screen.take()) {
            (Deed::Edit | Deed::Consent, None) => {
                self.screen = Some(current.to_owned());
                return Act::Look;
            }
            (Deed::Edit, Some(seen)) => Act::Save { text: with_note(&seen, self.done), consents: false },
            (Deed::Consent, Some(seen)) => Act::Save { text: with_note(&seen, self.done), consents: true },
            (Deed::SaveOldCopy, _) => Act::Save { text: with_note(first, self.done), consents: false },
            (Deed::RollBack, _) => Act::RollBack,
        };
        self.done += 1;
        act
    }
}

fn with_note(text: &str, deed: usize) -> String {
    let mut document: Value = serde_json::from_str(text).expect("a document");
    document["note"] = json!(format!("deed {deed}"));
    document.to_string()
}
