//! The command line between us and the shim. Both sides are of the same binary, so that it has no versions and no help.

use super::super::cgroup::Group;
use super::super::clock::Clock;
use super::super::{Account, ChildSpec, StopPlan, Timing};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// What the shim is told at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Options {
    pub(super) name: String,
    pub(super) clock: Clock,
    pub(super) deadline: i64,
    pub(super) stop: StopPlan,
    pub(super) grace: Duration,
    pub(super) hurried_grace: Duration,
    pub(super) run_as: Option<Account>,
    pub(super) group: Option<Group>,
    pub(super) cwd: PathBuf,
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
}

impl Options {
    pub(in super::super) fn new(
        spec: &ChildSpec,
        timing: &Timing,
        clock: Clock,
        deadline: i64,
        group: Option<Group>,
    ) -> Self {
        Self {
            name: spec.name.clone(),
            clock,
            deadline,
            stop: spec.stop,
            grace: spec.grace,
            hurried_grace: if spec.serves_leases { spec.grace.min(timing.lead_max) } else { spec.grace },
            run_as: spec.run_as,
            group,
            cwd: spec.cwd.clone(),
            program: spec.program.clone(),
            args: spec.args.clone(),
        }
    }

    /// The arguments that [`Options::parse`] reads back.
    pub(in super::super) fn to_args(&self) -> Vec<OsString> {
        let stop = match self.stop {
            StopPlan::Terminate => "terminate",
            StopPlan::PostgresFast => "postgres-fast",
        };
        let mut args: Vec<OsString> = vec![
            (&self.name).into(),
            self.clock.as_str().into(),
            self.deadline.to_string().into(),
            stop.into(),
            self.grace.as_millis().to_string().into(),
            self.hurried_grace.as_millis().to_string().into(),
            self.run_as.map_or("-".into(), |Account { uid, gid }| format!("{uid}:{gid}").into()),
            self.group.as_ref().map_or("-".into(), |group| group.folder.clone().into()),
            self.group.as_ref().map_or("-".into(), |group| group.back.clone().into()),
            self.cwd.clone().into(),
            self.program.clone().into(),
        ];
        args.extend(self.args.iter().cloned());
        args
    }

    /// # Errors
    /// When this is no command line of ours: somebody called the shim by hand.
    pub(super) fn parse(mut args: impl Iterator<Item = OsString>) -> io::Result<Self> {
        let mut next = || args.next().ok_or_else(not_ours);
        let name = word(next()?)?;
        let clock = Clock::parse(&word(next()?)?).ok_or_else(not_ours)?;
        let deadline = word(next()?)?.parse().map_err(|_| not_ours())?;
        let stop = match word(next()?)?.as_str() {
            "terminate" => StopPlan::Terminate,
            "postgres-fast" => StopPlan::PostgresFast,
            _ => return Err(not_ours()),
        };
        let grace = duration(&word(next()?)?)?;
        let hurried_grace = duration(&word(next()?)?)?;
        let run_as = account(&word(next()?)?)?;
        let (folder, back) = (next()?, next()?);
        let group = (folder != "-").then(|| Group { folder: folder.into(), back: back.into() });
        let (cwd, program) = (next()?.into(), next()?.into());
        let args = args.collect();
        Ok(Self { name, clock, deadline, stop, grace, hurried_grace, run_as, group, cwd, program, args })
    }
}

fn word(arg: OsString) -> io::Result<String> {
    arg.into_string().map_err(|_| not_ours())
}

fn duration(millis: &str) -> io::Result<Duration> {
    millis.parse().map(Duration::from_millis).map_err(|_| not_ours())
}

fn account(word: &str) -> io::Result<Option<Account>> {
    if word == "-" {
        return Ok(None);
    }
    let (uid, gid) = word.split_once(':').ok_or_else(not_ours)?;
    let number = |text: &str| text.parse().map_err(|_| not_ours());
    Ok(Some(Account { uid: number(uid)?, gid: number(gid)? }))
}

fn not_ours() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "this command is started by agentpool only")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shim_reads_what_we_wrote() {
        let options = Options {
            name: "a b".into(),
            clock: Clock::Boottime,
            deadline: i64::MIN,
            stop: StopPlan::PostgresFast,
            grace: Duration::from_millis(1500),
            hurried_grace: Duration::ZERO,
            run_as: Some(Account { uid: 101, gid: 104 }),
            group: Some(Group { folder: "/g/agentpool-1-0".into(), back: "/g".into() }),
            cwd: "/".into(),
            program: "sh".into(),
            args: vec!["-c".into(), "".into(), "--".into()],
        };
        assert_eq!(Options::parse(options.to_args().into_iter()).unwrap(), options);
        let free = Options { group: None, run_as: None, ..options };
        assert_eq!(Options::parse(free.to_args().into_iter()).unwrap(), free);
        assert!(Options::parse(["--help".into()].into_iter()).is_err());
    }
}
