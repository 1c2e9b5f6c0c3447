//! Another process that owns children, to be killed, stopped and frozen in the place of this one: the test binary itself,
//! running one ignored test that plays the part.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A process that plays `part`, and is killed when it is dropped.
pub struct Owner {
    process: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Owner {
    /// Starts the ignored test `part` with these variables added to the environment.
    pub fn play<'a>(part: &str, vars: impl IntoIterator<Item = (&'a str, &'a OsStr)>) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", part, "--ignored", "--nocapture"])
            .envs(vars)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        Self { process, lines }
    }

    /// Reads on until it says `word: …` and returns the rest of that line. Panics when it ends before.
    pub fn hear(&mut self, word: &str) -> String {
        let mark = format!("{word}: ");
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "the owner ended before it said {word}");
            if let Some((_, rest)) = line.split_once(&mark) {
                return rest.trim_end().to_owned();
            }
        }
    }

    /// Sends it a signal by name.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.process.id().cast_signed()), signal).unwrap();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
