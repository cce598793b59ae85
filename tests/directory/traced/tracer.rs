//! Runs processes from one call on the store's folder to the next. It can let a call through, make it fail, and kill the process
//! before or after it. It checks nothing.
//!
//! A traced process belongs to the thread that started it, and ends with that thread.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use nix::{
    errno::Errno,
    libc::user_regs_struct,
    sys::{
        ptrace::{self, Options},
        signal::{self, Signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::calls::{Call, FileCall, result, with_invalid_arguments, with_result};
use crate::{action::process, summary, world::World};

/// Called by the process to trace. It stops until the tracer continues it.
pub fn request_tracing() {
    ptrace::traceme().expect("a process may ask its parent to trace it");
    signal::raise(Signal::SIGSTOP).expect("a signal");
}

/// Whether this machine allows tracing; some containers do not. Prints a line if it does not.
pub fn permitted() -> bool {
    let world = World::empty();
    let mut tracer = Tracer::new(world.folder());
    let child = process(&world, "Create", 0).env("TRACED", "1").stderr(Stdio::null()).spawn().expect("a process");
    tracer.processes.push(Traced { child, stopped: Stopped::Not, pending: VecDeque::new() });
    let permitted = matches!(wait(), WaitStatus::Stopped(..));
    if !permitted {
        tracer.processes.clear();
        summary("directory: system calls not tested: ptrace is not allowed here");
    }
    permitted
}

/// A process, by the order of its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process(pub usize);

struct Traced {
    child: Child,
    stopped: Stopped,
    /// Calls that other threads of the process reached in the meantime: a write continues after its future is dropped.
    pending: VecDeque<(Pid, Call)>,
}

enum Stopped {
    /// Not stopped: it has not reached a call on the store.
    Not,
    /// This thread is about to make a call. It has these registers.
    Before(Pid, Box<user_regs_struct>),
    /// This thread has just made a call.
    After(Pid),
    Ended,
}

enum Event {
    Before(Pid, Call),
    After,
    Ended,
}

pub struct Tracer {
    folder: PathBuf,
    /// Set when a process creates a file of that name outside of the store. Faults end then.
    pub repaired: bool,
    processes: Vec<Traced>,
    /// The threads that are in a system call, and whether the call is on the store.
    in_a_call: BTreeMap<Pid, bool>,
}

impl Tracer {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, repaired: false, processes: Vec::new(), in_a_call: BTreeMap::new() }
    }

    /// Starts a process that calls [`request_tracing`].
    pub fn start(&mut self, mut command: Command) -> Process {
        let child = command.env("TRACED", "1").spawn().expect("a process");
        let process = Process(self.processes.len());
        self.processes.push(Traced { child, stopped: Stopped::Not, pending: VecDeque::new() });
        loop {
            match wait() {
                WaitStatus::Stopped(thread, Signal::SIGSTOP) => {
                    let options =
                        Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
                    ptrace::setoptions(thread, options).expect("options");
                    resume(thread, None);
                    return process;
                }
                other => assert!(self.handle(other).is_none(), "the process did not request tracing"),
            }
        }
    }

    /// Lets the process run until just before its next call on the store. `None` if it ended.
    pub fn next(&mut self, process: Process) -> Option<Call> {
        match self.processes[process.0].stopped {
            Stopped::Not => {}
            Stopped::After(thread) => resume(thread, None),
            Stopped::Before(..) | Stopped::Ended => panic!("the process is before a call, or has ended"),
        }
        let event = match self.processes[process.0].pending.pop_front() {
            Some((thread, call)) => Event::Before(thread, call),
            None => self.wait_for_event(),
        };
        match event {
            Event::Before(thread, call) => {
                let registers = Box::new(ptrace::getregs(thread).expect("registers"));
                self.processes[process.0].stopped = Stopped::Before(thread, registers);
                Some(call)
            }
            Event::Ended => {
                self.processes[process.0].stopped = Stopped::Ended;
                None
            }
            Event::After => unreachable!("no call was let through"),
        }
    }

    /// Lets the process make the call, and stops it right after. Returns the call's result.
    pub fn make(&mut self, process: Process) -> i64 {
        let Stopped::Before(thread, _) = self.processes[process.0].stopped else { panic!("no call to make") };
        resume(thread, None);
        loop {
            match self.wait_for_event() {
                Event::Before(other, call) => self.processes[process.0].pending.push_back((other, call)),
                Event::After => break,
                Event::Ended => panic!("the process ended in the call"),
            }
        }
        self.processes[process.0].stopped = Stopped::After(thread);
        result(&ptrace::getregs(thread).expect("registers"))
    }

    /// Makes the call fail with this error. The real call does nothing.
    pub fn fail(&mut self, process: Process, error: Errno) {
        let Stopped::Before(thread, registers) = &self.processes[process.0].stopped else { panic!("no call to fail") };
        let (thread, registers) = (*thread, **registers);
        ptrace::setregs(thread, with_invalid_arguments(registers)).expect("registers");
        // `flock` with an invalid command returns 0.
        assert!(self.make(process) <= 0, "a call succeeded that should fail");
        ptrace::setregs(thread, with_result(registers, -i64::from(error as i32))).expect("registers");
    }

    /// Kills the process, as `kill -9` does.
    pub fn kill(&mut self, process: Process) {
        let id = Pid::from_raw(self.id(process).cast_signed());
        signal::kill(id, Signal::SIGKILL).expect("the process");
        assert!(matches!(self.wait_for_event(), Event::Ended), "the process continued after it was killed");
        self.processes[process.0].stopped = Stopped::Ended;
    }

    pub fn id(&self, process: Process) -> u32 {
        self.processes[process.0].child.id()
    }

    fn wait_for_event(&mut self) -> Event {
        loop {
            if let Some(event) = self.handle(wait()) {
                return event;
            }
        }
    }

    /// Turns a wait status into an event. If it is none, lets the thread continue.
    fn handle(&mut self, status: WaitStatus) -> Option<Event> {
        match status {
            WaitStatus::PtraceSyscall(thread) => match self.in_a_call.remove(&thread) {
                None => {
                    let call = self.file_call(thread);
                    self.in_a_call.insert(thread, call.is_some());
                    if let Some(call) = call {
                        return Some(Event::Before(thread, call));
                    }
                }
                Some(true) => return Some(Event::After),
                Some(false) => {}
            },
            WaitStatus::Exited(id, _) | WaitStatus::Signaled(id, ..) => {
                self.in_a_call.remove(&id);
                let is_process = self.processes.iter().any(|process| process.child.id() == id.as_raw().unsigned_abs());
                return is_process.then_some(Event::Ended);
            }
            _ => {}
        }
        match status {
            // A new thread starts with a stop.
            WaitStatus::Stopped(thread, Signal::SIGSTOP) => resume(thread, None),
            WaitStatus::Stopped(thread, signal) => resume(thread, Some(signal)),
            status => resume(status.pid().expect("a thread"), None),
        }
        None
    }

    fn file_call(&mut self, thread: Pid) -> Option<Call> {
        // A thread that was killed in the meantime has no registers.
        let call = FileCall::of(thread, &ptrace::getregs(thread).ok()?)?;
        self.repaired |= call.path.ends_with("/repaired");
        call.on(&self.folder)
    }
}

impl Drop for Tracer {
    /// Leaves no process behind, also if a test fails.
    fn drop(&mut self) {
        for process in &mut self.processes {
            if !matches!(process.stopped, Stopped::Ended) {
                let _ = process.child.kill();
            }
        }
        // Also the traced threads: a process ends only after all its threads.
        while waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)).is_ok() {}
        for process in &mut self.processes {
            let _ = process.child.wait();
        }
    }
}

/// Waits for processes of this thread only: other tests have their own.
fn wait() -> WaitStatus {
    waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)).expect("a process to wait for")
}

fn resume(thread: Pid, signal: Option<Signal>) {
    match ptrace::syscall(thread, signal) {
        // `ESRCH`: the thread was killed.
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => panic!("a thread does not continue: {error}"),
    }
}
