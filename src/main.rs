//! Runs a shim, or else the command line. Holds no logic of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    // Before anything else: a shim must not pay for, or trip over, what the real commands set up.
    if args.next().is_some_and(|word| word == "shim") {
        return agentpool::process::shim::main(args);
    }
    agentpool::cli::main()
}
