//! One turn from its prompt to its end, in a straight line. Correlates by our message; an idle session is only a
//! reason to look. Knows no keys and no rows.

use super::client::{CallError, Choices};
use super::ending::{end, reply};
use super::event::Event;
use super::failure::{self, ProviderGone};
use super::ids;
use super::look::{Depth, read, subscribe};
use super::patience::Patience;
use super::stopping::{Abandoned, Aborting, Place, SETTLE_DEADLINE, settle};
use super::stream::Inbox;
use super::translate::{Standing, TurnView, failure_of};
use crate::backend::{BackendError, Prompt, TurnIo};
use crate::domain::permission::PermissionAnswer;
use crate::domain::turn::{StopForce, TurnEnd, TurnEvent};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// The stream tells everything; the server is asked this often in case it did not.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The end of an answer and the idle session after it are told within milliseconds of each other.
const LOOK_AFTER_END: Duration = Duration::from_millis(500);
/// Between two looks at a session that is idle although nothing has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How long a session may be idle before a turn that has an error, or is being stopped, counts as over.
/// Straight after a prompt the session may still be called idle.
const IDLE_WITH_REASON: Duration = Duration::from_secs(1);
/// The same where nothing explains it.
const IDLE_WITHOUT_REASON: Duration = Duration::from_secs(10);
/// How long the end is awaited after a stop was asked, by its force.
const STOP_ASK: Duration = Duration::from_secs(10);
const STOP_TERMINATE: Duration = Duration::from_secs(3);
const STOP_KILL: Duration = Duration::from_secs(1);
/// How often a call whose answer was lost is made again.
const TRIES: u32 = 3;
const TRY_PAUSE: Duration = Duration::from_millis(300);
/// Looks that may fail in a row before the turn is given up.
const FAILED_LOOKS_MAX: u32 = 5;

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Runs one turn. `notices` go out first.
///
/// # Cancel safety
/// Dropping the future stops the turn in the background; the conversation is free for the next turn after that.
pub(super) async fn run(
    place: Place,
    prompt: &Prompt,
    choices: &Choices,
    notices: Vec<String>,
    patience: &Patience,
    io: TurnIo,
) -> Result<TurnEnd, BackendError> {
    let lane = place.server.lane(&place.session).await?;
    if io.stop.borrow().is_some() {
        return Ok(TurnEnd::Cancelled);
    }
    // From here on a turn may run, so from here on dropping must stop it.
    let mut abandoned = Abandoned::new(place.clone(), lane);
    if !place.server.known.wake(&place.session) {
        settle(&place, SETTLE_DEADLINE).await?;
    }
    let ids = ids::prompt_ids(prompt.turn, &place.session, now_ms());
    let mut turn = Turn::begin(place, io, patience.clone(), &ids.message).await?;
    for notice in notices {
        turn.emit(vec![TurnEvent::Notice(notice)]).await;
    }
    let ended = match turn.send(&ids, &prompt.text, choices).await {
        Ok(()) => turn.follow().await,
        Err(error) => Err(error),
    };
    let was_stopped = turn.aborting.is_some();
    if let Some(aborting) = turn.aborting.take() {
        aborting.finish().await;
    }
    // What was not seen to end may still run.
    let end = ended?;
    abandoned.over();
    if matches!(end, Ok(TurnEnd::Completed { .. })) && !was_stopped {
        turn.place.server.known.rest(&turn.place.session);
    }
    end
}

/// A turn's own end.
type Ended = Result<TurnEnd, BackendError>;

struct Turn {
    place: Place,
    io: TurnIo,
    view: TurnView,
    inbox: Inbox,
    look_at: Instant,
    /// What the next look must read: after a gap, everything.
    owed: Depth,
    idle_since: Option<Instant>,
    failed_looks: u32,
    aborting: Option<Aborting>,
    patience: Patience,
    /// Why the turn is being stopped by us: its provider failed too often.
    given_up: Option<ProviderGone>,
    /// False once the channel is closed: it would be ready for ever.
    hears_stops: bool,
    hears_answers: bool,
}

/// What woke the turn.
enum Wake {
    Heard(Option<Box<Event>>),
    Stop,
    Answer(Option<PermissionAnswer>),
    Look,
}

impl Turn {
    async fn begin(
        place: Place,
        io: TurnIo,
        patience: Patience,
        prompt_id: &str,
    ) -> Result<Self, BackendError> {
        let view = TurnView::new(&place.session, prompt_id);
        let inbox = subscribe(&place, &view).await?;
        Ok(Self {
            place,
            io,
            view,
            inbox,
            look_at: Instant::now() + LOOK_EVERY,
            owed: Depth::Answers,
            idle_since: None,
            failed_looks: 0,
            aborting: None,
            patience,
            given_up: None,
            hears_stops: true,
            hears_answers: true,
        })
    }

    /// Hands the prompt over, again with the same ids when the answer was lost.
    async fn send(
        &mut self,
        ids: &ids::PromptIds,
        text: &str,
        choices: &Choices,
    ) -> Result<(), BackendError> {
        let Place { server, directory, session } = self.place.clone();
        let mut tried = 0;
        loop {
            tried += 1;
            let call = server.client.prompt(&directory, &session, ids, text, choices);
            match server.unless_lost(call).await? {
                Ok(()) => return Ok(()),
                Err(CallError::Unanswered { .. }) if tried < TRIES => tokio::time::sleep(TRY_PAUSE).await,
                Err(error) if error.is_not_found() => {
                    return Err(BackendError::Lost(format!(
                        "opencode no longer has the conversation: {error}"
                    )));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Goes with the turn to its end, good or bad. An error in place of an end: it was lost from sight.
    async fn follow(&mut self) -> Result<Ended, BackendError> {
        loop {
            let stop_by = self.aborting.as_ref().map(|aborting| aborting.deadline);
            if stop_by.is_some_and(|deadline| Instant::now() >= deadline) {
                return self.last_look().await;
            }
            let look_at = stop_by.map_or(self.look_at, |deadline| self.look_at.min(deadline));
            let wake = tokio::select! {
                biased;
                reason = self.place.server.lost() => return Err(BackendError::Lost(reason)),
                changed = self.io.stop.changed(), if self.hears_stops => {
                    self.hears_stops = changed.is_ok();
                    Wake::Stop
                }
                answer = self.io.answers.recv(), if self.hears_answers => Wake::Answer(answer),
                event = self.inbox.next() => Wake::Heard(event.map(Box::new)),
                () = tokio::time::sleep_until(look_at) => Wake::Look,
            };
            match wake {
                Wake::Stop => self.stop(),
                Wake::Answer(None) => self.hears_answers = false,
                Wake::Answer(Some(answer)) => self.answer(answer).await?,
                Wake::Heard(Some(event)) => {
                    if self.heard(&event).await {
                        return Ok(self.end());
                    }
                }
                Wake::Heard(None) => {
                    self.view.mark_gap();
                    self.owed = Depth::Everything;
                    self.inbox = subscribe(&self.place, &self.view).await?;
                    self.look_at = Instant::now();
                }
                Wake::Look if Instant::now() < self.look_at => {}
                Wake::Look => {
                    if let Some(end) = self.look().await? {
                        return Ok(end);
                    }
                }
            }
        }
    }

    /// Takes an event. True when it shows the end: the answer is whole and the session idle after it.
    async fn heard(&mut self, event: &Event) -> bool {
        let news = self.view.apply(event);
        self.emit(news).await;
        self.bound_retries();
        let ours = event.session() == Some(self.place.session.as_str());
        let idle = match event {
            Event::Idle { .. } => ours,
            Event::Status { status, .. } => ours && status.kind == "idle",
            _ => false,
        };
        match self.view.standing() {
            Standing::Finished { .. } | Standing::Failed(_) if idle => return true,
            Standing::Finished { .. } | Standing::Failed(_) => self.look_within(LOOK_AFTER_END),
            Standing::NotBegun | Standing::Underway | Standing::Paused { .. } => {
                if idle || matches!(event, Event::Error { .. }) && ours {
                    self.look_within(Duration::ZERO);
                }
            }
        }
        false
    }

    fn look_within(&mut self, wait: Duration) {
        self.look_at = self.look_at.min(Instant::now() + wait);
    }

    /// Reads what the server knows. An error of the call is no error of the turn before it has repeated itself.
    async fn look(&mut self) -> Result<Option<Ended>, BackendError> {
        self.look_at = Instant::now() + LOOK_EVERY;
        let server = self.place.server.clone();
        let found = server.unless_lost(read(&self.place, &mut self.view, self.owed)).await?;
        let (idle, news) = match found {
            Ok(found) => found,
            Err(error) => {
                self.failed_looks += 1;
                if self.failed_looks >= FAILED_LOOKS_MAX {
                    return Err(error.into());
                }
                tracing::debug!(session = %self.place.session, %error, "a look at the turn failed");
                self.look_within(LOOK_AGAIN);
                return Ok(None);
            }
        };
        self.failed_looks = 0;
        self.owed = Depth::Answers;
        self.emit(news).await;
        self.bound_retries();
        if !idle {
            self.idle_since = None;
            return Ok(None);
        }
        let idle_for = self.idle_since.get_or_insert_with(Instant::now).elapsed();
        let stopping = self.aborting.is_some();
        let patience = match self.view.standing() {
            Standing::Finished { .. } | Standing::Failed(_) | Standing::Paused { .. } => Duration::ZERO,
            Standing::NotBegun | Standing::Underway if stopping || failure_of(&self.view).is_some() => {
                IDLE_WITH_REASON
            }
            Standing::NotBegun | Standing::Underway => IDLE_WITHOUT_REASON,
        };
        if idle_for >= patience {
            return Ok(Some(self.end()));
        }
        self.look_within(LOOK_AGAIN);
        Ok(None)
    }

    /// The bound of a stop has passed.
    async fn last_look(&mut self) -> Result<Ended, BackendError> {
        match self.look().await? {
            Some(end) => Ok(end),
            None => {
                Err(BackendError::Lost(format!("{} did not stop when it was aborted", self.place.session)))
            }
        }
    }

    /// A stop was asked, or whoever could ask is gone. Force only shortens the wait: the server is everybody's.
    fn stop(&mut self) {
        let force = self.io.stop.borrow_and_update().map(|stop| stop.force);
        if force.is_none() && self.hears_stops {
            return;
        }
        let wait = match force {
            None | Some(StopForce::Ask) => STOP_ASK,
            Some(StopForce::Terminate) => STOP_TERMINATE,
            Some(StopForce::Kill) => STOP_KILL,
        };
        self.abort_within(wait);
    }

    /// opencode asks a failing provider again for ever. A turn that only waits holds a hand: the queue waits better.
    fn bound_retries(&mut self) {
        if self.given_up.is_none()
            && let Some(retry) = self.view.retrying()
            && let Some(gone) = failure::provider_gone(retry, &self.patience, now_ms())
        {
            self.given_up = Some(gone);
            self.abort_within(STOP_ASK);
        }
    }

    /// The turn's end. One that we stopped for its provider's sake has that reason, unless it was whole all the same.
    fn end(&mut self) -> Ended {
        match (end(&self.view, self.aborting.is_some()), self.given_up.take()) {
            (Ok(TurnEnd::Cancelled) | Err(_), Some(gone)) => Err(gone.into()),
            (end, _) => end,
        }
    }

    fn abort_within(&mut self, wait: Duration) {
        let deadline = Instant::now() + wait;
        match &mut self.aborting {
            Some(aborting) => aborting.deadline = aborting.deadline.min(deadline),
            None => self.aborting = Some(Aborting::start(self.place.clone(), deadline)),
        }
    }

    /// Hands events on; while the store is slow, stops are still heard.
    async fn emit(&mut self, news: Vec<TurnEvent>) {
        let events = self.io.events.clone();
        for event in news {
            loop {
                tokio::select! {
                    permit = events.reserve() => {
                        match permit {
                            Ok(permit) => permit.send(event),
                            // Nobody listens: as good as a stop.
                            Err(_) => {
                                self.hears_stops = false;
                                self.stop();
                            }
                        }
                        break;
                    }
                    changed = self.io.stop.changed(), if self.hears_stops => {
                        self.hears_stops = changed.is_ok();
                        self.stop();
                    }
                    // Events are lost only where the turn is, too.
                    _ = self.place.server.lost() => return,
                }
            }
        }
    }

    /// Takes an answer to opencode. One to a request that is no longer open is of no use to anybody.
    async fn answer(&mut self, answer: PermissionAnswer) -> Result<(), BackendError> {
        let request = &answer.agent_request_id;
        let Some(asked) = self.view.asked(request) else { return Ok(()) };
        let (path, body) = reply(request, asked, answer.decision);
        let Place { server, directory, .. } = self.place.clone();
        for tried in 1..=TRIES {
            match server.unless_lost(server.client.answer(&directory, &path, &body)).await? {
                Ok(()) => return Ok(()),
                Err(error) if error.is_not_found() => return Ok(()),
                Err(_) if tried < TRIES => tokio::time::sleep(TRY_PAUSE).await,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
