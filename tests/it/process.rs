//! Nothing that was started outlives its owner, whatever happens to either.

use crate::support::leaks::{assert_nothing_left, is_alive, marked_processes, our_zombies, until};
use crate::support::owner::Owner;
use crate::support::shims::{agentpool, fresh_mark, hasty, marked_shims, script};
use agentpool::domain::turn::StopForce;
use agentpool::process::{Account, ChildExit, Shims, SpawnError, StdinMode, boottime_ms};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::parent_id;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

/// How long a loaded machine may take for what takes milliseconds.
const SOON: Duration = Duration::from_secs(30);

/// A tree of the worst kind: a leader deaf to TERM, a tool in a session of its own, an orphan by double fork.
const STUBBORN: &str = "trap '' TERM; setsid sleep 1000 & (setsid bash -c 'sleep 1001 & disown; exit' &); \
                        while :; do sleep 1; done";

/// Shim, leader and two sleepers; the leader's own short sleeps come and go.
const STUBBORN_SIZE_MIN: usize = 4;

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

/// The shim of a child is its parent.
fn parent_of(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_child_speaks_and_its_exit_code_is_told() {
    let (shims, mark) = marked_shims();
    let mut child = shims.spawn(script("echo out; echo err >&2; exit 7")).await.unwrap();
    let mut out = String::new();
    child.take_stdout().unwrap().read_to_string(&mut out).await.unwrap();
    assert_eq!(child.exited().await, ChildExit::Code(7));
    assert_eq!((out.as_str(), child.stderr_tail().as_str()), ("out\n", "err\n"));
    child.gone().await;
    assert_eq!(child.exited().await, ChildExit::Code(7), "it may be asked again");
    assert_eq!(shims.live(), 0);
    assert_nothing_left(&mark);
}

/// The shim's end and its last report race each other to us; of two hundred a few were once lost.
#[tokio::test(flavor = "multi_thread")]
async fn no_exit_and_no_failure_to_start_is_ever_lost() {
    let (shims, _) = marked_shims();
    for _ in 0..100 {
        let child = shims.spawn(script("exit 3")).await.unwrap();
        assert_eq!(child.exited().await, ChildExit::Code(3));
        let mut missing = script("");
        missing.program = "/no/such/program".into();
        assert!(matches!(shims.spawn(missing).await, Err(SpawnError::NotFound { .. })));
    }
}

/// An orphan has lost its parent, not its owner.
#[tokio::test]
async fn a_child_weighs_what_its_orphans_weigh_too() {
    let (shims, mark) = marked_shims();
    let fat = "x=$(head -c 60000000 /dev/zero | tr '\\0' a); echo ready; sleep 1000; :";
    let mut child = shims
        .spawn(script(&format!("(setsid bash -c \"{}\" &); sleep 1000", fat.replace('$', "\\$"))))
        .await
        .unwrap();
    let mut lines = BufReader::new(child.take_stdout().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("ready"));
    let other = shims.spawn(script("sleep 1000")).await.unwrap();
    let weights = shims.weigh(&[child.pid(), other.pid()]);
    assert!(weights.by_child[&child.pid()] > 60_000_000, "{weights:?}");
    assert!(weights.by_child[&other.pid()] < 20_000_000, "{weights:?}");
    assert_eq!(weights.strays, 0);
    tokio::join!(child.stop(StopForce::Kill), other.stop(StopForce::Kill));
    assert_nothing_left(&mark);
}

#[tokio::test]
async fn what_is_written_to_a_child_arrives_and_ends() {
    let (shims, _) = marked_shims();
    let mut child = shims.spawn(stdin_piped("cat")).await.unwrap();
    let mut stdin = child.take_stdin().unwrap();
    stdin.write_all(b"hello").await.unwrap();
    drop(stdin);
    let mut out = String::new();
    child.take_stdout().unwrap().read_to_string(&mut out).await.unwrap();
    assert_eq!(out, "hello");
    assert_eq!(child.exited().await, ChildExit::Code(0));
}

#[tokio::test]
async fn a_child_gets_three_streams_a_clean_signal_mask_and_no_more() {
    let (shims, _) = marked_shims();
    let mut child = shims.spawn(script("ls /proc/self/fd; grep SigBlk /proc/self/status")).await.unwrap();
    let mut out = String::new();
    child.take_stdout().unwrap().read_to_string(&mut out).await.unwrap();
    // The last is the folder that `ls` itself reads.
    assert_eq!(out, "0\n1\n2\n3\nSigBlk:\t0000000000000000\n");
}

#[tokio::test]
async fn our_environment_is_not_inherited() {
    let canary = "CARGO_MANIFEST_DIR";
    assert!(std::env::var_os(canary).is_some(), "run by cargo, this process has it");
    let (shims, mark) = marked_shims();
    let mut child = shims.spawn(script("env")).await.unwrap();
    let mut out = String::new();
    child.take_stdout().unwrap().read_to_string(&mut out).await.unwrap();
    assert!(out.contains(&format!("AGENTPOOL_MARK={mark}\n")), "{out}");
    assert!(!out.contains(canary), "{out}");
}

#[tokio::test]
async fn what_cannot_be_started_is_a_typed_error_and_leaves_nothing() {
    let (shims, mark) = marked_shims();
    let folder = tempfile::tempdir().unwrap();
    let plain_file = folder.path().join("plain");
    fs::write(&plain_file, "x").unwrap();

    let mut missing = script("");
    missing.program = "no-such-program-anywhere".into();
    assert!(matches!(shims.spawn(missing).await, Err(SpawnError::NotFound { .. })));
    let mut behind_a_closed_folder = script("");
    behind_a_closed_folder.program = "no-such-program-anywhere".into();
    let path = format!("{}/x:/usr/bin", plain_file.display());
    behind_a_closed_folder.env = behind_a_closed_folder.env.set("PATH", path);
    assert!(matches!(shims.spawn(behind_a_closed_folder).await, Err(SpawnError::NotFound { .. })));
    let mut forbidden = script("");
    forbidden.program = plain_file;
    assert!(matches!(shims.spawn(forbidden).await, Err(SpawnError::NotExecutable { .. })));
    let mut homeless = script("");
    homeless.cwd = folder.path().join("missing");
    assert!(matches!(shims.spawn(homeless).await, Err(SpawnError::Cwd { .. })));

    let shimless = Shims::new("/no/such/shim".into(), fresh_mark(), None);
    assert!(matches!(shimless.spawn(script("")).await, Err(SpawnError::Shim(_))));
    until("the shims are collected", SOON, || shims.live() == 0).await;
    assert_nothing_left(&mark);
}

#[test]
fn a_closed_folder_is_found_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    let stranger = Account { uid: 54_321, gid: 54_321 };
    let closed = stranger.first_closed_folder(&inner).unwrap();
    assert!(folder.path().starts_with(closed), "it, or what the machine closes above it: {closed:?}");
    assert_eq!(stranger.first_closed_folder("/usr/bin".as_ref()), None);
    let missing = Path::new("/usr/missing");
    assert_eq!(stranger.first_closed_folder(&missing.join("below")), Some(missing));
}

#[tokio::test]
async fn a_stop_empties_the_whole_tree() {
    let (shims, mark) = marked_shims();
    let mut spec = script(STUBBORN);
    spec.grace = Duration::from_millis(200);
    let child = shims.spawn(spec).await.unwrap();
    until("the grandchildren run", SOON, || marked_processes(&mark).len() >= STUBBORN_SIZE_MIN).await;
    child.stop(StopForce::Terminate).await;
    assert_nothing_left(&mark);
    assert_eq!(child.exited().await, ChildExit::Signal(9), "deaf to TERM, it had to be killed");
    assert_eq!(our_zombies(), Vec::<u32>::new());
    child.stop(StopForce::Terminate).await;
}

#[tokio::test]
async fn a_child_that_obeys_is_not_killed() {
    let (shims, _) = marked_shims();
    let mut spec = script("trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done");
    spec.grace = Duration::from_secs(3600);
    let mut child = shims.spawn(spec).await.unwrap();
    let mut lines = BufReader::new(child.take_stdout().unwrap()).lines();
    lines.next_line().await.unwrap();
    child.stop(StopForce::Ask).await;
    assert_eq!(child.exited().await, ChildExit::Code(5));
}

#[tokio::test]
async fn a_stop_rises_to_a_kill_and_never_falls_back() {
    let (shims, mark) = marked_shims();
    let mut spec = script(STUBBORN);
    spec.grace = Duration::from_secs(3600);
    let child = shims.spawn(spec).await.unwrap();
    until("the grandchildren run", SOON, || marked_processes(&mark).len() >= STUBBORN_SIZE_MIN).await;
    let patient = child.stop(StopForce::Terminate);
    tokio::pin!(patient);
    assert!(futures::poll!(&mut patient).is_pending());
    let kill_then_ask = async {
        child.stop(StopForce::Kill).await;
        child.stop(StopForce::Ask).await;
    };
    tokio::time::timeout(SOON, async { tokio::join!(patient, kill_then_ask) }).await.unwrap();
    assert_nothing_left(&mark);
}

#[tokio::test]
async fn a_tree_that_forks_while_it_is_asked_to_end_is_emptied() {
    let (shims, mark) = marked_shims();
    let spec = script(
        "trap 'for i in 1 2 3 4; do setsid sleep 1000 & done; exit' TERM; echo; while :; do sleep 0.01; done",
    );
    let mut child = shims.spawn(spec).await.unwrap();
    BufReader::new(child.take_stdout().unwrap()).lines().next_line().await.unwrap();
    child.stop(StopForce::Terminate).await;
    assert_nothing_left(&mark);
}

#[tokio::test]
async fn a_dropped_handle_ends_the_tree() {
    let (shims, mark) = marked_shims();
    let mut spec = script(STUBBORN);
    spec.grace = Duration::from_millis(200);
    let child = shims.spawn(spec).await.unwrap();
    until("the grandchildren run", SOON, || marked_processes(&mark).len() >= STUBBORN_SIZE_MIN).await;
    let exited = child.exited();
    drop(child);
    assert_eq!(exited.await, ChildExit::Signal(9), "the exit is still told");
    until("the shim is collected", SOON, || shims.live() == 0).await;
    assert_nothing_left(&mark);
    assert_eq!(our_zombies(), Vec::<u32>::new());
}

#[tokio::test]
async fn an_exit_is_told_at_once_although_a_grandchild_holds_the_streams() {
    let (shims, mark) = marked_shims();
    let child = shims.spawn(script("setsid sleep 1000 & echo last words >&2; exit 3")).await.unwrap();
    let begun = Instant::now();
    assert_eq!(child.exited().await, ChildExit::Code(3));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(child.stderr_tail(), "last words\n");
    child.gone().await;
    assert_nothing_left(&mark);
}

#[tokio::test]
async fn floods_on_both_streams_block_nobody_and_stay_small() {
    let (shims, _) = marked_shims();
    let flood = "head -c 20000000 /dev/zero | tr '\\0' x >&2; head -c 20000000 /dev/zero; echo end >&2";
    let child = shims.spawn(script(flood)).await.unwrap();
    assert_eq!(child.exited().await, ChildExit::Code(0));
    let tail = child.stderr_tail();
    assert!(tail.ends_with("xend\n"));
    assert_eq!(tail.len(), 64 << 10);
}

#[tokio::test]
async fn a_shim_is_deaf_and_collects_orphans() {
    let (shims, mark) = marked_shims();
    let orphans = "for i in 1 2 3 4 5 6 7 8; do (setsid true &); done; echo ready; cat; exit";
    let mut child = shims.spawn(stdin_piped(orphans)).await.unwrap();
    let mut lines = BufReader::new(child.take_stdout().unwrap()).lines();
    lines.next_line().await.unwrap();
    let shim = parent_of(child.pid());
    for signal in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGTERM, Signal::SIGQUIT] {
        send(shim, signal);
    }
    // Sent after the signals, so that an answer shows that the shim has lived through them.
    let mut stdin = child.take_stdin().unwrap();
    stdin.write_all(b"still there\n").await.unwrap();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "still there");
    until("shim, bash and cat are all that is left", SOON, || {
        let children = fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).unwrap();
        marked_processes(&mark).len() == 3 && children.split_ascii_whitespace().count() == 1
    })
    .await;
}

#[tokio::test]
async fn a_child_that_kills_its_own_group_does_not_hit_the_shim() {
    let (shims, mark) = marked_shims();
    let child = shims.spawn(script("setsid sleep 1000 & kill -KILL 0")).await.unwrap();
    assert_eq!(child.exited().await, ChildExit::Signal(9));
    child.gone().await;
    assert_nothing_left(&mark);
}

#[tokio::test]
async fn a_killed_shim_is_swept_up_after_and_its_neighbours_live() {
    let (shims, mark) = marked_shims();
    let neighbour = shims.spawn(script("setsid sleep 1000 & wait")).await.unwrap();
    let victim = shims.spawn(script(STUBBORN)).await.unwrap();
    until("both trees run", SOON, || marked_processes(&mark).len() >= STUBBORN_SIZE_MIN + 3).await;
    send(parent_of(victim.pid()), Signal::SIGKILL);
    assert_eq!(victim.exited().await, ChildExit::Unknown);
    victim.gone().await;
    assert!(!is_alive(victim.pid()));
    assert_eq!(marked_processes(&mark).len(), 3, "the neighbour's shim, shell and tool");
    assert_eq!(shims.live(), 1);
    neighbour.stop(StopForce::Kill).await;
    assert_nothing_left(&mark);
}

#[tokio::test]
async fn a_lease_that_is_not_renewed_ends_its_children_and_no_others() {
    let (shims, _) = marked_shims();
    let mut leased = script("sleep 1000");
    leased.serves_leases = true;
    let other = shims.spawn(script("sleep 1000")).await.unwrap();
    let leased = shims.spawn(leased).await.unwrap();
    let exited = leased.exited();
    tokio::pin!(exited);
    assert!(
        tokio::time::timeout(Duration::from_millis(1500), &mut exited).await.is_err(),
        "no lease, no end"
    );
    // Acknowledged 11 s ago: with 2 s of grace the end is to begin at once.
    shims.lease_clock().renewed(boottime_ms() - 11_000);
    assert_eq!(tokio::time::timeout(SOON, exited).await.unwrap(), ChildExit::Signal(15));
    assert!(is_alive(other.pid()));
    other.stop(StopForce::Kill).await;
}

#[tokio::test]
async fn beats_keep_a_child_alive_over_many_deadlines() {
    let shims = Shims::with_timing(agentpool(), fresh_mark(), None, hasty());
    let mut child = shims.spawn(script("while sleep 0.1; do echo; done")).await.unwrap();
    let mut lines = BufReader::new(child.take_stdout().unwrap()).lines();
    let begun = Instant::now();
    while begun.elapsed() < 3 * hasty().good_for {
        assert!(lines.next_line().await.unwrap().is_some(), "it died after {:?}", begun.elapsed());
    }
    child.stop(StopForce::Kill).await;
}

#[tokio::test]
async fn the_lock_stays_held_until_the_last_shim_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lock");
    let lock = File::create(&path).unwrap();
    lock.try_lock().unwrap();
    let is_free = || File::open(&path).unwrap().try_lock().is_ok();
    let shims = Shims::new(agentpool(), fresh_mark(), Some(Arc::new(lock.into())));
    let child = shims.spawn(script("echo; sleep 1000")).await.unwrap();
    let holds = |pid: u32| {
        fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .any(|fd| fs::read_link(fd.unwrap().path()).is_ok_and(|target| target == path))
    };
    assert!(holds(parent_of(child.pid())), "the shim holds it");
    assert!(!holds(child.pid()), "the child does not");
    drop(shims);
    assert!(!is_free());
    child.stop(StopForce::Kill).await;
    drop(child);
    until("the lock is free", SOON, is_free).await;
}

#[tokio::test]
async fn nothing_is_left_after_sigkill_of_the_owner() {
    let mark = fresh_mark();
    let mut owner = own(&mark, STUBBORN, "design");
    owner.hear("child");
    until("the grandchildren run", SOON, || marked_processes(&mark).len() >= STUBBORN_SIZE_MIN).await;
    owner.signal(Signal::SIGKILL);
    until("the tree is gone", SOON, || marked_processes(&mark).is_empty()).await;
}

#[tokio::test]
async fn nothing_is_left_when_the_owner_is_stopped_past_the_deadline() {
    let mark = fresh_mark();
    let mut owner = own(&mark, STUBBORN, "hasty");
    owner.hear("child");
    until("the grandchildren run", SOON, || marked_processes(&mark).len() >= STUBBORN_SIZE_MIN).await;
    owner.signal(Signal::SIGSTOP);
    until("the tree is gone", SOON, || marked_processes(&mark).iter().all(|pid| !has_child(*pid))).await;
    owner.signal(Signal::SIGCONT);
    assert_eq!(owner.hear("ended"), "Signal(9)", "awake again, the owner is told");
    until("the shim is gone too", SOON, || marked_processes(&mark).is_empty()).await;
}

/// The owner that the two tests above kill and freeze: the real thing in another process.
#[tokio::test]
#[ignore = "a part that other tests start in a process of its own"]
async fn owner_of_a_script() {
    let var = |name: &str| std::env::var(name).expect("set by whoever starts this part");
    let timing = if var("OWNER_TIMING") == "hasty" { hasty() } else { Default::default() };
    let shims = Shims::with_timing(agentpool(), var("OWNER_MARK"), None, timing);
    let mut spec = script(&var("OWNER_SCRIPT"));
    spec.grace = Duration::from_millis(300);
    let child = shims.spawn(spec).await.unwrap();
    println!("child: {} of {}", child.pid(), parent_id());
    println!("ended: {:?}", child.exited().await);
    child.gone().await;
}

fn own(mark: &str, text: &str, timing: &str) -> Owner {
    let vars = [("OWNER_MARK", mark), ("OWNER_SCRIPT", text), ("OWNER_TIMING", timing)];
    Owner::play("process::owner_of_a_script", vars.map(|(name, value)| (name, OsStr::new(value))))
}

fn has_child(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).is_ok_and(|children| !children.is_empty())
}

fn stdin_piped(text: &str) -> agentpool::process::ChildSpec {
    let mut spec = script(text);
    spec.stdin = StdinMode::Piped;
    spec
}
