//! Feeds `entries::api_body` for ever.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::entries::api_body(bytes));
