//! Leads processes from one call on the store's folder to the next. Knows how to let a call through, fail it, and end the
//! process before or after it; not what should come of it.
//!
//! A traced process belongs to the thread that started it, and ends with it.

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

use super::calls::{Call, FileCall, made_void, result, with_result};
use crate::{act::process, scene::Scene, summary};

/// Called by the process that is to be traced: it goes on when the tracer says so.
pub fn offer_to_be_traced() {
    ptrace::traceme().expect("a process may ask its parent to trace it");
    signal::raise(Signal::SIGSTOP).expect("a signal");
}

/// Whether this machine lets us trace; some containers do not. Says so where it does not.
pub fn permitted() -> bool {
    let scene = Scene::empty();
    let mut tracer = Tracer::new(scene.folder());
    let child = process(&scene, "Create", 0).env("TRACED", "1").stderr(Stdio::null()).spawn().expect("a process");
    tracer.processes.push(Traced { child, stopped: Stopped::Nowhere, to_come: VecDeque::new() });
    let permitted = matches!(wait(), WaitStatus::Stopped(..));
    if !permitted {
        tracer.processes.clear();
        summary("directory: not explored: no process may be traced here (ptrace)");
    }
    permitted
}

/// A process, by the order of its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process(pub usize);

struct Traced {
    child: Child,
    stopped: Stopped,
    /// Calls that other threads of it came to meanwhile: a write goes on when its future is dropped.
    to_come: VecDeque<(Pid, Call)>,
}

enum Stopped {
    /// Running, or not yet at a call on the store.
    Nowhere,
    /// This thread is about to make a call; its registers.
    Before(Pid, Box<user_regs_struct>),
    /// It has made it, and nothing after it.
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
    /// Set when a process makes a file of that name outside of the store: its disk is mended.
    pub mended: bool,
    processes: Vec<Traced>,
    /// The threads that are in a system call, and whether it is one on the store.
    in_a_call: BTreeMap<Pid, bool>,
}

impl Tracer {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, mended: false, processes: Vec::new(), in_a_call: BTreeMap::new() }
    }

    /// Starts a process that offers to be traced.
    pub fn start(&mut self, mut command: Command) -> Process {
        let child = command.env("TRACED", "1").spawn().expect("a process");
        let process = Process(self.processes.len());
        self.processes.push(Traced { child, stopped: Stopped::Nowhere, to_come: VecDeque::new() });
        loop {
            match wait() {
                WaitStatus::Stopped(thread, Signal::SIGSTOP) => {
                    let options =
                        Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
                    ptrace::setoptions(thread, options).expect("options");
                    resume(thread, None);
                    return process;
                }
                other => assert!(self.note(other).is_none(), "it did not offer to be traced"),
            }
        }
    }

    /// Lets the process run to its next call on the store, which it has not made yet. `None`: it has ended.
    pub fn next(&mut self, process: Process) -> Option<Call> {
        match self.processes[process.0].stopped {
            Stopped::Nowhere => {}
            Stopped::After(thread) => resume(thread, None),
            Stopped::Before(..) | Stopped::Ended => panic!("there is no next call before this one is made"),
        }
        let event = match self.processes[process.0].to_come.pop_front() {
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

    /// Makes the call, and stops right after it. What the kernel answered.
    pub fn make(&mut self, process: Process) -> i64 {
        let Stopped::Before(thread, _) = self.processes[process.0].stopped else { panic!("no call to make") };
        resume(thread, None);
        loop {
            match self.wait_for_event() {
                Event::Before(other, call) => self.processes[process.0].to_come.push_back((other, call)),
                Event::After => break,
                Event::Ended => panic!("it did not come back from the call"),
            }
        }
        self.processes[process.0].stopped = Stopped::After(thread);
        result(&ptrace::getregs(thread).expect("registers"))
    }

    /// Answers the call with an error, and does not make it.
    pub fn fail(&mut self, process: Process, error: Errno) {
        let Stopped::Before(thread, registers) = &self.processes[process.0].stopped else { panic!("no call to fail") };
        let (thread, registers) = (*thread, **registers);
        ptrace::setregs(thread, made_void(registers)).expect("registers");
        // `flock` with a command that is none answers 0.
        assert!(self.make(process) <= 0, "a call was made that was to fail");
        ptrace::setregs(thread, with_result(registers, -i64::from(error as i32))).expect("registers");
    }

    /// Ends the process where it stands, as `kill -9` does.
    pub fn kill(&mut self, process: Process) {
        let id = Pid::from_raw(self.id(process).cast_signed());
        signal::kill(id, Signal::SIGKILL).expect("the process");
        assert!(matches!(self.wait_for_event(), Event::Ended), "it went on after it was killed");
        self.processes[process.0].stopped = Stopped::Ended;
    }

    pub fn id(&self, process: Process) -> u32 {
        self.processes[process.0].child.id()
    }

    fn wait_for_event(&mut self) -> Event {
        loop {
            if let Some(event) = self.note(wait()) {
                return event;
            }
        }
    }

    /// What the tracer is told, made an event where it is one. Else the thread goes on.
    fn note(&mut self, status: WaitStatus) -> Option<Event> {
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
            // A new thread starts with a stop that no one asked for.
            WaitStatus::Stopped(thread, Signal::SIGSTOP) => resume(thread, None),
            WaitStatus::Stopped(thread, signal) => resume(thread, Some(signal)),
            status => resume(status.pid().expect("a thread"), None),
        }
        None
    }

    fn file_call(&mut self, thread: Pid) -> Option<Call> {
        // A thread that was killed meanwhile has no registers.
        let call = FileCall::of(thread, &ptrace::getregs(thread).ok()?)?;
        self.mended |= call.path.ends_with("/mended");
        call.on(&self.folder)
    }
}

impl Drop for Tracer {
    /// Leaves no process behind, also where a test fails.
    fn drop(&mut self) {
        for process in &mut self.processes {
            if !matches!(process.stopped, Stopped::Ended) {
                let _ = process.child.kill();
            }
        }
        // Its traced threads, too: a process is not gone before they are.
        while waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)).is_ok() {}
        for process in &mut self.processes {
            let _ = process.child.wait();
        }
    }
}

/// Waits for this thread's processes alone: other tests have theirs.
fn wait() -> WaitStatus {
    waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)).expect("a process to wait for")
}

fn resume(thread: Pid, signal: Option<Signal>) {
    match ptrace::syscall(thread, signal) {
        // It was killed.
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => panic!("a thread does not go on: {error}"),
    }
}
