//! What a turn reads of the server when the stream did not tell it: after a gap, and now and then. Decides nothing.

use super::client::CallError;
use super::event::Event;
use super::stopping::Place;
use super::stream::Inbox;
use super::translate::TurnView;
use crate::backend::BackendError;
use crate::domain::turn::TurnEvent;

/// How much is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Status, and the messages if the session is idle.
    Answers,
    /// Messages, subagents and open requests too: something was missed.
    Everything,
}

/// An inbox for the turn and its subagents.
///
/// # Errors
/// When the server is lost first.
pub(super) async fn subscribe(place: &Place, view: &TurnView) -> Result<Inbox, BackendError> {
    let mut sessions = vec![place.session.clone()];
    sessions.extend(view.children().map(str::to_owned));
    tokio::select! {
        biased;
        reason = place.server.lost() => Err(BackendError::Lost(reason)),
        inbox = place.server.routes.subscribe(&sessions) => Ok(inbox),
    }
}

/// Brings the view up to what the server knows. Says whether the session is idle, and what is new.
pub(super) async fn read(
    place: &Place,
    view: &mut TurnView,
    depth: Depth,
) -> Result<(bool, Vec<TurnEvent>), CallError> {
    let Place { server, directory, session } = place;
    let client = &server.client;
    let mut news = Vec::new();
    let status = client.statuses(directory).await?.remove(session);
    let idle = status.as_ref().is_none_or(|status| status.kind == "idle");
    news.extend(status.iter().flat_map(|status| view.status(status)));
    if depth == Depth::Everything {
        let mut parents = vec![session.clone()];
        while let Some(parent) = parents.pop() {
            for child in client.children(directory, &parent).await? {
                view.adopt(&child.id, Some(&parent));
                news.extend(view.apply_child_history(&client.messages(directory, &child.id).await?));
                parents.push(child.id);
            }
        }
        for asked in client.permissions(directory).await? {
            news.extend(view.apply(&Event::Permission(asked)));
        }
        for asked in client.questions(directory).await? {
            news.extend(view.apply(&Event::Question(asked)));
        }
    }
    if idle || depth == Depth::Everything {
        news.extend(view.apply_history(&client.messages(directory, session).await?));
    }
    Ok((idle, news))
}
