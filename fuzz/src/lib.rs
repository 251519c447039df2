//! The entry points that outside bytes take into Berth, each as a function of bytes.
//!
//! The fuzz targets call them without end; `tests/tests/inputs.rs` includes this same file and
//! calls them for a bounded time with seeds and random bytes, so that CI covers them as well.

pub mod entries;
