//! The `esker` command from the outside: the built binary, real files, real input.
#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "tests say what they ran on, and what they skipped"
)]

mod checkpoints;
mod cli;
mod damage;
mod debian;
mod kills;
mod repair;
mod shell;
