//! Feeds `entries::layer` for ever.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::entries::layer(bytes));
