//! A server's system calls as strace tells them, each thread's in their order.

use std::fs;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::harness::{Server, PATIENCE};
use crate::programs::run;

/// One system call of a thread.
#[derive(Debug, Clone)]
pub struct Call {
    pub name: String,
    /// Arguments and what came of it.
    pub text: String,
    /// What it returned; below 0 where it failed.
    pub result: i64,
}

impl Call {
    /// `close(9</tmp/file>) = 0`
    fn parse(line: &str) -> Option<Call> {
        let (name, text) = line.split_once('(')?;
        let (_, result) = text.rsplit_once(" = ")?;
        let digits = result.find(|char: char| !char.is_ascii_digit() && char != '-');
        Some(Call {
            name: name.to_owned(),
            text: text.to_owned(),
            result: result[..digits.unwrap_or(result.len())]
                .parse()
                .unwrap_or(-1),
        })
    }

    pub fn succeeded(&self) -> bool {
        self.result >= 0
    }

    /// Whether strace had it fail.
    pub fn is_injected(&self) -> bool {
        self.text.contains("(INJECTED)")
    }

    /// The first argument, where that is a descriptor.
    pub fn descriptor(&self) -> Option<i64> {
        let end = self.text.find(|char: char| !char.is_ascii_digit())?;
        self.text[..end].parse().ok()
    }

    /// Whether it is about the descriptor.
    pub fn is_on(&self, descriptor: i64) -> bool {
        self.descriptor() == Some(descriptor)
    }

    /// Whether it writes to a pipe, as the log is in these tests.
    pub fn is_log(&self) -> bool {
        let end = self.text.find(',').unwrap_or(self.text.len());
        self.is_write() && self.text[..end].contains("<pipe:")
    }

    /// Whether it renames.
    pub fn is_rename(&self) -> bool {
        ["rename", "renameat", "renameat2"].contains(&&self.name[..])
    }

    /// Whether it syncs a file or directory.
    pub fn is_sync(&self) -> bool {
        ["fsync", "fdatasync"].contains(&&self.name[..])
    }

    /// Whether it writes to a file or sends.
    pub fn is_write(&self) -> bool {
        [
            "write", "writev", "pwrite64", "pwritev", "sendto", "sendmsg",
        ]
        .contains(&&self.name[..])
    }
}

/// strace on all threads of a server that runs already.
pub struct Tracing {
    strace: Child,
    directory: tempfile::TempDir,
}

impl Tracing {
    /// Traces from now on; calls are counted from here.
    pub fn attach(server: &Server, options: &[String]) -> Tracing {
        run(Command::new("strace").arg("-V")).succeeded();
        let directory = tempfile::tempdir().unwrap();
        let threads = server.usage().threads;
        let mut strace = Command::new("strace")
            .args(["-ff", "-y", "-s", "200", "-e", "signal=none"])
            .args(options)
            .arg("-o")
            .arg(directory.path().join("trace"))
            .args(["-p", &server.pid().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(strace.stderr.take().unwrap());
        let tracing = Tracing { strace, directory };
        // `strace: Process 7 attached with 5 threads`
        let mut attached = String::new();
        said.read_line(&mut attached).unwrap();
        // It ends at once where nobody reads what it says.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        assert!(
            attached.contains(&format!(" attached with {threads} threads")),
            "strace cannot trace a process that runs (kernel.yama.ptrace_scope?): {attached}"
        );
        tracing
    }

    /// Ends the trace and returns each thread's calls.
    pub fn detach(mut self) -> Vec<Vec<Call>> {
        let pid = Pid::from_child(&self.strace);
        rustix::process::kill_process(pid, Signal::INT).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while self.strace.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "strace does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
        read(self.directory.path())
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

fn read(directory: &Path) -> Vec<Vec<Call>> {
    let entries = fs::read_dir(directory).unwrap();
    entries
        .map(|entry| {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            text.lines().filter_map(Call::parse).collect()
        })
        .collect()
}

/// The calls of the thread that took a command, and which of them are from then to its completion
/// reply. In clear text.
pub fn served<'a>(
    threads: &'a [Vec<Call>],
    command: &str,
    code: u16,
) -> (&'a [Call], Range<usize>) {
    let took = |call: &Call| {
        ["recvfrom", "read", "recvmsg"].contains(&&call.name[..])
            && call.text.contains(&format!("\"{command}\\r\\n"))
    };
    let thread = threads.iter().find(|calls| calls.iter().any(took));
    let thread = thread.unwrap_or_else(|| panic!("nobody took {command}: {threads:#?}"));
    let begin = thread.iter().position(took).unwrap();
    let replied = |call: &Call| call.is_write() && call.text.contains(&format!("\"{code} "));
    let length = thread[begin..].iter().position(replied);
    let length = length.unwrap_or_else(|| panic!("no {code} to {command}"));
    (thread, begin..begin + length + 1)
}

/// The calls from a command's arrival to its completion reply.
pub fn between<'a>(threads: &'a [Vec<Call>], command: &str, code: u16) -> &'a [Call] {
    let (thread, range) = served(threads, command, code);
    &thread[range]
}
