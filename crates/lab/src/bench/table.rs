//! What was measured, beside its floor and its aim; as a table for people and as JSON for programs.

use serde_json::{Value, json};

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aim {
    /// The figure itself, at most.
    AtMost(f64),
    /// The figure over its floor, at most.
    TimesFloor(f64),
    /// The figure over its floor, at least.
    OfFloor(f64),
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Of `value` and `floor`.
    pub unit: &'static str,
    /// What oxelb does.
    pub value: f64,
    /// What the simplest program that does the same needs, or the kernel, measured in the same run.
    pub floor: Option<f64>,
    /// None where the figure is only told.
    pub aim: Option<Aim>,
    /// How it was measured, where that is not plain.
    pub note: String,
}

impl Row {
    /// A figure without floor, aim and note.
    pub fn new(what: &str, value: f64, unit: &'static str) -> Row {
        Row { what: what.to_owned(), unit, value, floor: None, aim: None, note: String::new() }
    }

    /// With its floor.
    pub fn floor(self, floor: f64) -> Row {
        Row { floor: Some(floor), ..self }
    }

    /// With what it should be.
    pub fn aim(self, aim: Aim) -> Row {
        Row { aim: Some(aim), ..self }
    }

    /// With how it was measured.
    pub fn note(self, note: &str) -> Row {
        Row { note: note.to_owned(), ..self }
    }

    fn ratio(&self) -> Option<f64> {
        self.floor.filter(|floor| *floor > 0.0).map(|floor| self.value / floor)
    }

    /// Whether the aim is reached; `None` without an aim, or without the floor that it needs.
    pub fn met(&self) -> Option<bool> {
        Some(match self.aim? {
            Aim::AtMost(most) => self.value <= most,
            Aim::TimesFloor(most) => self.ratio()? <= most,
            Aim::OfFloor(least) => self.ratio()? >= least,
        })
    }

    fn aim_text(&self) -> String {
        match self.aim {
            None => String::new(),
            Some(Aim::AtMost(most)) => format!("≤ {} {}", number(most), self.unit),
            Some(Aim::TimesFloor(most)) => format!("≤ {most} × floor"),
            Some(Aim::OfFloor(least)) => format!("≥ {least} × floor"),
        }
    }

    fn cells(&self) -> [String; 6] {
        [
            self.what.clone(),
            format!("{} {}", number(self.value), self.unit),
            self.floor.map(|floor| format!("{} {}", number(floor), self.unit)).unwrap_or_default(),
            self.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            self.aim_text(),
            self.met().map(yes).unwrap_or_default().to_owned(),
        ]
    }

    /// In one line.
    pub fn line(&self) -> String {
        let [what, value, floor, ratio, aim, met] = self.cells();
        let floor = if floor.is_empty() { floor } else { format!(", floor {floor}, ratio {ratio}") };
        let aim = if aim.is_empty() { aim } else { format!(", aim {aim}: {met}") };
        format!("{what}: {value}{floor}{aim}")
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what, "unit": self.unit, "value": self.value, "floor": self.floor, "ratio": self.ratio(),
            "aim": self.aim.map(|_| self.aim_text()), "met": self.met(), "note": self.note,
        })
    }
}

fn yes(met: bool) -> &'static str {
    if met { "yes" } else { "no" }
}

/// Three digits that count, more where the whole number has them.
fn number(value: f64) -> String {
    match value.abs() {
        a if a >= 100.0 => format!("{value:.0}"),
        a if a >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The table, aligned, with the notes below it.
pub fn text(rows: &[Row]) -> String {
    let head = ["measure", "oxelb", "floor", "ratio", "aim", "met"].map(str::to_owned);
    let lines: Vec<[String; 6]> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for line in &lines {
        // Names to the left, numbers to the right.
        let cells = line.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
            0 | 4 | 5 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    for row in rows.iter().filter(|row| !row.note.is_empty()) {
        text += &format!("  {}: {}\n", row.what, row.note);
    }
    text
}

/// All of it, with what could not be measured.
pub fn json(rows: &[Row], failures: &[String]) -> Value {
    json!({ "bench": "oxelb", "figures": rows.iter().map(Row::json).collect::<Vec<_>>(), "failures": failures })
}

/// The value below which this share of the sample lies, by nearest rank; 0 for an empty sample.
pub fn percentile(sample: &[f64], share: f64) -> f64 {
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aim_is_met_on_its_own_side_only() {
        let row = Row::new("x", 13.0, "ms").floor(10.0);
        assert_eq!(row.clone().aim(Aim::TimesFloor(1.3)).met(), Some(true));
        assert_eq!(row.clone().aim(Aim::TimesFloor(1.2)).met(), Some(false));
        assert_eq!(row.clone().aim(Aim::OfFloor(1.4)).met(), Some(false));
        assert_eq!(row.clone().aim(Aim::AtMost(12.0)).met(), Some(false));
        assert_eq!(row.met(), None);
        assert_eq!(Row::new("x", 1.0, "ms").aim(Aim::TimesFloor(2.0)).met(), None, "no floor, no verdict");
    }

    #[test]
    fn percentiles_are_members_of_the_sample() {
        let sample: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!((percentile(&sample, 0.5), percentile(&sample, 0.99)), (100.0, 198.0));
        assert_eq!((percentile(&[7.0], 0.99), percentile(&[], 0.5)), (7.0, 0.0));
    }

    #[test]
    fn columns_of_the_table_are_aligned() {
        let rows = [
            Row::new("short", 1.0, "ms").floor(2.0).aim(Aim::TimesFloor(1.3)),
            Row::new("a longer name", 12345.0, "a second").note("how"),
        ];
        let text = text(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "measure                 oxelb    floor  ratio  aim            met");
        assert_eq!(lines[1], "short                 1.00 ms  2.00 ms   0.50  ≤ 1.3 × floor  yes");
        assert_eq!(lines[2].trim_end(), "a longer name  12345 a second");
        assert_eq!(lines[3], "  a longer name: how");
    }
}
