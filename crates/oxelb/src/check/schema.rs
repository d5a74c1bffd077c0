//! Compares an object with the schema of its CRD: what the API server would refuse, or worse, silently drop.

use super::document::{Node, Value};
use super::nearest::nearest;
use super::report::Finding;
use serde_json::Value as Json;

/// Findings about the part of an object that the schema describes; `path` is where that part is in the object.
pub fn check(node: &Node, schema: &Json, path: &str, found: &mut Vec<Finding>) {
    let kind = schema["type"].as_str().unwrap_or_default();
    let fits = match (&node.value, kind) {
        (Value::Null, _) | (_, "") => true,
        (Value::Bool(_), "boolean") | (Value::Text(_), "string") => true,
        (Value::Number(n), "integer") => n.is_i64() || n.is_u64(),
        (Value::Number(_), "number") | (Value::List(_), "array") | (Value::Map(_), "object") => true,
        _ => false,
    };
    if !fits {
        found.push(Finding::error(node.at, format!("{path}: {}", mend(node, kind))));
        return;
    }
    choices(node, schema, path, found);
    numbers(node, schema, path, found);
    match &node.value {
        Value::Map(_) => fields(node, schema, path, found),
        Value::List(items) => {
            for (i, item) in items.iter().enumerate() {
                check(item, &schema["items"], &format!("{path}[{i}]"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {}
    }
}

fn fields(node: &Node, schema: &Json, path: &str, found: &mut Vec<Finding>) {
    let values = &schema["additionalProperties"];
    let Some(known) = schema["properties"].as_object() else {
        for entry in node.entries().iter().filter(|_| values.is_object()) {
            check(&entry.node, values, &format!("{path}[{}]", entry.key), found);
        }
        return;
    };
    for entry in node.entries() {
        let inner = format!("{path}.{}", entry.key);
        match known.get(&entry.key) {
            Some(schema) => check(&entry.node, schema, &inner, found),
            None => {
                let meant = nearest(&entry.key, known.keys().map(String::as_str));
                let meant = meant.map_or_else(
                    || format!("known are {}", known.keys().cloned().collect::<Vec<_>>().join(", ")),
                    |m| format!("did you mean {m}?"),
                );
                found.push(Finding::error(
                    entry.at,
                    format!("{inner}: there is no such field, it would be dropped; {meant}"),
                ));
            }
        }
    }
    for field in schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
        if node.get(field).is_none() {
            found.push(Finding::error(node.at, format!("{path}.{field}: is missing")));
        }
    }
}

fn choices(node: &Node, schema: &Json, path: &str, found: &mut Vec<Finding>) {
    let (Some(text), Some(choices)) = (node.text(), schema["enum"].as_array()) else { return };
    let choices: Vec<&str> = choices.iter().filter_map(Json::as_str).collect();
    if choices.contains(&text) {
        return;
    }
    let meant = nearest(text, choices.iter().copied());
    let meant = meant.map_or_else(|| format!("write one of {}", choices.join(", ")), |m| format!("did you mean {m}?"));
    found.push(Finding::error(node.at, format!("{path}: {text:?} is not known; {meant}")));
}

fn numbers(node: &Node, schema: &Json, path: &str, found: &mut Vec<Finding>) {
    let Value::Number(number) = &node.value else { return };
    let Some(number) = number.as_f64() else { return };
    let below = schema["minimum"].as_f64().is_some_and(|least| number < least);
    let above = schema["maximum"].as_f64().is_some_and(|most| number > most);
    if below || above {
        let bound = |key: &str| schema[key].as_f64().map(|n| n.to_string()).unwrap_or_default();
        let (least, most) = (bound("minimum"), bound("maximum"));
        let text = match (least.as_str(), most.as_str()) {
            (least, "") => format!("must be at least {least}"),
            ("", most) => format!("must be at most {most}"),
            (least, most) => format!("must be from {least} to {most}"),
        };
        found.push(Finding::error(node.at, format!("{path}: {number} {text}")));
    }
}

fn mend(node: &Node, kind: &str) -> String {
    match (&node.value, kind) {
        (Value::Bool(value), "string") => format!("must be text: write \"{value}\", with quotes"),
        (Value::Number(value), "string") => format!("must be text: write \"{value}\", with quotes"),
        (Value::Text(value), "boolean") => match value.to_lowercase().as_str() {
            "yes" | "on" | "true" => "must be true or false: write true, without quotes".to_owned(),
            "no" | "off" | "false" => "must be true or false: write false, without quotes".to_owned(),
            _ => format!("must be true or false, not {value:?}"),
        },
        (Value::Text(value), "integer") if value.parse::<i64>().is_ok() => {
            format!("must be a number: write {value}, without quotes")
        }
        (Value::Text(value), "array") => format!("must be a list: write [{value}]"),
        (_, "array") => "must be a list".to_owned(),
        (_, "object") => "must be a map of fields".to_owned(),
        (_, "string") => "must be text".to_owned(),
        (_, "boolean") => "must be true or false".to_owned(),
        (_, "integer") => "must be a whole number".to_owned(),
        (_, kind) => format!("must be of type {kind}"),
    }
}
