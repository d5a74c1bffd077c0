//! What was found, and how it looks.

use super::document::Place;
use crate::cli::Output;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It would be refused, or would not do what it says.
    Error,
    /// It is allowed, but hardly meant.
    Warning,
}

/// Something that was found in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub at: Place,
    pub severity: Severity,
    /// What is wrong and what to do, beginning with the field.
    pub message: String,
}

impl Finding {
    pub fn error(at: Place, message: impl Into<String>) -> Finding {
        Finding { at, severity: Severity::Error, message: message.into() }
    }

    pub fn warning(at: Place, message: impl Into<String>) -> Finding {
        Finding { at, severity: Severity::Warning, message: message.into() }
    }
}

/// All that is said of some files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// With the file, and the object when it could be read so far.
    pub findings: Vec<(String, Option<String>, Finding)>,
    /// Which Service would get which address.
    pub notes: Vec<String>,
    /// How many objects were checked.
    pub objects: usize,
}

impl Report {
    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|(_, _, f)| f.severity == Severity::Error).count()
    }

    /// The report as text or as JSON.
    pub fn text(&mut self, output: Output, colour: bool) -> String {
        self.findings.sort_by(|a, b| (&a.0, a.2.at, a.2.severity).cmp(&(&b.0, b.2.at, b.2.severity)));
        self.findings.dedup();
        match output {
            Output::Json => self.json().to_string(),
            Output::Text => self.lines(colour),
        }
    }

    fn lines(&self, colour: bool) -> String {
        let mut text = String::new();
        for (file, object, finding) in &self.findings {
            let (word, paint) = match finding.severity {
                Severity::Error => ("error", "\x1b[1;31m"),
                Severity::Warning => ("warning", "\x1b[1;33m"),
            };
            let (paint, plain) = if colour { (paint, "\x1b[0m") } else { ("", "") };
            let object = object.as_ref().map(|o| format!("{o}: ")).unwrap_or_default();
            let Place { line, column } = finding.at;
            let _ = writeln!(text, "{file}:{line}:{column}: {paint}{word}{plain}: {object}{}", finding.message);
        }
        for note in &self.notes {
            let _ = writeln!(text, "{note}");
        }
        let (errors, warnings) = (self.errors(), self.findings.len() - self.errors());
        let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        let objects = count(self.objects, "object");
        let _ = write!(text, "{objects} checked: {}, {}", count(errors, "error"), count(warnings, "warning"));
        text
    }

    fn json(&self) -> Value {
        let findings = self.findings.iter().map(|(file, object, finding)| {
            json!({
                "file": file, "line": finding.at.line, "column": finding.at.column, "object": object,
                "severity": if finding.severity == Severity::Error { "error" } else { "warning" },
                "message": finding.message,
            })
        });
        let warnings = self.findings.len() - self.errors();
        json!({
            "findings": findings.collect::<Vec<_>>(), "notes": self.notes,
            "objects": self.objects, "errors": self.errors(), "warnings": warnings,
        })
    }
}
