//! The program: the library's command line, and the only place that exits.

use std::process::ExitCode;

fn main() -> ExitCode {
    bedplate::cli::main()
}
