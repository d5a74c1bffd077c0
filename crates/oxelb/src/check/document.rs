//! Manifests as trees in which every key and value knows its place in the file.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value as Json};
use serde_saphyr::Spanned;
use std::fmt;

/// A place in a file; both count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub at: Place,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One entry of a map.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: String,
    pub at: Place,
    pub node: Node,
}

/// All documents of a text, without empty ones; or what is wrong with it, and where.
pub fn parse(text: &str) -> Result<Vec<Node>, (Place, String)> {
    // The budget is against hostile input, and files that a user names may be large.
    let options = serde_saphyr::options! { budget: None };
    let documents: Vec<Node> = serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        let at = error.location().map(|l| Place { line: l.line(), column: l.column() });
        let message = error.to_string();
        let message = message.lines().next().unwrap_or_default();
        let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
        (at.unwrap_or(Place { line: 1, column: 1 }), message.to_owned())
    })?;
    Ok(documents.into_iter().filter(|d| d.value != Value::Null).collect())
}

impl Node {
    /// The entry of a map.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|e| e.key == key)
    }

    /// The value of an entry of a map.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|e| &e.node)
    }

    /// The entries of a map; none of anything else.
    pub fn entries(&self) -> &[Entry] {
        if let Value::Map(entries) = &self.value { entries } else { &[] }
    }

    /// The text, when it is one.
    pub fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    /// The text at the end of a path of keys.
    pub fn text_at(&self, path: &[&str]) -> Option<&str> {
        path.iter().try_fold(self, |node, key| node.get(key))?.text()
    }

    /// Where the field stands that a message begins with, as in `spec.address: …` or `metadata.annotations[a.b/c]: …`;
    /// as much of it as there is.
    pub fn place_of(&self, message: &str) -> Place {
        let path = message.split(": ").next().unwrap_or_default();
        let (mut node, mut at, mut rest) = (self, self.at, path);
        loop {
            rest = rest.trim_start_matches('.');
            let end = if let Some(inner) = rest.strip_prefix('[') {
                inner.find(']').map(|end| (&inner[..end], &inner[end + 1..]))
            } else {
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                Some(rest.split_at(end))
            };
            let Some(entry) = end.and_then(|(key, _)| node.entry(key)) else { return at };
            (node, at, rest) = (&entry.node, entry.at, end.map_or("", |(_, rest)| rest));
        }
    }

    /// The same without places.
    pub fn json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(value) => Json::Number(value.clone()),
            Value::Text(value) => Json::String(value.clone()),
            Value::List(items) => Json::Array(items.iter().map(Node::json).collect()),
            Value::Map(entries) => {
                Json::Object(entries.iter().map(|e| (e.key.clone(), e.node.json())).collect::<Map<_, _>>())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        let at = Place { line: spanned.referenced.line(), column: spanned.referenced.column() };
        Ok(Node { at, value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some((key, node)) = entries.next_entry::<Spanned<String>, Node>()? {
            let at = Place { line: key.referenced.line(), column: key.referenced.column() };
            map.push(Entry { key: key.value, at, node });
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# a comment\n---\nkind: A\nmetadata:\n  annotations: {a.b/c: \"true\"}\n---\n---\nkind: B\nlist:\n- x\n- n: 1\n";

    #[test]
    fn every_document_key_and_value_knows_its_place() {
        let documents = parse(TEXT).unwrap();
        assert_eq!(documents.len(), 2);
        let place = |document: usize, path: &str| {
            let place = documents[document].place_of(path);
            (place.line, place.column)
        };
        assert_eq!(place(0, "kind: x"), (3, 1));
        assert_eq!(place(0, "metadata.annotations[a.b/c]: x"), (5, 17));
        assert_eq!(place(0, "metadata.labels.x: y"), (4, 1), "as much as there is");
        assert_eq!(place(1, "list"), (9, 1));
        assert_eq!(documents[0].text_at(&["metadata", "annotations", "a.b/c"]), Some("true"));
        assert_eq!(documents[1].json(), serde_json::json!({"kind": "B", "list": ["x", {"n": 1}]}));
    }

    #[test]
    fn broken_yaml_is_said_with_its_place() {
        let (at, message) = parse("kind: A\nspec: {address: [\n").unwrap_err();
        assert!(at.line >= 2 && !message.is_empty(), "{at:?} {message}");
        assert!(parse("a: 1\na: 2\n").is_err(), "a key that is there twice");
        assert_eq!(parse("# nothing\n").unwrap(), []);
    }
}
