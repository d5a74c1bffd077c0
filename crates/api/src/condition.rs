//! Standard conditions (`metav1.Condition`), in a form that can be compared.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One condition of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about, in CamelCase.
    #[serde(rename = "type")]
    pub type_: String,
    /// True, False or Unknown.
    pub status: String,
    /// Why, in one CamelCase word.
    pub reason: String,
    /// Why, in plain words, with what to do.
    pub message: String,
    /// The generation of the object that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When the status last changed, RFC 3339.
    pub last_transition_time: String,
}

impl Condition {
    /// A condition without times; the writer stamps it with [`Condition::stamped`].
    pub fn new(type_: &str, status: bool, reason: &str, message: impl Into<String>) -> Condition {
        Condition {
            type_: type_.to_owned(),
            status: if status { "True" } else { "False" }.to_owned(),
            reason: reason.to_owned(),
            message: message.into(),
            ..Condition::default()
        }
    }

    /// True when both say the same, whenever they were written.
    pub fn says_the_same(&self, other: &Condition) -> bool {
        (&self.type_, &self.status, &self.reason, &self.message)
            == (&other.type_, &other.status, &other.reason, &other.message)
    }

    /// This condition with its transition time: that of `before` while the status has not changed, else `now`.
    pub fn stamped(mut self, before: Option<&Condition>, now: &str) -> Condition {
        let same = before.filter(|b| b.type_ == self.type_ && b.status == self.status);
        self.last_transition_time = same.map_or_else(|| now.to_owned(), |b| b.last_transition_time.clone());
        self
    }
}
