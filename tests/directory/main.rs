//! The directory store under what happens to files: processes that are killed at any system call, system calls that
//! fail, several processes at once, full disks, damaged files, a clock that is set.
//!
//! | file | what it does |
//! |---|---|
//! | `scene` | a folder with one secret, a provider and a clock; knows what must hold whatever happened |
//! | `act` | each operation of the store, and a whole refresh, in a process of its own |
//! | `traced` | the same under a tracer that ends the process, or fails the call, at each call in turn; and several processes at once, one call at a time |
//! | `disks` | a file system without room, or read-only; a limit to the size of files |
//! | `files` | files that are damaged, or something else |
//! | `clocks` | a clock that is set back or forward between any two looks at it |

mod act;
mod clocks;
mod disks;
mod files;
mod scene;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod traced;

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[test]
#[ignore = "traces processes with ptrace, as Linux has it on x86-64 and arm64"]
fn nothing_is_traced_here() {
    summary("directory: system calls are not explored on this system");
}

/// A line that is shown whether the test passes or not: how much was explored.
fn summary(line: &str) {
    use std::io::Write;
    writeln!(std::io::stderr(), "{line}").expect("a place for output");
}
