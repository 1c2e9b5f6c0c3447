//! A way to opencode that breaks on demand: a TCP proxy, and a program that tells the proxy's port as its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The proxy. Its tasks end with the test's runtime.
pub struct FaultyWay {
    /// To be run in opencode's place.
    pub program: PathBuf,
    faults: Arc<Faults>,
    _folder: TempDir,
}

#[derive(Default)]
struct Faults {
    cuts: watch::Sender<u32>,
    streams: AtomicU32,
    lose_next_prompt: AtomicBool,
    prompts: AtomicU32,
}

impl FaultyWay {
    pub async fn to(opencode: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let port_file = folder.path().join("port");
        let program = disguised(opencode, port, &port_file);
        let faults = Arc::<Faults>::default();
        let shared = Arc::clone(&faults);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let port: u16 = fs::read_to_string(&port_file).unwrap().trim().parse().unwrap();
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::spawn(carry(client, server, Arc::clone(&shared)));
            }
        });
        Self { program, faults, _folder: folder }
    }

    /// Breaks every event stream that is open now.
    pub fn cut_streams(&self) {
        self.faults.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// How many event streams have begun to speak.
    pub fn streams(&self) -> u32 {
        self.faults.streams.load(Ordering::SeqCst)
    }

    /// The next prompt reaches opencode; its answer reaches nobody.
    pub fn lose_the_next_answer_to_a_prompt(&self) {
        self.faults.lose_next_prompt.store(true, Ordering::SeqCst);
    }

    /// How many prompts were sent.
    pub fn prompts(&self) -> u32 {
        self.faults.prompts.load(Ordering::SeqCst)
    }
}

/// A program that runs opencode, writes its port into that file and tells another port in its place.
pub fn disguised(opencode: &Path, port: u16, port_file: &Path) -> PathBuf {
    let (shown, opencode) = (port_file.display(), opencode.display());
    let line = format!("opencode server listening on http://127.0.0.1:{port}");
    let body = format!("echo ${{line##*:}} > {shown}.new; mv {shown}.new {shown}; echo '{line}'");
    script(
        port_file.parent().unwrap(),
        &format!(
            "'{opencode}' \"$@\" | while read -r line; do case $line in *listening*) {body};; esac; done"
        ),
    )
}

/// An executable bash script in that folder.
pub fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("program.sh");
    fs::write(&path, format!("#!/bin/bash\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

async fn carry(client: TcpStream, server: TcpStream, faults: Arc<Faults>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut cuts = faults.cuts.subscribe();
    let (mut is_stream, mut speaks, mut loses) = (false, false, false);
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        tokio::select! {
            length = from_client.read(&mut up) => {
                let Ok(length @ 1..) = length else { return };
                let head = String::from_utf8_lossy(&up[..length]);
                is_stream |= head.starts_with("GET /global/event");
                if head.contains("/prompt_async") {
                    faults.prompts.fetch_add(1, Ordering::SeqCst);
                    loses = faults.lose_next_prompt.swap(false, Ordering::SeqCst);
                }
                if to_server.write_all(&up[..length]).await.is_err() { return }
            }
            length = from_server.read(&mut down) => {
                let Ok(length @ 1..) = length else { return };
                if loses || to_client.write_all(&down[..length]).await.is_err() { return }
                if is_stream && !speaks {
                    speaks = true;
                    faults.streams.fetch_add(1, Ordering::SeqCst);
                }
            }
            _ = cuts.changed(), if is_stream => return,
        }
    }
}
