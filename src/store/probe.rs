//! Do notifications arrive? Asked once, at the start, before anything is written.

use super::connect::connect;
use super::{Store, StoreError};
use futures::StreamExt;
use std::pin::pin;
use std::time::Duration;
use tokio_postgres::AsyncMessage;
use uuid::Uuid;

/// How long a notification may take on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why the engine cannot work on this database.
#[derive(Debug, thiserror::Error)]
pub enum NotificationsError {
    /// No connection, or none that takes our settings.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What one connection says, another does not hear.
    #[error(
        "the database does not deliver notifications: the URL leads to a connection pooler in transaction mode; name the \
         way past it with --database-direct-url"
    )]
    Lost,
}

impl From<tokio_postgres::Error> for NotificationsError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Says something on one connection and hears it on another. With one alone a pooler in transaction mode is not noticed: it
/// passes on what its server says during the very statement that notifies, and drops all that comes between statements.
///
/// # Errors
/// [`NotificationsError`]; nothing was written.
pub async fn check_notifications(store: &Store) -> Result<(), NotificationsError> {
    let channel = format!("agentpool_start_{}", Uuid::new_v4().simple());
    let (listener, mut connection) = connect(store.direct()).await?;
    let mut messages = pin!(futures::stream::poll_fn(move |cx| connection.poll_message(cx)));
    let listen = format!("LISTEN {channel}");
    let mut listening = pin!(listener.batch_execute(&listen));
    loop {
        tokio::select! {
            listening = &mut listening => break listening?,
            message = messages.next() => lost(message)?,
        }
    }
    let (speaker, driver) = connect(store.direct()).await?;
    let say = format!("NOTIFY {channel}");
    let said = async {
        let mut driver = pin!(driver);
        let mut saying = pin!(speaker.batch_execute(&say));
        tokio::select! {
            said = &mut saying => said,
            ended = &mut driver => ended.and(saying.await),
        }
    };
    let heard = async {
        loop {
            match messages.next().await {
                Some(Ok(AsyncMessage::Notification(note))) if note.channel() == channel => return Ok(()),
                message => lost(message)?,
            }
        }
    };
    match tokio::time::timeout(DEADLINE, async { tokio::try_join!(async { Ok(said.await?) }, heard) }).await {
        Ok(Ok(((), ()))) => Ok(()),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(NotificationsError::Lost),
    }
}

/// The connection ended; or else it said something that does not matter.
fn lost(message: Option<Result<AsyncMessage, tokio_postgres::Error>>) -> Result<(), NotificationsError> {
    match message {
        None => Err(StoreError::Unavailable("the connection was closed".into()).into()),
        Some(Err(error)) => Err(error.into()),
        Some(Ok(_)) => Ok(()),
    }
}
