//! What is taken out to see whether the kill test notices.

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, dup2_stdout};
use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

/// What is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Nothing.
    None,
    /// Fences do not grow: each lease of a lane has the number of the one before, so that any writer's fence is right.
    NoFence,
    /// In the shim's place stands what one would write without much thought: it starts the child, tells how it ended, and ends
    /// the child (not its tree) when it is told to.
    NoShim,
}

impl Mutant {
    /// Has the test found what this one breaks?
    pub fn explains(self, found: &[String]) -> bool {
        let sign = match self {
            Self::None => return false,
            Self::NoFence => "zombie",
            Self::NoShim => "still alive",
        };
        found.iter().any(|line| line.contains(sign))
    }

    /// The trigger that breaks the rows, if this is one of them.
    pub fn sql(self) -> &'static str {
        match self {
            Self::None | Self::NoShim => "",
            Self::NoFence => {
                "CREATE FUNCTION audit.no_fence() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN
                     IF OLD.state = 2 AND NEW.state <> 2 THEN NEW.fence := OLD.fence - 1; END IF;
                     RETURN NEW;
                 END $$;
                 CREATE TRIGGER no_fence BEFORE UPDATE ON agentpool.lanes FOR EACH ROW EXECUTE FUNCTION audit.no_fence()"
            }
        }
    }

    /// How a node is started.
    pub fn program(self) -> std::path::PathBuf {
        match self {
            Self::None | Self::NoFence => crate::support::shims::agentpool(),
            // Ourselves: shims are started as /proc/self/exe, so that this program plays them too.
            Self::NoShim => std::env::current_exe().unwrap(),
        }
    }
}

/// Stands in for `agentpool shim`: same command line, same streams, same words, and nothing of what it is for.
pub fn naive_shim() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(2).collect();
    let (cwd, program, args) = (&args[9], &args[10], &args[11..]);
    assert!(cwd.as_encoded_bytes().starts_with(b"/"), "the shim's command line has changed: {args:?}");
    let lifeline = UnixDatagram::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let stream =
        |number: u32, how: &OpenOptions| Stdio::from(how.open(format!("/proc/self/fd/{number}")).unwrap());
    let (read, write) = (OpenOptions::new().read(true).clone(), OpenOptions::new().write(true).clone());
    let mut child = Command::new(program)
        .args(args)
        .current_dir(cwd)
        .stdin(stream(3, &read))
        .stdout(stream(4, &write))
        .stderr(stream(5, &write))
        .process_group(0)
        .spawn()
        .unwrap();
    // The lock of the data folder is let go: a node must be able to start again, or this would hide behind that.
    dup2_stdout(OpenOptions::new().write(true).open("/dev/null").unwrap()).unwrap();
    [3, 4, 5].into_iter().for_each(|number| nix::unistd::close(number).unwrap());
    let pid = child.id();
    lifeline.send(format!("started {pid}").as_bytes()).unwrap();
    let orders = lifeline.try_clone().unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 128];
        while let Ok(length @ 1..) = orders.recv(&mut packet) {
            if packet[..length].starts_with(b"stop") {
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
            }
        }
    });
    let code = child.wait().unwrap().code().unwrap_or(1);
    let _ = lifeline.send(format!("code {code}").as_bytes());
    ExitCode::SUCCESS
}
