//! What agentpool adds to a warm turn, and where the time of one goes. The same prompt goes to the same server through the queue
//! and by plain HTTP, in turn, so that whatever else the machine does hits both.

use super::direct::{Conversation, Ear, Server, Took};
use super::figures::{Breakdown, Figure, Goal, Report, Samples};
use super::stage::{Clock, Running, Stage, Turn, repository};
use crate::support::repos::Repos;
use chrono::{DateTime, Utc};
use std::time::Instant;
use uuid::Uuid;

/// One word, so that the model's pauses between words do not count.
pub const PROMPT: &str = "SAY: warm";
pub const ANSWER: &str = "warm";
/// Turns of each kind before it counts: caches of both sides, prepared statements.
const WARM_UP: usize = 5;

const CLAIM: &str = "claim: INSERT committed to dispatched";
const PREPARE: &str = "prepare: worktree, checkpoint, slot, to running";
const HAND_OVER: &str = "hand over: prompt to the agent";
const AGENT: &str = "the agent's own time";
const CHANGES: &str = "checkpoint, changes, result and log stored";
const FINISH: &str = "finish: final row committed and read";

const PLAIN_HAND_OVER: &str = "  by plain HTTP: hand over";
const PLAIN_AGENT: &str = "  by plain HTTP: the agent's own time";

const PLAIN_THERE: &str = "  by plain HTTP: is the conversation there (part of prepare)";
const PLAIN_IDLE: &str = "  by plain HTTP: is it idle (part of hand over)";

/// A session with its worktree, and a conversation of the other kind in the same worktree.
pub struct Pair {
    pub repos: Repos,
    pub session: Uuid,
    agent_session: String,
    direct: Conversation,
    ear: Ear,
    files: usize,
}

/// Measures in a repository of that size; the median of a warm turn in ms, and the session to go on with.
pub async fn measure(
    stage: &Stage,
    running: &mut Running,
    files: usize,
    rounds: usize,
    goal_ms: f64,
    report: &mut Report,
) -> (f64, Pair) {
    let mut pair = open(running, files).await;
    for _ in 0..WARM_UP {
        running.database.turn(pair.session, PROMPT).await;
        pair.direct.turn(&mut pair.ear, PROMPT, ANSWER).await;
    }
    let (mut pooled, mut direct, mut steps) = (Samples::default(), Vec::new(), Vec::new());
    let mut questions = Vec::new();
    for round in 0..rounds {
        questions.push(pair.direct.questions().await);
        // Whoever goes second finds warmer caches: they take turns at that too.
        if round % 2 == 1 {
            direct.push(pair.direct.turn(&mut pair.ear, PROMPT, ANSWER).await);
        }
        pair.ear.take();
        let turn = running.database.turn(pair.session, PROMPT).await;
        pooled.0.push(turn.ended.duration_since(turn.inserted).as_secs_f64() * 1e3);
        let (taken, idle) = pair.ear.whole_turn(&pair.agent_session).await;
        steps.push(took(stage.clock, running, &turn, taken.at, idle.at).await);
        if round % 2 == 0 {
            direct.push(pair.direct.turn(&mut pair.ear, PROMPT, ANSWER).await);
        }
    }
    let of_plain = |part: fn(&Took) -> f64| direct.iter().map(part).collect::<Samples>();
    tell(&pair, &pooled, &of_plain(|took| took.all_ms), goal_ms, report);
    let names = [CLAIM, PREPARE, HAND_OVER, AGENT, CHANGES, FINISH];
    let of_step = |step: usize| steps.iter().map(|took| took[step]).collect();
    let steps = names.iter().enumerate().map(|(step, name)| (*name, of_step(step))).collect();
    let plain = vec![
        (PLAIN_HAND_OVER, of_plain(|took| took.hand_over_ms)),
        (PLAIN_AGENT, of_plain(|took| took.agent_ms)),
        (PLAIN_THERE, questions.iter().map(|[there, _]| *there).collect()),
        (PLAIN_IDLE, questions.iter().map(|[_, idle]| *idle).collect()),
    ];
    report.breakdowns.push(Breakdown { files: pair.files, steps, plain });
    (pooled.median(), pair)
}

async fn open(running: &mut Running, files: usize) -> Pair {
    let repos = repository(files);
    let session = running.session(&repos.user).await.id;
    running.database.turn(session, PROMPT).await;
    let server = Server::of(running).await;
    let query = "SELECT a.agent_session_id, w.worktree_path FROM agentpool.agent_sessions a
                 JOIN agentpool.session_worktrees w USING (session_id) WHERE session_id = $1";
    let row = running.database.sql().query_one(query, &[&session]).await.unwrap();
    let ear = server.listen().await;
    let direct = server.open(row.get(1)).await;
    Pair { repos, session, agent_session: row.get(0), direct, ear, files }
}

fn tell(pair: &Pair, pooled: &Samples, direct: &Samples, goal_ms: f64, report: &mut Report) {
    let over: Samples = pooled.0.iter().zip(&direct.0).map(|(pooled, direct)| pooled - direct).collect();
    let files = pair.files;
    let mut say = |what: &str, value, goal| {
        report.figures.push(Figure::new(format!("{what}, {files} files"), value, "ms", goal));
    };
    say("warm turn: INSERT committed to final row, median", pooled.median(), Goal::None);
    say("the same by plain HTTP to the same server, median", direct.median(), Goal::None);
    say("what agentpool adds, median of the pairs", over.median(), Goal::AtMost(goal_ms));
    say("what agentpool adds, 95th of 100 pairs", over.at(0.95), Goal::None);
    // On a busy machine the nearest to what a quiet one would tell.
    say("what agentpool adds, fastest turn of each kind", pooled.min() - direct.min(), Goal::None);
}

/// How long each step took: from the rows, and where these cannot tell from the agent's own stream.
async fn took(clock: Clock, running: &Running, turn: &Turn, taken: Instant, idle: Instant) -> [f64; 6] {
    let query = "SELECT t.dispatched_at, t.started_at, c.created_at
                 FROM agentpool.tasks t JOIN agentpool.checkpoints c ON c.task_id = t.id AND c.kind = 'after'
                 WHERE t.id = $1";
    let row = running.database.sql().query_one(query, &[&turn.task]).await.unwrap();
    let at = |column: usize| clock.of_row(row.get::<_, DateTime<Utc>>(column));
    let (inserted, dispatched, started) = (clock.of(turn.inserted), at(0), at(1));
    let (taken, idle, stored) = (clock.of(taken), clock.of(idle), at(2));
    [
        dispatched - inserted,
        started - dispatched,
        taken - started,
        idle - taken,
        stored - idle,
        clock.of(turn.ended) - stored,
    ]
}
