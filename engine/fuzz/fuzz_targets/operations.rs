//! Fuzzes `esker::testing::hostile::operations`; see engine/fuzz/README.md.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| esker::testing::hostile::operations(input));
