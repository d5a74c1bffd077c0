//! What was meant: the known word that is nearest to one that is not known.

/// The known word that differs from `word` by the fewest letters, if by few enough that it can be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters may be wrong, but not more than five.
    let most = (word.chars().count() / 3).clamp(1, 5);
    let lower = word.to_lowercase();
    let near = known.into_iter().map(|k| (distance(&lower, &k.to_lowercase()), k));
    near.filter(|(d, _)| *d <= most).min().map(|(_, k)| k)
}

/// Letters to insert, remove or replace (Levenshtein), or two neighbours to swap.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = a[i - 1] == b[j - 1];
            let mut best = (rows[i - 1][j - 1] + usize::from(!same)).min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_are_recognised_and_other_words_are_not() {
        let known = ["address", "interface", "protocol", "usingKnownIPs"];
        for (word, want) in [
            ("adress", Some("address")),
            ("addresses", Some("address")),
            ("Interface", Some("interface")),
            ("inetrface", Some("interface")),
            ("usingknownips", Some("usingKnownIPs")),
            ("priority", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, known), want, "{word}");
        }
    }
}
