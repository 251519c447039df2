//! Names for containers that were given none: an adjective and a thing of the sea, joined as
//! docker joins its two.

use model::ContainerName;

const QUALITIES: [&str; 48] = [
    "able", "amber", "ample", "brave", "breezy", "bright", "brisk", "calm", "candid", "clear",
    "copper", "crisp", "dapper", "deep", "eager", "early", "fair", "fleet", "fond", "frank",
    "gentle", "glad", "golden", "grand", "hale", "handy", "hardy", "jolly", "keen", "kind",
    "lively", "loyal", "lucid", "mellow", "merry", "mild", "noble", "placid", "quick", "quiet",
    "ready", "salty", "sound", "steady", "stout", "swift", "tidy", "trusty",
];

const THINGS: [&str; 56] = [
    "anchor", "atoll", "barge", "beacon", "bollard", "boom", "bosun", "bowline", "brig", "buoy",
    "canal", "capstan", "clipper", "cockle", "compass", "coral", "cutter", "dinghy", "dock",
    "dolphin", "ferry", "fjord", "frigate", "galley", "gull", "harbor", "hawser", "heron", "jetty",
    "keel", "ketch", "lagoon", "lantern", "lighter", "lugger", "mariner", "mast", "mooring",
    "otter", "pier", "pilot", "quay", "reef", "rigger", "rudder", "schooner", "sextant", "shoal",
    "skiff", "sloop", "spar", "tender", "tide", "tiller", "trawler", "wharf",
];

/// Makes a name of random bits; from the second attempt on a digit makes a clash unlikely.
pub(super) fn random_name(bits: [u8; 4], attempt: u32) -> ContainerName {
    let pick = |words: &'static [&'static str], bits: u8| words[usize::from(bits) % words.len()];
    let mut name = format!("{}_{}", pick(&QUALITIES, bits[0]), pick(&THINGS, bits[1]));
    if attempt > 0 {
        name.push_str(&(u32::from(bits[2]) * attempt).to_string());
    }
    name.parse().expect("letters, an underscore and digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_words_make_names() {
        for bits in 0..=255 {
            let name = random_name([bits, bits, bits, 0], u32::from(bits % 3));
            assert!(name.as_str().contains('_'));
        }
    }
}
