//! Varints and length-checked reading.
