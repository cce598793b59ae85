//! The directory store with faults: processes that are killed at any system call, system calls that fail, several processes at
//! once, full disks, damaged files, a clock that is set.
//!
//! | file | what it does |
//! |---|---|
//! | `world` | a folder with one secret, a provider and a clock; checks what must always hold |
//! | `action` | each operation of the store, and a whole refresh, in a separate process |
//! | `traced` | the same under a tracer that kills the process, or fails the call, at each call in turn; and several processes at once, one call at a time |
//! | `disks` | a file system without room, or read-only; a limit on the size of files |
//! | `files` | files that are damaged, or not state files |
//! | `clocks` | a clock that is set back or forward between any two reads of it |

mod action;
mod clocks;
mod disks;
mod files;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod traced;
mod world;

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[test]
#[ignore = "needs ptrace on Linux, x86-64 or arm64"]
fn system_calls_are_not_traced_on_this_system() {
    summary("directory: system calls are not traced on this system");
}

/// Prints a line whether the test passes or not: how many cases were tested.
fn summary(line: &str) {
    use std::io::Write;
    writeln!(std::io::stderr(), "{line}").expect("stderr");
}
