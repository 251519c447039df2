//! How much a layer may ask for. Docker has no such bounds; these only stop what no real image
//! does, before it fills the disk or the memory.

/// Bounds on one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Entries. The largest images known have some million files in all their layers together.
    pub entries_max: u64,
    /// Bytes of one path or link target: the kernel's `PATH_MAX`; longer ones could be made but
    /// not opened.
    pub path_bytes_max: usize,
    /// Bytes of one extended header (PAX or GNU long name), which is held in memory. Holds the
    /// largest extended attributes (64 KiB each) and sparse maps of tens of thousands of holes.
    pub extension_bytes_max: u64,
    /// Bytes of directory paths held until the end, when directories get their times. A
    /// million directories of ordinary depth.
    pub directories_bytes_max: usize,
    /// Uncompressed bytes per compressed byte, once [`Self::ratio_free_bytes`] have passed.
    /// Gzip reaches 1,032 on zeros; real layers stay below 20.
    pub ratio_max: u64,
    /// Uncompressed bytes that are never called a bomb: a large file of zeros is legitimate.
    pub ratio_free_bytes: u64,
    /// Uncompressed bytes of one layer.
    pub uncompressed_bytes_max: u64,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self {
            entries_max: 4_000_000,
            path_bytes_max: 4096,
            extension_bytes_max: 1024 * 1024,
            directories_bytes_max: 128 * 1024 * 1024,
            ratio_max: 200,
            ratio_free_bytes: 4 * 1024 * 1024 * 1024,
            uncompressed_bytes_max: 1024 * 1024 * 1024 * 1024,
        }
    }
}
