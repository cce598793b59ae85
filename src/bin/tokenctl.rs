//! The command line: see `token_refresher::cli`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    token_refresher::cli::main()
}
