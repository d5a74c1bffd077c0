//! The main function of the lab's test files: into the sandbox first, then the tests, one after the other.

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use std::process::ExitCode;

use crate::host::Lab;
use crate::sandbox;

/// A test and its name, which says the behaviour. It gets a lab of its own.
pub type Test = (&'static str, fn(&Lab) -> Result<()>);

/// Runs the tests as cargo's own harness would (filters, `--list`), each in a fresh [`Lab`].
pub fn main(tests: Vec<Test>) -> ExitCode {
    some_at_once(1, tests)
}

/// The same, so many at once: for tests that mostly wait and bear to be disturbed.
pub fn some_at_once(threads: usize, tests: Vec<Test>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    if arguments.list {
        let none: Vec<Trial> = tests.into_iter().map(|(name, _)| Trial::test(name, || Ok(()))).collect();
        return libtest_mimic::run(&arguments, none).exit_code();
    }
    let sandbox = match sandbox::enter() {
        Ok(sandbox) => sandbox,
        Err(error) => {
            eprintln!("lab: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    // Timing is measured: tests of one file run one after the other unless asked otherwise.
    arguments.test_threads.get_or_insert(threads);
    let trials = tests.into_iter().map(|(name, test)| {
        let sandbox = sandbox.clone();
        Trial::test(name, move || {
            let lab = Lab::new(&sandbox, name).map_err(failed)?;
            test(&lab).map_err(failed)
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn failed(error: anyhow::Error) -> Failed {
    Failed::from(format!("{error:#}"))
}

/// Does one thing to each of some, all at once, for what mostly waits. The first error counts, when all have ended.
pub fn at_once<T: Send>(each: Vec<T>, one: impl Fn(T) -> Result<()> + Sync) -> Result<()> {
    let one = &one;
    std::thread::scope(|scope| {
        let running: Vec<_> = each.into_iter().map(|item| scope.spawn(move || one(item))).collect();
        let ended: Vec<_> = running.into_iter().map(|thread| thread.join()).collect();
        let results = ended.into_iter().map(|result| result.map_err(|_| anyhow::anyhow!("it panicked"))?);
        results.collect()
    })
}
