//! Numbers with their nouns, for people.

/// `1 file`, `2 files`, `0 entries`: the noun in the singular where the number is one.
pub fn count(number: u64, noun: &str) -> String {
    let stem = noun.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'o', 'u']));
    match (number, stem) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noun_agrees_with_its_number() {
        let all: Vec<String> =
            ["file", "entry", "key"].into_iter().flat_map(|noun| [0, 1, 2].map(|n| count(n, noun))).collect();
        let expected =
            ["0 files", "1 file", "2 files", "0 entries", "1 entry", "2 entries", "0 keys", "1 key", "2 keys"];
        assert_eq!(all, expected);
    }
}
