//! The program `oxelb`: one binary, its roles and the operator's verbs. Called as `openelb-controller` or
//! `openelb-speaker` it takes OpenELB's flags and environment.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | failed; the last line says why |
//! | 2 | the command line is wrong |
//! | 3 | `check` found errors |

mod check;
mod cli;
mod klog;
mod logging;
mod ownership;
mod roles;
mod version;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    net::keep_heap_small();
    let (arguments, ignored) = klog::arguments(std::env::args_os());
    let cli = cli::Cli::parse_from(arguments);
    logging::start(cli.log_format);
    if !ignored.is_empty() {
        tracing::info!(flags = ignored.join(" "), "flags of OpenELB that mean nothing here were accepted");
    }
    match roles::run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
