//! The system calls that act on files, and the file of each, from the registers of a stopped thread. Changes nothing.

use std::{fs, fs::File, os::unix::fs::FileExt, path::Path};

use nix::{
    libc::{self, c_long, user_regs_struct},
    unistd::Pid,
};

/// A call on the store's folder, or on a file there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name; `create` for an `open` that creates the file.
    pub name: &'static str,
    /// The extension of the file's name, or of its new name; `folder` for the folder itself.
    pub file: String,
}

/// The argument of a call that names its file.
#[derive(Clone, Copy)]
enum FileArgument {
    /// A descriptor, the first argument.
    Descriptor,
    /// A path, the argument with this number.
    Path(usize),
    /// A path, the argument with this number, followed by the flags of `open`.
    Open(usize),
}

use FileArgument::{Descriptor, Open, Path as Named};

/// The calls that read, write, lock, rename, create or remove files.
const CALLS: &[(c_long, &str, FileArgument)] = &[
    (libc::SYS_openat, "open", Open(1)),
    (libc::SYS_read, "read", Descriptor),
    (libc::SYS_pread64, "read", Descriptor),
    (libc::SYS_write, "write", Descriptor),
    (libc::SYS_pwrite64, "write", Descriptor),
    (libc::SYS_writev, "write", Descriptor),
    (libc::SYS_ftruncate, "truncate", Descriptor),
    (libc::SYS_fallocate, "allocate", Descriptor),
    (libc::SYS_fchmod, "chmod", Descriptor),
    (libc::SYS_fchmodat, "chmod", Named(1)),
    (libc::SYS_copy_file_range, "copy", Descriptor),
    (libc::SYS_fsync, "fsync", Descriptor),
    (libc::SYS_fdatasync, "fsync", Descriptor),
    (libc::SYS_flock, "flock", Descriptor),
    (libc::SYS_mkdirat, "mkdir", Named(1)),
    (libc::SYS_unlinkat, "unlink", Named(1)),
    (libc::SYS_renameat, "rename", Named(3)),
    (libc::SYS_renameat2, "rename", Named(3)),
    (libc::SYS_linkat, "link", Named(3)),
    (libc::SYS_symlinkat, "symlink", Named(2)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, "open", Open(0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, "create", Named(0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, "chmod", Named(0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mkdir, "mkdir", Named(0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_unlink, "unlink", Named(0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rename, "rename", Named(1)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_link, "link", Named(1)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_symlink, "symlink", Named(1)),
];

/// A call on a file that a thread is about to make.
pub struct FileCall {
    name: &'static str,
    pub path: String,
}

impl FileCall {
    pub fn of(thread: Pid, registers: &user_regs_struct) -> Option<Self> {
        let (number, arguments) = arguments(registers);
        let (_, name, argument) = CALLS.iter().find(|(known, ..)| u64::try_from(*known) == Ok(number))?;
        let creates = |flags: u64| flags & u64::from(libc::O_CREAT.unsigned_abs()) != 0;
        let (path, creates) = match argument {
            // The descriptor is in the low half only.
            Descriptor => (descriptor(thread, arguments[0] & 0xffff_ffff)?, false),
            Named(at) => (text(thread, arguments[*at])?, false),
            Open(at) => (text(thread, arguments[*at])?, creates(arguments[at + 1])),
        };
        Some(Self { name: if creates { "create" } else { name }, path })
    }

    /// The call on the store's folder, if it is one.
    pub fn on(&self, folder: &Path) -> Option<Call> {
        let within = Path::new(&self.path).strip_prefix(folder).ok()?;
        let extension = within.extension().map(|extension| extension.to_string_lossy().into_owned());
        Some(Call { name: self.name, file: extension.unwrap_or_else(|| "folder".to_owned()) })
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.file)
    }
}

fn descriptor(thread: Pid, number: u64) -> Option<String> {
    Some(fs::read_link(format!("/proc/{thread}/fd/{number}")).ok()?.to_string_lossy().into_owned())
}

/// The zero-terminated text at this address.
fn text(thread: Pid, address: u64) -> Option<String> {
    let memory = File::open(format!("/proc/{thread}/mem")).ok()?;
    let mut bytes = vec![0; libc::PATH_MAX.unsigned_abs() as usize];
    let read = memory.read_at(&mut bytes, address).ok()?;
    let end = bytes[..read].iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

#[cfg(target_arch = "x86_64")]
fn arguments(registers: &user_regs_struct) -> (u64, [u64; 4]) {
    (registers.orig_rax, [registers.rdi, registers.rsi, registers.rdx, registers.r10])
}

#[cfg(target_arch = "aarch64")]
fn arguments(registers: &user_regs_struct) -> (u64, [u64; 4]) {
    let [a, b, c, d, ..] = registers.regs;
    (registers.regs[8], [a, b, c, d])
}

/// The same call with invalid arguments (a descriptor of −1, a path at the end of memory), so that it does nothing. This makes a
/// call fail. The call's number is unchanged, because only some architectures let a tracer change it.
#[cfg(target_arch = "x86_64")]
pub fn with_invalid_arguments(mut registers: user_regs_struct) -> user_regs_struct {
    (registers.rdi, registers.rsi, registers.rdx, registers.r10) = (u64::MAX, u64::MAX, u64::MAX, u64::MAX);
    registers
}

#[cfg(target_arch = "aarch64")]
pub fn with_invalid_arguments(mut registers: user_regs_struct) -> user_regs_struct {
    registers.regs[..4].fill(u64::MAX);
    registers
}

/// The registers after a call, with this result.
#[cfg(target_arch = "x86_64")]
pub fn with_result(mut registers: user_regs_struct, result: i64) -> user_regs_struct {
    registers.rax = result.cast_unsigned();
    registers
}

#[cfg(target_arch = "aarch64")]
pub fn with_result(mut registers: user_regs_struct, result: i64) -> user_regs_struct {
    registers.regs[0] = result.cast_unsigned();
    registers
}

#[cfg(target_arch = "x86_64")]
pub fn result(registers: &user_regs_struct) -> i64 {
    registers.rax.cast_signed()
}

#[cfg(target_arch = "aarch64")]
pub fn result(registers: &user_regs_struct) -> i64 {
    registers.regs[0].cast_signed()
}
