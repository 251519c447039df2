//! Paths as layers write them, made plain.

/// Resolves a path by its words alone, as docker does: `.` and empty parts vanish, `..` takes a
/// part back, an absolute path starts at the layer's root. Nothing if a relative path climbs out
/// of the root.
pub(super) fn clean(path: &[u8]) -> Option<Vec<u8>> {
    let absolute = path.starts_with(b"/");
    let mut cleaned: Vec<u8> = Vec::with_capacity(path.len());
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if cleaned.is_empty() => {
                if !absolute {
                    return None;
                }
            }
            b".." => {
                let end = cleaned.iter().rposition(|byte| *byte == b'/');
                cleaned.truncate(end.unwrap_or(0));
            }
            part => {
                if !cleaned.is_empty() {
                    cleaned.push(b'/');
                }
                cleaned.extend_from_slice(part);
            }
        }
    }
    Some(cleaned)
}

/// Splits a clean path into the parent's path and the name; nothing for the root.
pub(super) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => Some((path.get(..slash)?, path.get(slash + 1..)?)),
        None if path.is_empty() => None,
        None => Some((b"", path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cleans() {
        let check = |path: &str, expected: Option<&str>| {
            let cleaned = clean(path.as_bytes());
            assert_eq!(cleaned.as_deref(), expected.map(str::as_bytes), "{path}");
        };
        check("a/b", Some("a/b"));
        check("./a//b/./", Some("a/b"));
        check("", Some(""));
        check("./", Some(""));
        check("/etc/passwd", Some("etc/passwd"));
        check("a/../b", Some("b"));
        check("a/b/../../c", Some("c"));
        check("../a", None);
        check("a/../../b", None);
        check("..", None);
        check("/../../a", Some("a"));
        check("..a/b..", Some("..a/b.."));
    }

    #[test]
    fn splits() {
        let check = |path: &str, expected: Option<(&str, &str)>| {
            let expected = expected.map(|(parent, name)| (parent.as_bytes(), name.as_bytes()));
            assert_eq!(split(path.as_bytes()), expected);
        };
        check("", None);
        check("a", Some(("", "a")));
        check("a/b/c", Some(("a/b", "c")));
    }

    proptest! {
        #[test]
        fn clean_paths_stay_inside_and_stay_clean(path in "[/.a]{0,24}") {
            if let Some(cleaned) = clean(path.as_bytes()) {
                prop_assert!(!cleaned.starts_with(b"/"));
                if !cleaned.is_empty() {
                    for part in cleaned.split(|byte| *byte == b'/') {
                        prop_assert!(!matches!(part, b"" | b"." | b".."));
                    }
                }
                prop_assert_eq!(clean(&cleaned), Some(cleaned));
            }
        }
    }
}
