//! Follows an event stream: connects again with its cursor when it is cut, and stops at the task's end or at ^C. Says
//! nothing of how events look.

use super::CliError;
use super::client::Client;
use super::output;
use crate::wire::api::StreamEnd;
use crate::wire::event::EventView;
use eventsource_stream::Eventsource;
use futures::StreamExt;
use reqwest::Response;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Three of the service's beats (15 s each) without a word: the connection is dead, whatever it looks like.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// Between two tries to connect again: doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long it is tried: an upgrade of the service takes less.
const OUTAGE_MAX: Duration = Duration::from_secs(300);

/// Shows events as they come.
pub(super) trait Viewer {
    /// One event, in order, once.
    async fn show(&mut self, event: &EventView) -> Result<(), CliError>;

    /// What follows begins again: the service has another database now.
    fn begin_again(&mut self);
}

/// How following came to its end.
pub(super) enum Followed {
    /// The task has ended.
    Ended(StreamEnd),
    /// ^C.
    Interrupted,
}

/// Follows the stream at `path` until its end or ^C. `again` is the command that goes on later, for messages.
pub(super) async fn follow(
    client: &Client,
    path: &str,
    again: &str,
    viewer: &mut impl Viewer,
) -> Result<Followed, CliError> {
    tokio::select! {
        ended = read(client, path, again, viewer) => ended.map(Followed::Ended),
        // Where signals cannot be heard, ^C ends the program by itself.
        Ok(()) = tokio::signal::ctrl_c() => Ok(Followed::Interrupted),
    }
}

async fn read(
    client: &Client,
    path: &str,
    again: &str,
    viewer: &mut impl Viewer,
) -> Result<StreamEnd, CliError> {
    let mut line = Line { client, path, cursor: None, last_heard: Instant::now(), pause: PAUSE_MIN };
    let mut response = client.stream(path, None).await?;
    loop {
        if let Some(end) = line.read(response, viewer).await? {
            return Ok(end);
        }
        output::hint("the connection was lost, connecting again");
        response = line.connect_again(again).await?;
    }
}

/// A stream over as many connections as it takes.
struct Line<'a> {
    client: &'a Client,
    path: &'a str,
    cursor: Option<String>,
    last_heard: Instant,
    pause: Duration,
}

impl Line<'_> {
    /// Until the end of the task, or none when the connection is cut or goes silent.
    async fn read(
        &mut self,
        response: Response,
        viewer: &mut impl Viewer,
    ) -> Result<Option<StreamEnd>, CliError> {
        let mut events = response.bytes_stream().eventsource();
        while let Ok(Some(Ok(event))) = timeout(SILENCE_MAX, events.next()).await {
            self.last_heard = Instant::now();
            self.pause = PAUSE_MIN;
            match event.event.as_str() {
                "message" => {
                    viewer.show(&self.parse(&event.data)?).await?;
                    if !event.id.is_empty() {
                        self.cursor = Some(event.id);
                    }
                }
                "end" => return self.parse(&event.data).map(Some),
                // Sent away for reading too slowly: the cursor goes on to hold.
                "resync" if !event.id.is_empty() => self.cursor = Some(event.id),
                "resync" => {
                    self.cursor = None;
                    viewer.begin_again();
                }
                // A beat, or a word of a later version.
                _ => {}
            }
        }
        Ok(None)
    }

    async fn connect_again(&mut self, again: &str) -> Result<Response, CliError> {
        loop {
            sleep(self.pause).await;
            self.pause = (self.pause * 2).min(PAUSE_MAX);
            let answer = timeout(SILENCE_MAX, self.client.stream(self.path, self.cursor.as_deref())).await;
            match answer {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) if !may_pass(&error) => return Err(error),
                _ if self.last_heard.elapsed() > OUTAGE_MAX => {
                    return Err(CliError::StreamLost { again: again.to_owned() });
                }
                _ => {}
            }
        }
    }

    fn parse<T: DeserializeOwned>(&self, data: &str) -> Result<T, CliError> {
        serde_json::from_str(data)
            .map_err(|error| CliError::Foreign { url: self.client.url(), problem: error.to_string() })
    }
}

/// A service that starts again is first not there, and then not ready.
fn may_pass(error: &CliError) -> bool {
    match error {
        CliError::Unreachable { .. } | CliError::Broken { .. } => true,
        CliError::Refused(problem) => problem.status >= 500,
        _ => false,
    }
}
