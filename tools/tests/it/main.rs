//! The `esker` command from the outside: the built binary, real files, real input.

mod cli;
mod damage;
mod debian;
mod kills;
mod shell;
