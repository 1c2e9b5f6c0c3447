//! What every backend promises, told once. A backend joins by a [`Subject`] and one line, `conformance!(name, subject)`;
//! where a start is dear, [`keeps_every_promise`] runs them all on one subject, one after another.
//! Each promise works in sessions of its own; only the last one ends the backend.

use agentpool::backend::{
    AgentBackend, AgentSessionHandle, BackendError, EnsureSession, Interrupted, Prompt, SessionOrigin, TurnIo,
};
use agentpool::domain::agent::AgentName;
use agentpool::domain::failure::FailureReason;
use agentpool::domain::ids::{Fence, SessionId, TaskId};
use agentpool::domain::permission::{PermissionAnswer, PermissionDecision};
use agentpool::domain::session::SessionKey;
use agentpool::domain::task::TaskSettings;
use agentpool::domain::turn::{Stop, StopCause, StopForce, ToolStatus, TurnEnd, TurnEvent, TurnRef};
use agentpool::domain::usage::Usage;
use async_trait::async_trait;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Longest wait for anything that a promise says will happen.
const DEADLINE: Duration = Duration::from_secs(90);

/// A backend under test, and how it is spoken to.
#[async_trait]
pub trait Subject: Send + Sync {
    /// The backend that runs now.
    fn backend(&self) -> Arc<dyn AgentBackend>;
    /// Ends it and starts another one on what it left behind.
    async fn restart(&self);
    /// A new git worktree with one commit: absolute, canonical, kept as long as the subject.
    fn worktree(&self) -> PathBuf;
    /// A prompt that makes the agent say exactly this line.
    fn say(&self, text: &str) -> String {
        format!("SAY: {text}")
    }
    /// A prompt that makes the agent say `tok0 tok1 …`, n tokens, at least 20 ms apart.
    fn slow(&self, n: u32) -> String {
        format!("SLOW:{n}")
    }
    /// A prompt that makes the agent ask for permission and, if allowed, write `content` and a newline.
    fn ask_and_write(&self, path: &str, content: &str) -> String {
        format!("TOOL:write {path} {content}")
    }
    /// A prompt that makes the agent list the prompts before it, each at least 60 characters of it.
    fn recall(&self) -> String {
        "RECALL".into()
    }
    /// Whether the agent's store tells turns that completed from others; else they count as interrupted.
    fn recovers(&self) -> bool {
        true
    }
    /// Whether a conversation can be resumed as soon as it has begun; else it may begin anew, and says so.
    fn resumes_at_once(&self) -> bool {
        true
    }
    /// Whether the agent tells how many tokens it read and wrote.
    fn tells_tokens(&self) -> bool {
        true
    }
}

/// The list of promises, handed to one of the two macros below; `dispose_ends_everything` must stay the last.
macro_rules! promises {
    ($then:ident $args:tt) => {
        $crate::support::conformance::$then! {
            $args
            it_says_what_it_is_asked_and_completes
            it_remembers_the_prompts_before
            a_cancelled_turn_leaves_nothing_to_the_next
            a_dropped_prompt_stops_and_the_next_one_works
            an_allowed_tool_runs
            a_denied_tool_does_not_run
            a_released_conversation_is_resumed
            a_closed_conversation_begins_anew
            an_unknown_conversation_begins_anew_and_says_so
            a_restarted_backend_resumes
            two_sessions_are_interleaved
            a_turn_that_completed_unseen_is_recovered
            an_interrupted_turn_is_cut_back_or_said_to_be_there
            usage_adds_up
            a_slow_reader_loses_nothing
            dispose_ends_everything
        }
    };
}
pub(crate) use promises;

/// Runs each promise in turn.
macro_rules! in_turn {
    (($subject:ident) $($promise:ident)*) => { $(
        println!("promise: {}", stringify!($promise));
        $promise($subject).await;
    )* };
}
pub(crate) use in_turn;

/// One test a promise.
macro_rules! as_tests {
    (($subject:expr) $($promise:ident)*) => { $(
        #[tokio::test]
        async fn $promise() {
            let subject = $subject;
            $crate::support::conformance::$promise(&subject).await;
        }
    )* };
}
pub(crate) use as_tests;

/// One test a promise, in a module of that name, each on a subject of its own: `conformance!(scripted, Subject::new())`.
macro_rules! conformance {
    ($module:ident, $subject:expr) => {
        mod $module {
            use super::*;
            $crate::support::conformance::promises!(as_tests($subject));
        }
    };
}
pub(crate) use conformance;

/// Runs every promise on one subject; the last one ends it. Says on stdout which one runs.
pub async fn keeps_every_promise(subject: &dyn Subject) {
    promises!(in_turn(subject));
}

pub async fn it_says_what_it_is_asked_and_completes(subject: &dyn Subject) {
    let line = Line::open(subject).await;
    assert_eq!(line.handle.origin, SessionOrigin::New);
    let told = line.ask(subject, &subject.say("the quick brown fox")).await;
    assert_eq!(told.text(), "the quick brown fox");
    let TurnEnd::Completed { stop_reason, .. } = told.completed() else { unreachable!("completed() checks") };
    assert!(!stop_reason.is_empty(), "the agent's own word for the end is missing");
}

pub async fn it_remembers_the_prompts_before(subject: &dyn Subject) {
    let mut line = Line::open(subject).await;
    let first = subject.say("remember the heron");
    line.ask(subject, &first).await.completed();
    let id = line.handle.agent_session_id.clone();
    line.ensure(subject, Some(id.clone()), &[]).await;
    assert_eq!(line.handle.origin, SessionOrigin::Reused, "a warm conversation was not reused");
    assert_eq!(line.handle.agent_session_id, id);
    let recalled = line.ask(subject, &subject.recall()).await.text();
    assert!(recalled.contains(&first), "{recalled}");
}

pub async fn a_cancelled_turn_leaves_nothing_to_the_next(subject: &dyn Subject) {
    let line = Line::open(subject).await;
    let mut running = line.begin(subject, &subject.slow(2_000), 64);
    running.text_seen("tok2").await;
    running.stop(StopForce::Ask);
    let told = running.finish(Policy::Deny).await;
    assert!(matches!(told.end, Ok(TurnEnd::Cancelled)), "{:?}", told.end);
    assert!(!told.text().contains("tok1999"));
    // At once, and thrice: what trails behind an aborted turn comes late, and must end or fill none of these.
    for answer in ["first after it", "second after it", "third after it"] {
        let told = line.ask(subject, &subject.say(answer)).await;
        told.completed();
        assert_eq!(told.text(), answer);
    }
}

pub async fn a_dropped_prompt_stops_and_the_next_one_works(subject: &dyn Subject) {
    let line = Line::open(subject).await;
    let mut running = line.begin(subject, &subject.slow(2_000), 64);
    running.text_seen("tok2").await;
    running.drop_prompt().await;
    let told = line.ask(subject, &subject.say("still here")).await;
    told.completed();
    assert_eq!(told.text(), "still here");
}

pub async fn an_allowed_tool_runs(subject: &dyn Subject) {
    let line = Line::open(subject).await;
    let prompt = subject.ask_and_write("notes/allowed.txt", "written");
    let told = line.begin(subject, &prompt, 64).finish(Policy::Allow).await;
    told.completed();
    assert_eq!(told.permissions(), 1, "the permission was not asked once: {:?}", told.events);
    assert_eq!(read(&line.worktree, "notes/allowed.txt").as_deref(), Some("written\n"));
    assert_eq!(told.last_tool_status(), Some(ToolStatus::Completed));
}

pub async fn a_denied_tool_does_not_run(subject: &dyn Subject) {
    let line = Line::open(subject).await;
    let prompt = subject.ask_and_write("denied.txt", "written");
    let told = line.begin(subject, &prompt, 64).finish(Policy::Deny).await;
    assert_eq!(told.permissions(), 1, "the permission was not asked once: {:?}", told.events);
    assert_eq!(read(&line.worktree, "denied.txt"), None, "a denied tool wrote its file");
    assert_eq!(told.last_tool_status(), Some(ToolStatus::Failed));
    let next = line.ask(subject, &subject.say("and on")).await;
    assert_eq!(next.text(), "and on");
}

pub async fn a_released_conversation_is_resumed(subject: &dyn Subject) {
    let mut line = Line::open(subject).await;
    let first = subject.say("remember the otter");
    line.ask(subject, &first).await.completed();
    let id = line.handle.agent_session_id.clone();
    subject.backend().release(&line.handle).await.expect("the agent confirms");
    line.ensure(subject, Some(id.clone()), &[]).await;
    if !subject.resumes_at_once() && line.handle.origin == SessionOrigin::NewInsteadOfResumed {
        return;
    }
    assert_eq!(line.handle.origin, SessionOrigin::Resumed);
    assert_eq!(line.handle.agent_session_id, id);
    let recalled = line.ask(subject, &subject.recall()).await.text();
    assert!(recalled.contains(&first), "{recalled}");
}

pub async fn a_closed_conversation_begins_anew(subject: &dyn Subject) {
    let mut line = Line::open(subject).await;
    let first = subject.say("forget the newt");
    line.ask(subject, &first).await.completed();
    let id = line.handle.agent_session_id.clone();
    subject.backend().close_session(&line.handle).await.expect("the agent confirms");
    line.ensure(subject, None, &[]).await;
    assert_eq!(line.handle.origin, SessionOrigin::New);
    assert_ne!(line.handle.agent_session_id, id);
    let recalled = line.ask(subject, &subject.recall()).await.text();
    assert!(!recalled.contains("newt"), "{recalled}");
    line.ensure(subject, Some(id), &[]).await;
    assert_eq!(line.handle.origin, SessionOrigin::NewInsteadOfResumed, "a closed conversation came back");
}

pub async fn an_unknown_conversation_begins_anew_and_says_so(subject: &dyn Subject) {
    let mut line = Line::open(subject).await;
    // The shape of an id that the agent itself made, and yet none of its own.
    let mut id = line.handle.agent_session_id.clone();
    let last = id.pop().expect("an id is not empty");
    id.push(if last == '0' { '1' } else { '0' });
    line.ensure(subject, Some(id), &[]).await;
    assert_eq!(line.handle.origin, SessionOrigin::NewInsteadOfResumed);
    let told = line.ask(subject, &subject.say("anew")).await;
    assert_eq!(told.text(), "anew");
}

pub async fn a_restarted_backend_resumes(subject: &dyn Subject) {
    let mut line = Line::open(subject).await;
    let first = subject.say("remember the lynx");
    line.ask(subject, &first).await.completed();
    let id = line.handle.agent_session_id.clone();
    subject.restart().await;
    line.ensure(subject, Some(id.clone()), &[]).await;
    if !subject.resumes_at_once() && line.handle.origin == SessionOrigin::NewInsteadOfResumed {
        return;
    }
    assert_eq!(line.handle.origin, SessionOrigin::Resumed);
    assert_eq!(line.handle.agent_session_id, id);
    let recalled = line.ask(subject, &subject.recall()).await.text();
    assert!(recalled.contains(&first), "{recalled}");
}

pub async fn two_sessions_are_interleaved(subject: &dyn Subject) {
    let (left, right) = (Line::open(subject).await, Line::open(subject).await);
    let order = Mutex::new(Vec::new());
    let watch = async |line: &Line, name: char| {
        let mut running = line.begin(subject, &subject.slow(40), 64);
        while let Some(event) = running.event().await {
            if matches!(event, TurnEvent::Text(_)) {
                order.lock().unwrap().push(name);
            }
        }
        running.finish(Policy::Deny).await
    };
    let (one, two) = tokio::join!(watch(&left, 'l'), watch(&right, 'r'));
    for told in [one, two] {
        told.completed();
        assert_eq!(told.text().split_whitespace().count(), 40, "{}", told.text());
    }
    let order = order.into_inner().unwrap();
    let first = |name| order.iter().position(|c| *c == name).expect("both spoke");
    let last = |name| order.iter().rposition(|c| *c == name).expect("both spoke");
    assert!(first('l') < last('r') && first('r') < last('l'), "one waited for the other: {order:?}");
}

pub async fn a_turn_that_completed_unseen_is_recovered(subject: &dyn Subject) {
    let mut line = Line::open(subject).await;
    line.ask(subject, &subject.say("an earlier one")).await.completed();
    let running = line.begin(subject, &subject.say("it was done"), 64);
    let turn = running.turn;
    running.finish(Policy::Deny).await.completed();
    let id = line.handle.agent_session_id.clone();
    subject.restart().await;
    // The node died before it could store the end: the turn counts as interrupted, an even newer one never began.
    line.ensure(subject, Some(id), &[next_turn(), turn]).await;
    if !subject.resumes_at_once() && line.handle.origin == SessionOrigin::NewInsteadOfResumed {
        return;
    }
    if !subject.recovers() {
        assert_eq!(line.handle.interrupted, Interrupted::StillThere);
        return;
    }
    let Interrupted::Completed { output, usage, stop_reason } = &line.handle.interrupted else {
        panic!("the completed turn was not found: {:?}", line.handle.interrupted)
    };
    assert_eq!(output, "it was done");
    assert!(usage.output_tokens > 0 && !stop_reason.is_empty(), "{:?}", line.handle.interrupted);
}

pub async fn an_interrupted_turn_is_cut_back_or_said_to_be_there(subject: &dyn Subject) {
    let mut line = Line::open(subject).await;
    let kept = subject.say("keep the finch");
    line.ask(subject, &kept).await.completed();
    let cut = subject.slow(1_999);
    let mut running = line.begin(subject, &cut, 64);
    let turn = running.turn;
    running.text_seen("tok2").await;
    running.drop_prompt().await;
    let id = line.handle.agent_session_id.clone();
    subject.restart().await;
    line.ensure(subject, Some(id), &[turn]).await;
    if !subject.resumes_at_once() && line.handle.origin == SessionOrigin::NewInsteadOfResumed {
        return;
    }
    let recalled = line.ask(subject, &subject.recall()).await.text();
    assert!(recalled.contains(&kept), "{recalled}");
    match line.handle.interrupted {
        Interrupted::CutBack => assert!(!recalled.contains(&cut), "{recalled}"),
        Interrupted::StillThere => assert!(recalled.contains(&cut), "{recalled}"),
        ref other => panic!("the turn did not complete, and yet: {other:?}"),
    }
}

pub async fn usage_adds_up(subject: &dyn Subject) {
    let line = Line::open(subject).await;
    let told = line.ask(subject, &subject.say("one two three")).await;
    let TurnEnd::Completed { usage, .. } = told.completed() else { unreachable!("completed() checks") };
    assert!(!subject.tells_tokens() || (usage.input_tokens > 0 && usage.output_tokens > 0), "{usage:?}");
    let mut sum = Usage::default();
    for event in &told.events {
        if let TurnEvent::Usage(usage) = event {
            sum += *usage;
        }
    }
    assert_eq!(sum, *usage, "the events' usage is not the turn's");
}

pub async fn a_slow_reader_loses_nothing(subject: &dyn Subject) {
    let line = Line::open(subject).await;
    let words: Vec<String> = (0..300).map(|n| format!("w{n}")).collect();
    let mut running = line.begin(subject, &subject.say(&words.join(" ")), 1);
    // The fault itself: each event is taken two milliseconds late from a channel that holds one.
    while running.event().await.is_some() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let told = running.finish(Policy::Deny).await;
    told.completed();
    assert_eq!(told.text(), words.join(" "));
}

pub async fn dispose_ends_everything(subject: &dyn Subject) {
    let line = Line::open(subject).await;
    let mut running = line.begin(subject, &subject.slow(2_000), 64);
    running.text_seen("tok2").await;
    let backend = subject.backend();
    let pids = backend.health().pids;
    let dispose = tokio::time::timeout(DEADLINE, backend.dispose(Duration::from_secs(5)));
    let (told, disposed) = tokio::join!(running.finish(Policy::Deny), dispose);
    disposed.expect("dispose returns");
    let error = told.end.expect_err("the turn cannot have ended well");
    assert!(error.lost_the_backend(), "{error:?}");
    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} outlived dispose");
    }
    assert!(backend.health().pids.is_empty());
    let refused = backend.ensure_session(&line.key, &line.options(None, &[])).await;
    assert!(refused.is_err(), "a disposed backend began a conversation");
}

/// One session on a worktree of its own, and its conversation.
pub struct Line {
    pub key: SessionKey,
    pub worktree: PathBuf,
    pub handle: AgentSessionHandle,
}

impl Line {
    pub async fn open(subject: &dyn Subject) -> Self {
        Self::open_in(subject, subject.worktree()).await
    }

    /// In a worktree that is there.
    pub async fn open_in(subject: &dyn Subject, worktree: PathBuf) -> Self {
        let agent = AgentName::new("subject").expect("a good name");
        let key = SessionKey { session: SessionId(Uuid::now_v7()), agent };
        let options = options(&worktree, None, &[]);
        let handle = subject.backend().ensure_session(&key, &options).await.expect("a new conversation");
        assert_eq!((&handle.key, &handle.worktree), (&key, &worktree));
        assert_eq!(handle.interrupted, Interrupted::None);
        Self { key, worktree, handle }
    }

    pub fn options(&self, resume: Option<String>, interrupted: &[TurnRef]) -> EnsureSession {
        options(&self.worktree, resume, interrupted)
    }

    pub async fn ensure(&mut self, subject: &dyn Subject, resume: Option<String>, interrupted: &[TurnRef]) {
        let options = self.options(resume, interrupted);
        self.handle = subject.backend().ensure_session(&self.key, &options).await.expect("a conversation");
    }

    /// One prompt to its end; nothing is allowed.
    pub async fn ask(&self, subject: &dyn Subject, text: &str) -> Told {
        self.begin(subject, text, 64).finish(Policy::Deny).await
    }

    pub fn begin(&self, subject: &dyn Subject, text: &str, channel_size: usize) -> Running {
        self.begin_with(subject, text, TaskSettings::default(), channel_size)
    }

    /// With wishes for model, mode and options.
    pub fn begin_with(
        &self,
        subject: &dyn Subject,
        text: &str,
        settings: TaskSettings,
        channel_size: usize,
    ) -> Running {
        let (events, events_out) = mpsc::channel(channel_size);
        let (stop_in, stop) = watch::channel(None);
        let (answers_in, answers) = mpsc::channel(8);
        let prompt = Prompt { turn: next_turn(), text: text.to_owned(), settings };
        let (turn, backend, handle) = (prompt.turn, subject.backend(), self.handle.clone());
        let io = TurnIo { events, stop, answers };
        let end = tokio::spawn(async move { backend.prompt(&handle, &prompt, io).await });
        Running { turn, events: events_out, stop: stop_in, answers: answers_in, end, seen: Vec::new() }
    }
}

pub fn options(worktree: &Path, resume: Option<String>, interrupted: &[TurnRef]) -> EnsureSession {
    EnsureSession {
        worktree: worktree.to_owned(),
        title: "conformance".into(),
        resume,
        interrupted: interrupted.to_vec(),
    }
}

fn next_turn() -> TurnRef {
    TurnRef { task: TaskId(Uuid::now_v7()), fence: Fence(1) }
}

fn read(worktree: &Path, path: &str) -> Option<String> {
    std::fs::read_to_string(worktree.join(path)).ok()
}

/// What is answered to a permission request.
#[derive(Clone, Copy, PartialEq)]
pub enum Policy {
    Allow,
    Deny,
}

/// A turn that runs.
pub struct Running {
    pub turn: TurnRef,
    pub events: mpsc::Receiver<TurnEvent>,
    pub stop: watch::Sender<Option<Stop>>,
    pub answers: mpsc::Sender<PermissionAnswer>,
    pub end: JoinHandle<Result<TurnEnd, BackendError>>,
    pub seen: Vec<TurnEvent>,
}

impl Running {
    /// The next event; `None` when the backend has let go of the channel.
    pub async fn event(&mut self) -> Option<TurnEvent> {
        let event = tokio::time::timeout(DEADLINE, self.events.recv()).await;
        let event = event.unwrap_or_else(|_| panic!("nothing came any more after {:?}", self.seen));
        self.seen.extend(event.clone());
        event
    }

    pub async fn text_seen(&mut self, wanted: &str) {
        while !text(&self.seen).contains(wanted) {
            assert!(self.event().await.is_some(), "{wanted:?} never came: {:?}", self.seen);
        }
    }

    pub fn stop(&self, force: StopForce) {
        self.stop.send_replace(Some(Stop { cause: StopCause::UserCancel, force }));
    }

    /// Drops the prompt's future, as a caller does that goes away.
    pub async fn drop_prompt(self) {
        self.end.abort();
        assert!(self.end.await.is_err_and(|error| error.is_cancelled()), "the turn had ended before");
    }

    pub async fn finish(mut self, policy: Policy) -> Told {
        while let Some(event) = self.event().await {
            let TurnEvent::Permission(request) = event else { continue };
            let decision = match policy {
                Policy::Allow => PermissionDecision::AllowOnce,
                Policy::Deny => PermissionDecision::Deny { message: None },
            };
            let answer = PermissionAnswer { agent_request_id: request.agent_request_id, decision };
            self.answers.send(answer).await.expect("a turn that asks listens");
        }
        let end = tokio::time::timeout(DEADLINE, self.end).await.expect("the turn's end came");
        Told { events: self.seen, end: end.expect("the prompt did not panic") }
    }
}

/// A turn that ended.
pub struct Told {
    pub events: Vec<TurnEvent>,
    pub end: Result<TurnEnd, BackendError>,
}

impl Told {
    pub fn text(&self) -> String {
        text(&self.events)
    }

    pub fn completed(&self) -> &TurnEnd {
        match &self.end {
            Ok(end @ TurnEnd::Completed { .. }) => end,
            other => panic!("the turn did not complete: {other:?} after {:?}", self.events),
        }
    }

    /// Why it failed.
    pub fn reason(&self) -> FailureReason {
        match &self.end {
            Err(error) => error.reason(),
            Ok(end) => panic!("the turn did not fail: {end:?} after {:?}", self.events),
        }
    }

    /// The notices, a line each.
    pub fn notices(&self) -> String {
        let notices = self.events.iter().filter_map(|event| match event {
            TurnEvent::Notice(text) => Some(text.as_str()),
            _ => None,
        });
        notices.collect::<Vec<_>>().join("\n")
    }

    pub fn permissions(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, TurnEvent::Permission(_))).count()
    }

    pub fn last_tool_status(&self) -> Option<ToolStatus> {
        self.events.iter().rev().find_map(|event| match event {
            TurnEvent::ToolCall(call) | TurnEvent::ToolUpdate(call) => Some(call.status),
            _ => None,
        })
    }
}

fn text(events: &[TurnEvent]) -> String {
    events
        .iter()
        .filter_map(|event| if let TurnEvent::Text(text) = event { Some(text.as_str()) } else { None })
        .collect()
}

/// A git repository with one empty commit, in a new folder below `base`.
pub fn new_git_worktree(base: &Path) -> PathBuf {
    let folder = tempfile::Builder::new().prefix("tree").disable_cleanup(true).tempdir_in(base);
    let path = folder.expect("a folder below the scratch folder").path().canonicalize().expect("it exists");
    let git = |arguments: &[&str]| {
        let done = Command::new("git").arg("-C").arg(&path).args(arguments).output().expect("git runs");
        assert!(done.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    git(&["init", "--quiet"]);
    let author = ["-c", "user.name=test", "-c", "user.email=test@example.org"];
    git(&[&author[..], &["commit", "--quiet", "--allow-empty", "--message", "base"]].concat());
    path
}
