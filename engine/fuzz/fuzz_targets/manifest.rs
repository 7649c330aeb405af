//! Fuzzes `esker::testing::hostile::manifest`; see engine/fuzz/README.md.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| esker::testing::hostile::manifest(input));
