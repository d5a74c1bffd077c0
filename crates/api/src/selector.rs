//! Label selectors (`metav1.LabelSelector`), parsed once.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::BTreeMap;

/// Labels, as on any object.
pub type Labels = BTreeMap<String, String>;

/// A parsed label selector. The empty one matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

/// Why a label selector cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSelector {
    /// Not one of the four operators.
    #[error("operator {0:?} of a selector is not one of In, NotIn, Exists, DoesNotExist")]
    Operator(String),
    /// `In` and `NotIn` need values, the others take none.
    #[error("operator {0} of a selector {1}")]
    Values(String, &'static str),
}

impl Selector {
    /// Whether all requirements hold for these labels.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|r| match r {
            Requirement::In(key, values) => labels.get(key).is_some_and(|v| values.contains(v)),
            Requirement::NotIn(key, values) => labels.get(key).is_none_or(|v| !values.contains(v)),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Absent(key) => !labels.contains_key(key),
        })
    }
}

impl TryFrom<&LabelSelector> for Selector {
    type Error = InvalidSelector;
    fn try_from(selector: &LabelSelector) -> Result<Selector, InvalidSelector> {
        let equal = selector.match_labels.iter().flatten();
        let mut requirements: Vec<_> = equal.map(|(k, v)| Requirement::In(k.clone(), vec![v.clone()])).collect();
        for e in selector.match_expressions.iter().flatten() {
            let values = e.values.clone().unwrap_or_default();
            let key = e.key.clone();
            requirements.push(match (e.operator.as_str(), values.is_empty()) {
                ("In", false) => Requirement::In(key, values),
                ("NotIn", false) => Requirement::NotIn(key, values),
                ("Exists", true) => Requirement::Exists(key),
                ("DoesNotExist", true) => Requirement::Absent(key),
                ("In" | "NotIn", true) => return Err(InvalidSelector::Values(e.operator.clone(), "needs values")),
                ("Exists" | "DoesNotExist", false) => {
                    return Err(InvalidSelector::Values(e.operator.clone(), "takes no values"));
                }
                _ => return Err(InvalidSelector::Operator(e.operator.clone())),
            });
        }
        Ok(Selector { requirements })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(json: serde_json::Value) -> Result<Selector, InvalidSelector> {
        Selector::try_from(&serde_json::from_value::<LabelSelector>(json).unwrap())
    }

    #[test]
    fn every_operator_matches_as_kubernetes_says() {
        let labels: Labels = [("a".to_owned(), "1".to_owned())].into();
        let expr = |key: &str, op: &str, values: &[&str]| {
            selector(serde_json::json!({"matchExpressions": [{"key": key, "operator": op, "values": values}]}))
        };
        for (key, op, values, want) in [
            ("a", "In", &["1", "2"][..], true),
            ("a", "In", &["2"], false),
            ("b", "In", &["1"], false),
            ("a", "NotIn", &["1"], false),
            ("b", "NotIn", &["1"], true),
            ("a", "Exists", &[], true),
            ("a", "DoesNotExist", &[], false),
            ("b", "DoesNotExist", &[], true),
        ] {
            assert_eq!(expr(key, op, values).unwrap().matches(&labels), want, "{key} {op} {values:?}");
        }
        assert!(expr("a", "Like", &["1"]).is_err());
        assert!(expr("a", "In", &[]).is_err());
        assert!(expr("a", "Exists", &["1"]).is_err());
        assert!(selector(serde_json::json!({})).unwrap().matches(&labels));
        assert!(!selector(serde_json::json!({"matchLabels": {"a": "2"}})).unwrap().matches(&labels));
    }
}
