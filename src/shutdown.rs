//! Two steps down: a drain is asked, and then, by a second signal, everything ends at once.

use tokio_util::sync::CancellationToken;

/// Shared by everything that has to end. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    asked: CancellationToken,
    killed: CancellationToken,
}

impl Shutdown {
    /// Asks for a drain; asked a second time, for an end at once.
    pub fn ask(&self) {
        if self.asked.is_cancelled() {
            self.killed.cancel();
        }
        self.asked.cancel();
    }

    /// Resolves when a drain was asked.
    pub async fn asked(&self) {
        self.asked.cancelled().await;
    }

    /// Was a drain asked?
    pub fn is_asked(&self) -> bool {
        self.asked.is_cancelled()
    }

    /// Resolves when it was asked twice.
    pub async fn killed(&self) {
        self.killed.cancelled().await;
    }

    /// Was it asked twice?
    pub fn is_killed(&self) -> bool {
        self.killed.is_cancelled()
    }

    /// Asks for a drain on TERM or INT, and for an end at once on the second one. Runs for ever; its owner drops it.
    ///
    /// # Errors
    /// When the process may not handle signals.
    pub async fn on_signals(self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        loop {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            self.ask();
        }
    }
}
