//! Every pair of state and move, written out: the diagrams of the domain as tables.

use agentpool::domain::failure::FailureReason;
use agentpool::domain::session::{AgentSessionMove, AgentSessionStatus, IllegalAgentSessionMove};
use agentpool::domain::task::{IllegalTaskMove, TaskMove, TaskStatus};

#[test]
fn a_task_moves_exactly_as_its_diagram_says() {
    use TaskMove::{Cancel, Claim, Complete, Fail, Requeue, Start};
    use TaskStatus::{Cancelled, Completed, Dispatched, Failed, Queued, Running};
    let table: [(TaskStatus, TaskMove, Option<TaskStatus>); 36] = [
        (Queued, Claim, Some(Dispatched)),
        (Queued, Start, None),
        (Queued, Complete, None),
        (Queued, Fail, None),
        (Queued, Cancel, Some(Cancelled)),
        (Queued, Requeue, None),
        (Dispatched, Claim, None),
        (Dispatched, Start, Some(Running)),
        (Dispatched, Complete, Some(Completed)),
        (Dispatched, Fail, Some(Failed)),
        (Dispatched, Cancel, Some(Cancelled)),
        (Dispatched, Requeue, Some(Queued)),
        (Running, Claim, None),
        (Running, Start, None),
        (Running, Complete, Some(Completed)),
        (Running, Fail, Some(Failed)),
        (Running, Cancel, Some(Cancelled)),
        (Running, Requeue, Some(Queued)),
        (Completed, Claim, None),
        (Completed, Start, None),
        (Completed, Complete, None),
        (Completed, Fail, None),
        (Completed, Cancel, None),
        (Completed, Requeue, None),
        (Failed, Claim, None),
        (Failed, Start, None),
        (Failed, Complete, None),
        (Failed, Fail, None),
        (Failed, Cancel, None),
        (Failed, Requeue, None),
        (Cancelled, Claim, None),
        (Cancelled, Start, None),
        (Cancelled, Complete, None),
        (Cancelled, Fail, None),
        (Cancelled, Cancel, None),
        (Cancelled, Requeue, None),
    ];
    for (from, mv, to) in table {
        assert_eq!(from.after(mv), to.ok_or(IllegalTaskMove { from, mv }), "{from:?} {mv:?}");
    }
    let moves = [Claim, Start, Complete, Fail, Cancel, Requeue];
    for from in TaskStatus::ALL {
        for mv in moves {
            let rows = table.iter().filter(|row| (row.0, row.1) == (from, mv)).count();
            assert_eq!(rows, 1, "{from:?} {mv:?} stands in the table once");
        }
        let stuck = moves.iter().all(|mv| from.after(*mv).is_err());
        assert_eq!(from.is_final(), stuck, "{from:?} is final when nothing leads on");
    }
}

#[test]
fn a_conversation_moves_exactly_as_its_diagram_says() {
    use AgentSessionMove::{BackendLost, Close, TurnEnded, TurnStarted};
    use AgentSessionStatus::{Active, Closed, Crashed, Idle};
    let table: [(AgentSessionStatus, AgentSessionMove, Option<AgentSessionStatus>); 16] = [
        (Idle, TurnStarted, Some(Active)),
        (Idle, TurnEnded, None),
        (Idle, BackendLost, Some(Crashed)),
        (Idle, Close, Some(Closed)),
        (Active, TurnStarted, None),
        (Active, TurnEnded, Some(Idle)),
        (Active, BackendLost, Some(Crashed)),
        (Active, Close, Some(Closed)),
        (Crashed, TurnStarted, Some(Active)),
        (Crashed, TurnEnded, None),
        (Crashed, BackendLost, Some(Crashed)),
        (Crashed, Close, Some(Closed)),
        (Closed, TurnStarted, None),
        (Closed, TurnEnded, None),
        (Closed, BackendLost, None),
        (Closed, Close, Some(Closed)),
    ];
    for (from, mv, to) in table {
        assert_eq!(from.next(mv), to.ok_or(IllegalAgentSessionMove { from, mv }), "{from:?} {mv:?}");
    }
    for from in AgentSessionStatus::ALL {
        for mv in [TurnStarted, TurnEnded, BackendLost, Close] {
            let rows = table.iter().filter(|row| (row.0, row.1) == (from, mv)).count();
            assert_eq!(rows, 1, "{from:?} {mv:?} stands in the table once");
        }
    }
}

#[test]
fn every_failure_reason_has_its_three_columns() {
    // (word, may be retried, is charged to the task, poisons the conversation)
    let table: [(&str, bool, bool, bool); 19] = [
        ("spawn_failed", true, false, false),
        ("agent_incompatible", false, true, false),
        ("agent_crashed", true, true, false),
        ("stalled", true, true, false),
        ("timeout", false, true, false),
        ("rate_limited", true, false, false),
        ("auth_required", false, true, true),
        ("provider_error", true, true, false),
        ("bad_request", false, true, true),
        ("context_overflow", true, true, true),
        ("model_unknown", false, true, false),
        ("empty_turn", true, true, false),
        ("refused", false, true, false),
        ("project_unusable", false, true, false),
        ("worktree_failed", true, true, false),
        ("node_lost", true, false, false),
        ("drained", true, false, false),
        ("database_failed", true, false, false),
        ("internal", true, true, false),
    ];
    let columns = FailureReason::ALL.map(|reason| {
        let what = reason.consequence();
        (reason.as_str(), what.retry, what.charged, what.poisons)
    });
    assert_eq!(columns, table);
}

#[test]
fn every_word_leads_back_to_its_state() {
    for status in TaskStatus::ALL {
        assert_eq!(TaskStatus::parse(status.as_str()), Some(status));
    }
    for status in AgentSessionStatus::ALL {
        assert_eq!(AgentSessionStatus::parse(status.as_str()), Some(status));
    }
    for reason in FailureReason::ALL {
        assert_eq!(FailureReason::parse(reason.as_str()), Some(reason));
    }
    assert_eq!(TaskStatus::parse("Queued"), None);
    assert_eq!(FailureReason::parse(""), None);
}
