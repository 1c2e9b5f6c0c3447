//! Nothing that was started outlives its owner, whatever happens to either.

use crate::support::leaks::{assert_nothing_left, marked_processes, our_zombies, until};
use crate::support::shims::{marked_shims, script};
use agentpool::domain::turn::StopForce;
use agentpool::process::{ChildExit, SpawnError};
use std::time::Duration;
use tokio::io::AsyncReadExt;

const SOON: Duration = Duration::from_secs(20);

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

#[tokio::test]
async fn a_missing_program_is_a_typed_error_and_leaves_nothing() {
    let (shims, mark) = marked_shims();
    let mut spec = script("");
    spec.program = "/no/such/program".into();
    assert!(matches!(shims.spawn(spec).await, Err(SpawnError::NotFound { .. })));
    until("the shim is collected", SOON, || shims.live() == 0).await;
    assert_nothing_left(&mark);
}

#[tokio::test]
async fn a_stop_empties_the_whole_tree() {
    let (shims, mark) = marked_shims();
    let child = shims
        .spawn(script("setsid sleep 1000 & (setsid bash -c 'sleep 1001 & disown; exit' &) ; wait"))
        .await
        .unwrap();
    until("the grandchildren run", SOON, || marked_processes(&mark).len() >= 4).await;
    child.stop(StopForce::Terminate).await;
    assert_nothing_left(&mark);
    assert_eq!(child.exited().await, ChildExit::Signal(15));
    assert!(our_zombies().is_empty());
}
