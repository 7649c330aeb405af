//! Fuzzes `esker::testing::hostile::packed`; see engine/fuzz/README.md.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| esker::testing::hostile::packed(input));
