//! A TLS server in this process and a deployer to it that can be told to misbehave.

#![expect(clippy::unwrap_used, reason = "test code: what is impossible here may panic")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use acmekit_conformance::deployer::{DeployerSubject, NAMES};
use acmekit_conformance::test_bundle;
use acmekit_core::{Bundle, CertificateId, Deployer, Error, ErrorKind, Outcome, Result, async_trait};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The one thing a fake does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Nothing,
    LiesThatItIsCurrent,
    AppliesNothing,
    ServesTheLeafAlone,
    NeverSaysCurrent,
    TouchesWhatIsCurrent,
    SwitchesKeyAfterChain,
    LeavesTheNewOne,
    HidesTheFailure,
    HidesWhatIsServed,
    VerifyAlwaysFails,
    VerifyTouches,
    VerifyAlwaysOk,
    RemoveOfAbsentFails,
    RemoveDoesNothing,
    RemoveTakesOthers,
    KeyInDebug,
    KeyInErrors,
    IdDependsOnTheCall,
}

#[derive(Debug)]
struct Target {
    chain: Vec<Vec<u8>>,
    key: Vec<u8>,
}

impl Target {
    fn of(bundle: &Bundle) -> Self {
        Self { chain: bundle.chain_der().to_vec(), key: bundle.key().unwrap().to_pkcs8().expose().clone() }
    }
}

pub(crate) struct Fake {
    fault: Fault,
    target: Mutex<Target>,
    deployed: Mutex<Option<Bundle>>,
    broken: AtomicBool,
    touched: AtomicUsize,
    id_asked: AtomicUsize,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = self.target.lock().unwrap().key.clone();
        match self.fault {
            Fault::KeyInDebug => f.debug_tuple("Fake").field(&key).finish(),
            _ => f.write_str("Fake"),
        }
    }
}

impl Fake {
    async fn serve(&self, bundle: &Bundle) {
        let mut new = Target::of(bundle);
        if self.fault == Fault::ServesTheLeafAlone {
            new.chain.truncate(1);
        }
        if self.fault == Fault::SwitchesKeyAfterChain {
            self.target.lock().unwrap().chain.clone_from(&new.chain);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        *self.target.lock().unwrap() = new;
        self.touched.fetch_add(1, Ordering::Relaxed);
    }

    fn is_served(&self, bundle: &Bundle) -> bool {
        self.target.lock().unwrap().chain == bundle.chain_der() && self.deployed.lock().unwrap().is_some()
    }

    fn failed(&self, bundle: &Bundle) -> Error {
        let error = Error::new(ErrorKind::Deploy, "fake.deploy", "it did not work");
        let served = self.deployed.lock().unwrap().clone();
        match (self.fault, served) {
            (Fault::HidesWhatIsServed, _) => error,
            (Fault::KeyInErrors, Some(old)) => {
                error.with("serial", &old.facts().serial).with("key", bundle.key_pem().unwrap().expose())
            }
            (_, Some(old)) => error.with("serial", &old.facts().serial),
            (_, None) => error,
        }
    }
}

#[async_trait]
impl Deployer for Fake {
    fn id(&self) -> &str {
        let asked = self.id_asked.fetch_add(1, Ordering::Relaxed);
        if self.fault == Fault::IdDependsOnTheCall && asked % 2 == 1 { "other" } else { "fake" }
    }

    async fn deploy(&self, bundle: &Bundle) -> Result<Outcome> {
        let first = self.deployed.lock().unwrap().is_none();
        match self.fault {
            Fault::LiesThatItIsCurrent if !first => return Ok(Outcome::AlreadyCurrent),
            Fault::AppliesNothing => return Ok(Outcome::Applied),
            _ => {}
        }
        if self.is_served(bundle) && self.fault != Fault::NeverSaysCurrent {
            if self.fault == Fault::TouchesWhatIsCurrent {
                self.serve(bundle).await;
            }
            return Ok(Outcome::AlreadyCurrent);
        }
        if self.broken.load(Ordering::Relaxed) {
            match self.fault {
                Fault::LeavesTheNewOne => self.serve(bundle).await,
                Fault::HidesTheFailure => return Ok(Outcome::Applied),
                _ => {}
            }
            return Err(self.failed(bundle));
        }
        self.serve(bundle).await;
        *self.deployed.lock().unwrap() = Some(bundle.clone());
        Ok(Outcome::Applied)
    }

    async fn verify(&self, bundle: &Bundle) -> Result<()> {
        match self.fault {
            Fault::VerifyAlwaysOk => return Ok(()),
            Fault::VerifyTouches => _ = self.touched.fetch_add(1, Ordering::Relaxed),
            _ => {}
        }
        if self.is_served(bundle) && self.fault != Fault::VerifyAlwaysFails {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Deploy, "fake.verify", "another one is served"))
    }

    async fn remove(&self, id: &CertificateId) -> Result<()> {
        let here = self.deployed.lock().unwrap().as_ref().is_some_and(|bundle| bundle.id() == id);
        if !here && self.fault == Fault::RemoveOfAbsentFails {
            return Err(Error::new(ErrorKind::NotFound, "fake.remove", "there is none"));
        }
        if (here || self.fault == Fault::RemoveTakesOthers) && self.fault != Fault::RemoveDoesNothing {
            *self.deployed.lock().unwrap() = None;
            *self.target.lock().unwrap() = Target::of(&test_bundle(&NAMES).unwrap());
        }
        Ok(())
    }
}

pub(crate) struct FakeSubject {
    fake: Arc<Fake>,
    address: SocketAddr,
    _server: JoinSet<()>,
}

impl FakeSubject {
    pub(crate) async fn start(fault: Fault) -> Self {
        let fake = Arc::new(Fake {
            fault,
            target: Mutex::new(Target::of(&test_bundle(&NAMES).unwrap())),
            deployed: Mutex::default(),
            broken: AtomicBool::new(false),
            touched: AtomicUsize::new(0),
            id_asked: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(serve(listener, Arc::clone(&fake)));
        Self { fake, address, _server: server }
    }
}

async fn serve(listener: TcpListener, fake: Arc<Fake>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (chain, key) = {
            let target = fake.target.lock().unwrap();
            (target.chain.clone(), target.key.clone())
        };
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        let config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key)));
        // rustls refuses a key that is not the leaf's; the client then sees a closed connection.
        if let Ok(config) = config {
            TlsAcceptor::from(Arc::new(config)).accept(stream).await.ok();
        }
    }
}

fn provider() -> tokio_rustls::rustls::crypto::CryptoProvider {
    #[cfg(feature = "aws-lc-rs")]
    use tokio_rustls::rustls::crypto::aws_lc_rs as chosen;
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    use tokio_rustls::rustls::crypto::ring as chosen;
    chosen::default_provider()
}

#[async_trait]
impl DeployerSubject for FakeSubject {
    fn deployer(&self) -> Arc<dyn Deployer> {
        Arc::clone(&self.fake) as Arc<dyn Deployer>
    }

    fn handshake_address(&self) -> SocketAddr {
        self.address
    }

    async fn break_target(&mut self) {
        self.fake.broken.store(true, Ordering::Relaxed);
    }

    async fn mend(&mut self) {
        self.fake.broken.store(false, Ordering::Relaxed);
    }

    async fn release(&mut self, _: &CertificateId) {}

    async fn fingerprint(&self) -> Option<String> {
        Some(self.fake.touched.load(Ordering::Relaxed).to_string())
    }
}
