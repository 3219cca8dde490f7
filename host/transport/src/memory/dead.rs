//! Dead letters in memory, oldest first, within their budget.

use std::collections::{HashMap, VecDeque};

use crate::backlog::Load;
use crate::{DeadContent, DeadLetter, DeadLetterBudget};
use plugnode_message::{EventId, Namespace, SessionId};

pub(super) struct DeadLetters {
    budget: DeadLetterBudget,
    letters: VecDeque<DeadLetter>,
    /// Letters of each app, and of each of its clients.
    kept: HashMap<Owner, Load>,
}

/// The owner of a budget: an app, or one client of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Owner {
    app: Option<Namespace>,
    client: Option<(Namespace, SessionId)>,
}

impl DeadLetters {
    pub(super) fn new(budget: DeadLetterBudget) -> Self {
        Self {
            budget,
            letters: VecDeque::new(),
            kept: HashMap::new(),
        }
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &DeadLetter> {
        self.letters.iter()
    }

    pub(super) fn find(&self, id: EventId) -> Option<&DeadLetter> {
        self.letters.iter().find(|letter| letter.id == id)
    }

    /// Adds a letter. Over a budget, the oldest letters of its client or its app are dropped.
    pub(super) fn add(&mut self, letter: DeadLetter) {
        let owners = owners(&letter);
        let bytes = size(&letter);
        owners
            .iter()
            .for_each(|owner| self.kept.entry(owner.clone()).or_default().add(bytes));
        self.letters.push_back(letter);
        for owner in owners {
            let budget = match owner.client {
                Some(_) => self.budget.of_client(),
                None => self.budget,
            };
            while self.kept.get(&owner).is_some_and(|kept| budget.is_exceeded(*kept)) {
                let oldest = self.letters.iter().position(|letter| owner.has(letter));
                self.remove_at(oldest.expect("what is counted is there"));
            }
        }
    }

    /// Removes a letter. False if there was none.
    pub(super) fn remove(&mut self, id: EventId) -> bool {
        let place = self.letters.iter().position(|letter| letter.id == id);
        place.map(|place| self.remove_at(place)).is_some()
    }

    fn remove_at(&mut self, place: usize) {
        let Some(letter) = self.letters.remove(place) else {
            return;
        };
        for owner in owners(&letter) {
            if let Some(kept) = self.kept.get_mut(&owner) {
                kept.take_off(1, size(&letter));
                if kept.events == 0 {
                    self.kept.remove(&owner);
                }
            }
        }
    }
}

impl Owner {
    fn has(&self, letter: &DeadLetter) -> bool {
        letter.cause.app == self.app && (self.client.is_none() || self.client == client(letter))
    }
}

/// The budgets that a letter counts towards: that of its client or caller, and that of its app.
fn owners(letter: &DeadLetter) -> Vec<Owner> {
    let owner = |client| Owner {
        app: letter.cause.app.clone(),
        client,
    };
    let of_client = client(letter).map(|client| owner(Some(client)));
    of_client.into_iter().chain([owner(None)]).collect()
}

fn client(letter: &DeadLetter) -> Option<(Namespace, SessionId)> {
    let DeadContent::Event(event) = &letter.content else {
        return None;
    };
    Some((event.namespace.clone(), event.counted_for()?.into_owned()))
}

fn size(letter: &DeadLetter) -> usize {
    let content = match &letter.content {
        DeadContent::Event(event) => event.size(),
        DeadContent::Foreign(bytes) => bytes.len(),
    };
    content + letter.cause.reason.len()
}
