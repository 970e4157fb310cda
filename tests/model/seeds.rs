//! Which seeds a test runs: so many by default, or what `PASSKEYFS_TEST_SEEDS` says.

/// `count` seeds, or as many as the environment says (a number), or those it names (`17,40-45`).
pub fn from_environment(count: u64) -> Vec<u64> {
    let Ok(text) = std::env::var("PASSKEYFS_TEST_SEEDS") else { return (0..count).collect() };
    let number = |text: &str| text.trim().parse::<u64>().expect("PASSKEYFS_TEST_SEEDS holds numbers");
    if !text.contains([',', '-']) {
        return (0..number(&text)).collect();
    }
    let range = |part: &str| match part.split_once('-') {
        Some((first, last)) => (number(first)..=number(last)).collect(),
        None => vec![number(part)],
    };
    text.split(',').filter(|part| !part.is_empty()).flat_map(range).collect()
}
