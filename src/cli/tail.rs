//! `agentpool tail`: follows a task or a session. Also the viewer that `submit --follow` uses. Changes nothing.

use super::client::{Client, ClientArgs};
use super::follow::{Followed, Viewer, follow};
use super::transcript::{Transcript, is_resolved};
use super::{CliError, Exit, output};
use crate::wire::api::{PermissionView, SessionView, StreamEnd, TaskView};
use crate::wire::event::EventView;
use std::collections::HashSet;
use std::io::Write;
use std::time::Duration;
use tokio::time::sleep;
use uuid::Uuid;

/// A question's event may be seen a moment before its row: looked for this often, at most.
const PERMISSION_LOOKS_MAX: usize = 5;
const PERMISSION_PAUSE: Duration = Duration::from_millis(100);

/// Arguments of `tail`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Shows everything from the beginning and then what comes. The end of a task ends it, with exit code 0 or 3; a
session is followed until ^C. Neither ^C nor a lost connection touches the task.")]
pub(super) struct TailArgs {
    /// Id of a task or a session
    #[arg(value_name = "TASK|SESSION")]
    id: Uuid,
    /// One JSON object a line: events, and the task's end
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: TailArgs) -> Result<Exit, CliError> {
    let client = Client::new(&args.client)?;
    match client.get::<TaskView>(&format!("/api/tasks/{}", args.id)).await {
        Ok(task) => follow_task(&client, &args.client, task.id, args.json).await,
        Err(CliError::Refused(problem)) if problem.status == 404 => tail_session(&client, &args).await,
        Err(error) => Err(error),
    }
}

async fn tail_session(client: &Client, args: &TailArgs) -> Result<Exit, CliError> {
    let session = match client.get::<SessionView>(&format!("/api/sessions/{}", args.id)).await {
        Err(CliError::Refused(problem)) if problem.status == 404 => {
            let detail = format!("there is neither a task nor a session {}", args.id);
            return Err(CliError::not_found(detail));
        }
        session => session?,
    };
    let flags = args.client.again();
    let mut screen = Screen::new(client, Transcript::of_a_session(), args.json, flags.clone());
    let (path, again) =
        (format!("/api/sessions/{}/events", session.id), format!("agentpool tail {}{flags}", session.id));
    match follow(client, &path, &again, &mut screen).await? {
        Followed::Ended(_) => Ok(Exit::Done),
        Followed::Interrupted => {
            screen.break_line()?;
            Ok(Exit::Interrupted)
        }
    }
}

/// Follows a task to its end; its status becomes the exit code.
pub(super) async fn follow_task(
    client: &Client,
    args: &ClientArgs,
    task: Uuid,
    json: bool,
) -> Result<Exit, CliError> {
    let flags = args.again();
    let again = format!("agentpool tail {task}{flags}");
    let mut screen = Screen::new(client, Transcript::of_a_task(), json, flags);
    match follow(client, &format!("/api/tasks/{task}/events"), &again, &mut screen).await? {
        Followed::Ended(end) => {
            screen.end(&end)?;
            Ok(if end.status == "completed" { Exit::Done } else { Exit::TaskFailed })
        }
        Followed::Interrupted => {
            screen.break_line()?;
            output::hint(&format!("detached, the task goes on; follow it again with `{again}`"));
            Ok(Exit::Interrupted)
        }
    }
}

/// Stdout, as a transcript or as lines of JSON.
struct Screen<'a> {
    client: &'a Client,
    transcript: Transcript,
    json: bool,
    /// Flags for the commands that are told.
    flags: String,
    /// Questions already told.
    told: HashSet<Uuid>,
}

impl<'a> Screen<'a> {
    fn new(client: &'a Client, transcript: Transcript, json: bool, flags: String) -> Self {
        Self { client, transcript, json, flags, told: HashSet::new() }
    }

    fn end(&mut self, end: &StreamEnd) -> Result<(), CliError> {
        if self.json {
            return output::json_line(end);
        }
        Ok(self.transcript.end(end, &mut anstream::stdout().lock())?)
    }

    fn break_line(&mut self) -> Result<(), CliError> {
        Ok(self.transcript.break_line(&mut anstream::stdout().lock())?)
    }

    /// The event names the agent's own id of the question; its row, which has ours, is found by task and title.
    async fn find_permission(&mut self, event: &EventView) -> Result<Option<PermissionView>, CliError> {
        for look in 0..PERMISSION_LOOKS_MAX {
            if look > 0 {
                sleep(PERMISSION_PAUSE).await;
            }
            let all: Vec<PermissionView> =
                self.client.get_with("/api/permissions", &[("all", Some("true".to_owned()))]).await?;
            let fits = |asked: &PermissionView| {
                asked.task_id == event.task_id
                    && Some(&asked.title) == event.content.as_ref()
                    && !self.told.contains(&asked.id)
            };
            // Newest first in the list; the oldest untold one is this event's.
            if let Some(asked) = all.into_iter().rev().find(fits) {
                self.told.insert(asked.id);
                return Ok(Some(asked));
            }
        }
        Ok(None)
    }
}

impl Viewer for Screen<'_> {
    async fn show(&mut self, event: &EventView) -> Result<(), CliError> {
        if self.json {
            return output::json_line(event);
        }
        self.transcript.show(event, &mut anstream::stdout().lock())?;
        if event.kind == "permission"
            && !is_resolved(event)
            && let Some(asked) = self.find_permission(event).await?
        {
            self.transcript.show_permission(&asked, &self.flags, &mut anstream::stdout().lock())?;
        }
        anstream::stdout().lock().flush()?;
        Ok(())
    }

    fn begin_again(&mut self) {
        output::hint("the service has another database now: what follows begins again");
    }
}
