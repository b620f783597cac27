//! What the core refuses, with stable codes.

use crate::wire::KEY_BYTES;
use thiserror::Error;

/// Why bytes, a proof or a key are not accepted; the text is one sentence that says what was seen.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// Bytes that do not decode: not canonical, truncated, over a cap, of a wrong length.
    #[error("{0}")]
    Malformed(String),
    /// A tear-off, path, root, certificate or index that does not prove what it claims.
    #[error("{message}")]
    Proof {
        /// Stable, such as "proof.invalid".
        code: &'static str,
        /// One sentence.
        message: String,
    },
    /// A key that is not 32 bytes, not canonical, of small order or with torsion.
    #[error("{0}")]
    Key(String),
}

impl Error {
    /// The stable code of this error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "transaction.malformed",
            Self::Proof { code, .. } => code,
            Self::Key(_) => "signature.key_invalid",
        }
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::Malformed(message.into())
    }

    pub(crate) fn proof(code: &'static str, message: impl Into<String>) -> Self {
        Self::Proof {
            code,
            message: message.into(),
        }
    }
}

/// Why a proposal or a final transaction is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// Stable, such as "transaction.duplicate_input".
    pub code: &'static str,
    /// One sentence: what was seen and what to do.
    pub message: String,
    /// The ids of the required keys that are not satisfied, ascending; only with the code "signature.missing".
    pub missing_keys: Vec<[u8; KEY_BYTES]>,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: cut_sentence(&message.into()).to_owned(),
            missing_keys: Vec::new(),
        }
    }

    /// The same refusal, with `place` in front of its sentence.
    pub(crate) fn at(mut self, place: &str) -> Self {
        self.message = cut_sentence(&format!("{place}: {}", self.message)).to_owned();
        self
    }
}

/// Characters of a sentence that goes to others: what it quotes may come from the wire.
pub const SENTENCE_CHARACTERS_MAX: usize = 500;

/// The sentence, cut where it would be longer than `SENTENCE_CHARACTERS_MAX`.
#[must_use]
pub fn cut_sentence(text: &str) -> &str {
    let end = text.char_indices().nth(SENTENCE_CHARACTERS_MAX);
    end.and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_cut_between_characters_at_the_limit_and_not_below() {
        for letter in ["a", "é", "能"] {
            let most = letter.repeat(SENTENCE_CHARACTERS_MAX);
            assert_eq!(cut_sentence(&most), most);
            assert_eq!(cut_sentence(&(most.clone() + letter)), most);
            assert_eq!(Refusal::new("x", most.clone() + letter).message, most);
            let placed = Refusal::new("x", most).at("here").message;
            assert_eq!(placed.chars().count(), SENTENCE_CHARACTERS_MAX);
        }
    }
}
