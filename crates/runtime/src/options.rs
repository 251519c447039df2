//! Mount options in mount(8)'s words → attributes, propagation and file-system parameters.
//!
//! Pure. The words are those of the OCI runtime specification, with runc's `rro` family for
//! recursive attributes and `tmpcopyup`.

use serde::{Deserialize, Serialize};

/// `MOUNT_ATTR_*`: the kernel's numbers.
pub(crate) mod attribute {
    pub(crate) const RDONLY: u64 = 0x1;
    pub(crate) const NOSUID: u64 = 0x2;
    pub(crate) const NODEV: u64 = 0x4;
    pub(crate) const NOEXEC: u64 = 0x8;
    /// All bits of the access-time mode; `relatime` is zero in it.
    pub(crate) const ATIME: u64 = 0x70;
    pub(crate) const NOATIME: u64 = 0x10;
    pub(crate) const STRICTATIME: u64 = 0x20;
    pub(crate) const NODIRATIME: u64 = 0x80;
    pub(crate) const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// `MS_*` propagation: the kernel's numbers.
pub(crate) mod propagation {
    pub(crate) const UNBINDABLE: u64 = 1 << 17;
    pub(crate) const PRIVATE: u64 = 1 << 18;
    pub(crate) const SLAVE: u64 = 1 << 19;
    pub(crate) const SHARED: u64 = 1 << 20;
}

/// What a mount's options say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Options {
    /// `bind` (false inside) or `rbind` (true inside).
    pub(crate) bind: Option<bool>,
    /// Attributes to set and to clear on the mount itself.
    pub(crate) set: u64,
    pub(crate) clear: u64,
    /// The same for it and every mount beneath.
    pub(crate) set_recursive: u64,
    pub(crate) clear_recursive: u64,
    /// Propagation, and whether it is for every mount beneath too.
    pub(crate) propagation: Option<(u64, bool)>,
    /// Fill a new tmpfs with what it covers.
    pub(crate) copy_up: bool,
    /// `idmap` (false inside) or `ridmap` (true inside).
    pub(crate) id_map: Option<bool>,
    /// Everything else belongs to the file system.
    pub(crate) parameters: Vec<(String, Option<String>)>,
}

impl Options {
    /// Reads options; what is no known word is left to the file system.
    pub(crate) fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut options = Self::default();
        for word in words.into_iter().flat_map(|words| words.split(',')) {
            options.add(word);
        }
        options
    }

    fn add(&mut self, word: &str) {
        if let Some((set, clear)) = attributes(word) {
            self.set = self.set & !clear | set;
            self.clear = self.clear & !set | clear & !set;
        } else if let Some((set, clear)) = word.strip_prefix('r').and_then(attributes) {
            self.set_recursive = self.set_recursive & !clear | set;
            self.clear_recursive = self.clear_recursive & !set | clear & !set;
        } else if let Some(wanted) = propagation_word(word) {
            self.propagation = Some(wanted);
        } else {
            match word {
                "bind" => self.bind = Some(self.bind.unwrap_or(false)),
                "rbind" => self.bind = Some(true),
                "tmpcopyup" => self.copy_up = true,
                "idmap" => self.id_map = Some(false),
                "ridmap" => self.id_map = Some(true),
                // Say what is so anyway, or belong to mount(8) alone.
                "" | "defaults" | "async" | "auto" | "noauto" | "user" | "nouser" | "remount"
                | "loud" | "nomand" | "noiversion" | "newinstance" | "notmpcopyup" => {}
                _ => {
                    let (key, value) = match word.split_once('=') {
                        Some((key, value)) => (key, Some(value.to_owned())),
                        None => (word, None),
                    };
                    self.parameters.push((key.to_owned(), value));
                }
            }
        }
    }
}

/// What a word sets and clears. An access-time word replaces the whole mode.
fn attributes(word: &str) -> Option<(u64, u64)> {
    use attribute::{ATIME, NOATIME, NODEV, NODIRATIME, NOEXEC, NOSUID, NOSYMFOLLOW, RDONLY};
    Some(match word {
        "ro" => (RDONLY, 0),
        "rw" => (0, RDONLY),
        "nosuid" => (NOSUID, 0),
        "suid" => (0, NOSUID),
        "nodev" => (NODEV, 0),
        "dev" => (0, NODEV),
        "noexec" => (NOEXEC, 0),
        "exec" => (0, NOEXEC),
        "noatime" => (NOATIME, ATIME),
        "strictatime" => (attribute::STRICTATIME, ATIME),
        "relatime" | "atime" | "norelatime" | "nostrictatime" => (0, ATIME),
        "nodiratime" => (NODIRATIME, 0),
        "diratime" => (0, NODIRATIME),
        "nosymfollow" => (NOSYMFOLLOW, 0),
        "symfollow" => (0, NOSYMFOLLOW),
        _ => return None,
    })
}

/// A propagation word: the flag, and whether it reaches the mounts beneath.
pub(crate) fn propagation_word(word: &str) -> Option<(u64, bool)> {
    Some(match word {
        "private" => (propagation::PRIVATE, false),
        "rprivate" => (propagation::PRIVATE, true),
        "shared" => (propagation::SHARED, false),
        "rshared" => (propagation::SHARED, true),
        "slave" => (propagation::SLAVE, false),
        "rslave" => (propagation::SLAVE, true),
        "unbindable" => (propagation::UNBINDABLE, false),
        "runbindable" => (propagation::UNBINDABLE, true),
        _ => return None,
    })
}

/// Every word with a meaning of its own, for `features`.
pub(crate) const WORDS: &[&str] = &[
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "lazytime",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_dev() {
        let options = Options::parse(["nosuid", "strictatime", "mode=755", "size=65536k"]);
        assert_eq!(options.set, attribute::NOSUID | attribute::STRICTATIME);
        assert_eq!(
            options.parameters,
            [
                ("mode".into(), Some("755".into())),
                ("size".into(), Some("65536k".into()))
            ]
        );
    }

    #[test]
    fn the_last_word_counts() {
        let options = Options::parse(["ro", "rw"]);
        assert_eq!((options.set, options.clear), (0, attribute::RDONLY));
        let options = Options::parse(["rw", "ro"]);
        assert_eq!((options.set, options.clear), (attribute::RDONLY, 0));
        let options = Options::parse(["noatime", "relatime"]);
        assert_eq!((options.set, options.clear), (0, attribute::ATIME));
    }

    #[test]
    fn recursive_words_and_binds() {
        let options = Options::parse(["rbind", "rro", "rslave"]);
        assert_eq!(options.bind, Some(true));
        assert_eq!((options.set, options.set_recursive), (0, attribute::RDONLY));
        assert_eq!(options.propagation, Some((propagation::SLAVE, true)));
        // `relatime` is a word of its own and not a recursive `elatime`.
        assert_eq!(Options::parse(["relatime"]).set_recursive, 0);
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_set_and_cleared_at_once(
            words in proptest::collection::vec(proptest::sample::select(WORDS.to_vec()), 0..12)
        ) {
            let options = Options::parse(words);
            assert_eq!(options.set & options.clear & !attribute::ATIME, 0);
            assert_eq!(options.set_recursive & options.clear_recursive & !attribute::ATIME, 0);
        }
    }
}
