//! esker
fn main() {}
