//! TLS of the service's own: who trusts its certificate reaches it by its name, nobody in the clear, and a renewed one needs no restart.

use crate::support::cli::User;
use crate::support::cluster::fresh_database;
use crate::support::node::PATIENCE;
use crate::support::serve::{Place, SCRIPTED};
use agentpool::wire::api::SessionView;
use nix::sys::signal::Signal;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::{Certificate, StatusCode};
use std::fs;
use std::path::Path;

const NAME: &str = "pool.example.org";

/// An authority of the test's own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for those names, and its key, as files.
    fn issue(&self, folder: &Path, names: &[&str]) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let issued = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        fs::write(folder.join("cert.pem"), issued.pem()).unwrap();
        fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    }

    fn client(&self, name: &str, url: &str) -> reqwest::Client {
        let at = url.split_once("://").unwrap().1.parse().unwrap();
        let trusted = Certificate::from_pem(self.0.pem().as_bytes()).unwrap();
        let client =
            reqwest::Client::builder().tls_certs_only([trusted]).resolve(name, at).pool_max_idle_per_host(0);
        client.build().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_offers_tls_beyond_this_machine_and_nothing_in_the_clear() {
    let database = fresh_database().await;
    let place = Place::on(&database, "");
    let authority = Authority::new();
    authority.issue(place.folder.path(), &[NAME]);
    let file = place.folder.path().join("agentpool.toml");
    let settings = fs::read_to_string(&file).unwrap().replace("127.0.0.1:0", "0.0.0.0:0");
    let tls = format!("tls_cert = \"cert.pem\"\ntls_key = \"key.pem\"\nhosts = [\"{NAME}\"]\n{SCRIPTED}\n");
    fs::write(&file, settings + &tls).unwrap();
    let served = place.serve().await;
    assert!(served.talk.url.starts_with("https://0.0.0.0:"), "{}", served.talk.url);
    let port = served.talk.url.rsplit_once(':').unwrap().1;
    let here = format!("https://127.0.0.1:{port}");
    let (https, client) = (format!("https://{NAME}:{port}"), authority.client(NAME, &here));
    let sessions = |client: &reqwest::Client| {
        client.get(format!("{https}/api/sessions")).bearer_auth(&served.talk.token).send()
    };
    assert_eq!(sessions(&client).await.unwrap().status(), StatusCode::OK);
    let clear = reqwest::get(format!("http://127.0.0.1:{port}/livez")).await;
    assert!(clear.is_err(), "{clear:?}");
    assert!(sessions(&Authority::new().client(NAME, &here)).await.is_err(), "it is signed by another");
    assert!(reqwest::get(format!("{https}/livez")).await.is_err());
    let stranger = authority.client("evil.example", &here);
    assert!(stranger.get(format!("https://evil.example:{port}/livez")).send().await.is_err());

    // The command line of this machine finds the name, the address and the certificate by itself; from elsewhere it is told.
    let ca = place.folder.path().join("ca.pem");
    fs::write(&ca, authority.0.pem()).unwrap();
    let settings = fs::read_to_string(&file).unwrap().replace("0.0.0.0:0", &format!("0.0.0.0:{port}"));
    fs::write(&file, settings).unwrap();
    let (config, ca) = (file.display().to_string(), ca.display().to_string());
    let user = User::new().with("AGENTPOOL_DATA_DIR", place.data().display().to_string());
    let listed = user.run(&["sessions", "--json", "--config", &config, "--ca-file", &ca]).await.expect(0);
    serde_json::from_value::<Vec<SessionView>>(listed.json()).unwrap();
    let untrusted = user.run(&["sessions", "--config", &config]).await.expect(69);
    assert!(untrusted.stderr.contains("certificate"), "{untrusted:?}");
    user.run(&["sessions", "--config", &config, "--ca-file", &config]).await.expect(2);

    // Renewed by another authority: new connections get the new one, and a broken pair of files changes nothing.
    fs::write(place.folder.path().join("key.pem"), "no key").unwrap();
    let asking = async {
        loop {
            assert_eq!(sessions(&client).await.unwrap().status(), StatusCode::OK);
        }
    };
    tokio::select! {
        () = asking => {}
        () = served.says("the changed certificate is not used") => {}
    }
    let next = Authority::new();
    next.issue(place.folder.path(), &[NAME]);
    let renewed = next.client(NAME, &here);
    let served_anew = async { while sessions(&renewed).await.is_err() {} };
    tokio::time::timeout(PATIENCE, served_anew).await.expect("the new pair is read");
    served.signal(Signal::SIGTERM);
    let (status, said) = served.ended().await;
    assert_eq!(status.code(), Some(0), "{said:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_that_cannot_be_offered_is_refused_with_the_file_to_mend() {
    let user = User::new();
    let folder = user.home.path().to_owned();
    Authority::new().issue(&folder, &[NAME]);
    let file = folder.join("agentpool.toml");
    let serve = async |settings: &str| {
        fs::write(&file, settings).unwrap();
        user.run(&["serve"]).await.expect(78).stderr
    };
    let alone = serve("tls_cert = \"cert.pem\"\n").await;
    assert!(alone.contains("tls_key"), "{alone}");
    let open = serve("listen = \"0.0.0.0:7717\"\n").await;
    assert!(open.contains("--tls-cert") && open.contains("--behind-proxy"), "{open}");
    let missing = serve("tls_cert = \"cert.pem\"\ntls_key = \"none.pem\"\n").await;
    assert!(missing.contains("none.pem"), "{missing}");
    let foreign = serve("tls_cert = \"cert.pem\"\ntls_key = \"cert.pem\"\n").await;
    assert!(foreign.contains("cert.pem"), "{foreign}");
}
