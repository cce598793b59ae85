//! Which system calls act on files, and on which file one does, as the machine's registers tell. Changes nothing.

use std::{fs, fs::File, os::unix::fs::FileExt, path::Path};

use nix::{
    libc::{self, c_long, user_regs_struct},
    unistd::Pid,
};

/// A call on the store's folder, or on a file there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name, and `create` for an `open` that makes the file.
    pub name: &'static str,
    /// The ending of the file's name, or of the name it gets; `folder` for the folder itself.
    pub file: String,
}

/// Where a call's file is told.
#[derive(Clone, Copy)]
enum Told {
    /// By a descriptor, the first argument.
    Descriptor,
    /// By a path, the argument of this number.
    Path(usize),
    /// The same, and flags follow.
    Open(usize),
}

use Told::{Descriptor, Open, Path as Named};

/// The calls that read, write or lock files, change what a file is called, or make one.
const CALLS: &[(c_long, &str, Told)] = &[
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

/// The call a thread is about to make, where it is one on files.
pub struct FileCall {
    name: &'static str,
    pub path: String,
}

impl FileCall {
    pub fn of(thread: Pid, registers: &user_regs_struct) -> Option<Self> {
        let (number, arguments) = arguments(registers);
        let (_, name, told) = CALLS.iter().find(|(known, ..)| u64::try_from(*known) == Ok(number))?;
        let creates = |flags: u64| flags & u64::from(libc::O_CREAT.unsigned_abs()) != 0;
        let (path, creates) = match told {
            // Only the low half is the descriptor.
            Descriptor => (descriptor(thread, arguments[0] & 0xffff_ffff)?, false),
            Named(at) => (text(thread, arguments[*at])?, false),
            Open(at) => (text(thread, arguments[*at])?, creates(arguments[at + 1])),
        };
        Some(Self { name: if creates { "create" } else { name }, path })
    }

    /// The same as a call on the store, if it is one.
    pub fn on(&self, folder: &Path) -> Option<Call> {
        let within = Path::new(&self.path).strip_prefix(folder).ok()?;
        let ending = within.extension().map(|ending| ending.to_string_lossy().into_owned());
        Some(Call { name: self.name, file: ending.unwrap_or_else(|| "folder".to_owned()) })
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

/// The text that ends with a zero byte at this address.
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

/// The same call with arguments no call takes (a descriptor of −1, a path at the end of memory): it does nothing. For a
/// call that is to fail; the number is left alone, for only some machines let a tracer change that.
#[cfg(target_arch = "x86_64")]
pub fn made_void(mut registers: user_regs_struct) -> user_regs_struct {
    (registers.rdi, registers.rsi, registers.rdx, registers.r10) = (u64::MAX, u64::MAX, u64::MAX, u64::MAX);
    registers
}

#[cfg(target_arch = "aarch64")]
pub fn made_void(mut registers: user_regs_struct) -> user_regs_struct {
    registers.regs[..4].fill(u64::MAX);
    registers
}

/// The registers as they were before a call that has ended so.
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
