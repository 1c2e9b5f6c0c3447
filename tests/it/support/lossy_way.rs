//! A way to a service that loses answers: a TCP proxy. What was sent has arrived, whoever sent it does not hear of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The proxy. Its tasks end with the test's runtime.
pub struct LossyWay {
    /// Where it listens.
    pub url: String,
    lost: Arc<AtomicU32>,
}

impl LossyWay {
    /// A way to the service at `url` on which two answers to a request that begins with `head` are lost, a third gets
    /// through, and so on. The connection is cut in the place of a lost answer.
    pub async fn to(url: &str, head: &'static str) -> Self {
        let service = url.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let lost = Arc::<AtomicU32>::default();
        let (counted, seen) = (lost.clone(), Arc::<AtomicU32>::default());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&service).await.unwrap();
                tokio::spawn(carry(client, server, head, seen.clone(), counted.clone()));
            }
        });
        Self { url, lost }
    }

    /// How many answers were lost.
    pub fn lost(&self) -> u32 {
        self.lost.load(Ordering::SeqCst)
    }
}

async fn carry(
    client: TcpStream,
    server: TcpStream,
    head: &'static str,
    seen: Arc<AtomicU32>,
    lost: Arc<AtomicU32>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut loses = false;
    loop {
        tokio::select! {
            length = from_client.read(&mut up) => {
                let Ok(length @ 1..) = length else { return };
                if up[..length].starts_with(head.as_bytes()) {
                    loses = seen.fetch_add(1, Ordering::SeqCst) % 3 != 2;
                }
                if to_server.write_all(&up[..length]).await.is_err() { return }
            }
            length = from_server.read(&mut down) => {
                let Ok(length @ 1..) = length else { return };
                if loses {
                    lost.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                if to_client.write_all(&down[..length]).await.is_err() { return }
            }
        }
    }
}
