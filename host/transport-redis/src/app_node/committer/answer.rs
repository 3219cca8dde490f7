//! Answers of the script `commit`.

/// Answer to a call.
pub(crate) enum CommitAnswer {
    /// The whole call took effect.
    Done,
    /// Nothing took effect; one verdict for each part.
    Parts(Vec<PartVerdict>),
    /// Nothing took effect: the outboxes of these members are full.
    Full(Vec<String>),
}

/// State of one part of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PartVerdict {
    /// It may take effect.
    Apply,
    /// It took effect, perhaps by an earlier copy of the call.
    Done,
    /// Another node holds the partition.
    Lost,
}

impl CommitAnswer {
    pub(crate) fn of(answer: &[String]) -> Self {
        match answer.split_first() {
            Some((word, _)) if word == "done" => Self::Done,
            Some((word, members)) if word == "full" => Self::Full(members.to_vec()),
            Some((_, verdicts)) => Self::Parts(verdicts.iter().map(|verdict| PartVerdict::of(verdict)).collect()),
            None => Self::Parts(Vec::new()),
        }
    }
}

impl PartVerdict {
    fn of(word: &str) -> Self {
        match word {
            "apply" => Self::Apply,
            "done" => Self::Done,
            _ => Self::Lost,
        }
    }
}
