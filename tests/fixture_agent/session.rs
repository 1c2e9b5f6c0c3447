//! One open session: its conversation, its settings, and whether a turn runs in it.

use crate::settings::Settings;
use crate::store::{Conversation, Exchange, Store};
use std::sync::{Mutex, MutexGuard};
use tokio::sync::watch;

pub struct Session {
    pub id: String,
    pub conversation: Mutex<Conversation>,
    pub settings: Mutex<Settings>,
    pub mcp_servers: Vec<String>,
    /// The cancels of the running turn; `None` while none runs.
    running: Mutex<Option<watch::Sender<u64>>>,
}

impl Session {
    pub fn new(conversation: Conversation, mcp_servers: Vec<String>) -> Self {
        Self {
            id: conversation.id.clone(),
            conversation: Mutex::new(conversation),
            settings: Mutex::default(),
            mcp_servers,
            running: Mutex::default(),
        }
    }

    /// A turn begins: what tells it of cancels. `None` while another runs.
    pub fn begin(&self, prompt: &str, store: &Store) -> Option<watch::Receiver<u64>> {
        let mut running = locked(&self.running);
        if running.is_some() {
            return None;
        }
        let (cancels, heard) = watch::channel(0);
        *running = Some(cancels);
        let mut conversation = locked(&self.conversation);
        conversation.turns.push(Exchange { prompt: prompt.to_owned(), answer: None });
        keep(store, &conversation);
        Some(heard)
    }

    pub fn cancel(&self) {
        if let Some(cancels) = &*locked(&self.running) {
            cancels.send_modify(|n| *n += 1);
        }
    }

    pub fn end(&self, answer: String, store: &Store) {
        let mut conversation = locked(&self.conversation);
        if let Some(last) = conversation.turns.last_mut() {
            last.answer = Some(answer);
        }
        keep(store, &conversation);
        *locked(&self.running) = None;
    }

    /// Prompts before the one that runs.
    pub fn earlier(&self) -> Vec<String> {
        let conversation = locked(&self.conversation);
        let turns = conversation.turns.split_last().map_or(&[][..], |(_, earlier)| earlier);
        turns.iter().map(|turn| turn.prompt.clone()).collect()
    }
}

fn keep(store: &Store, conversation: &Conversation) {
    if let Err(error) = store.save(conversation) {
        eprintln!("fixture-agent: the conversation could not be written: {error}");
    }
}

pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it")
}
