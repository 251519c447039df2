//! Paths inside a container, as text.

/// Makes a path absolute and free of `.`, `..` and repeated slashes, without asking a file system.
///
/// `..` above the root stays at the root, as the kernel has it.
#[must_use]
pub fn clean_absolute(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans() {
        let check = |path: &str, expected: &str| assert_eq!(clean_absolute(path), expected);
        check("", "/");
        check("/a//b/./c/", "/a/b/c");
        check("/../../etc", "/etc");
        check("a/../b", "/b");
    }
}
