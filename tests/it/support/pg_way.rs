//! A TCP way to Postgres that breaks on demand: it goes on to accept and to hold connections, and carries nothing.

use std::path::PathBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// What is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Everything.
    Open,
    /// Nothing of the connections that had been made when it broke; what is made after is carried.
    OldOnesLost(u64),
    /// Nothing at all.
    Lost,
}

/// The proxy. Its tasks end with the test's runtime.
pub struct PgWay {
    /// The database at its end.
    pub config: Config,
    way: watch::Sender<Way>,
    made: watch::Receiver<u64>,
}

impl PgWay {
    /// To a database that is reached by a socket in the file system.
    pub async fn to(database: &Config) -> Self {
        let Some(Host::Unix(folder)) = database.get_hosts().first() else { panic!("{database:?}") };
        let socket: PathBuf = folder.join(".s.PGSQL.5432");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut config = Config::new();
        config.host("127.0.0.1").port(port);
        config.user(database.get_user().unwrap()).dbname(database.get_dbname().unwrap());
        let (way, seen) = watch::channel(Way::Open);
        let (count, made) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.send_modify(|made| *made += 1);
                let number = *count.borrow();
                let (socket, way) = (socket.clone(), seen.clone());
                tokio::spawn(async move {
                    if let Ok(server) = UnixStream::connect(&socket).await {
                        carry(number, client, server, way).await;
                    }
                });
            }
        });
        Self { config, way, made }
    }

    /// From now on no connection that there is carries anything; new ones do.
    pub fn lose_what_is_connected(&self) {
        self.way.send_replace(Way::OldOnesLost(*self.made.borrow()));
    }

    /// From now on nothing is carried, though connections are accepted.
    pub fn lose(&self) {
        self.way.send_replace(Way::Lost);
    }

    /// What is connected from now on is carried again.
    pub fn heal(&self) {
        self.lose_what_is_connected();
    }

    /// How many connections were made so far.
    pub fn made(&self) -> u64 {
        *self.made.borrow()
    }
}

async fn carry(number: u64, client: TcpStream, server: UnixStream, way: watch::Receiver<Way>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut lost = way.clone();
    let is_lost = move |way: &Way| match *way {
        Way::Open => false,
        Way::OldOnesLost(last) => number <= last,
        Way::Lost => true,
    };
    loop {
        tokio::select! {
            biased;
            () = async { drop(lost.wait_for(is_lost).await) } => break,
            length = from_client.read(&mut up) => {
                let Ok(length @ 1..) = length else { return };
                if to_server.write_all(&up[..length]).await.is_err() { return }
            }
            length = from_server.read(&mut down) => {
                let Ok(length @ 1..) = length else { return };
                if to_client.write_all(&down[..length]).await.is_err() { return }
            }
        }
    }
    // Held open for ever: neither side is told.
    std::future::pending().await
}
