//! An HTTPS server in this process whose certificate changes while it runs, and the `Deployer` for it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use acmekit::{
    Bundle, CertificateId, Deadline, Deployer, Error, ErrorKind, Outcome, Result, async_trait, probe,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nhello\n";

/// Serves HTTPS on a free loopback port.
pub(crate) struct HttpsServer {
    deployer: Arc<Live>,
    serving: JoinSet<()>,
}

impl HttpsServer {
    /// Starts it with a self-signed certificate, as a server that has not got one yet.
    pub(crate) async fn start(names: &[String]) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(not_started)?;
        let address = listener.local_addr().map_err(not_started)?;
        let first = Arc::new(self_signed(names)?);
        let now = RwLock::new(Served { from: None, key: Arc::clone(&first) });
        let certificate = Arc::new(Certificate { now, at_start: first });
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(not_started)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificate) as _);
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, TlsAcceptor::from(Arc::new(config))));
        let deployer = Arc::new(Live { certificate, address, changing: Mutex::new(()) });
        Ok(Self { deployer, serving })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.deployer.address
    }

    pub(crate) fn deployer(&self) -> Arc<Live> {
        Arc::clone(&self.deployer)
    }

    pub(crate) async fn stop(mut self) {
        self.serving.shutdown().await;
    }
}

/// The certificate that the next handshake gets.
#[derive(Debug)]
struct Certificate {
    now: RwLock<Served>,
    at_start: Arc<CertifiedKey>,
}

/// Chain and key, and which certificate they are of; `None` for the one from the start.
#[derive(Debug, Clone)]
struct Served {
    from: Option<(CertificateId, String)>,
    key: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now().key)
    }
}

impl Certificate {
    fn now(&self) -> Served {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Chain and key change together, in one assignment. Answers what was there.
    fn swap(&self, new: Served) -> Served {
        std::mem::replace(&mut *self.now.write().unwrap_or_else(PoisonError::into_inner), new)
    }
}

/// Swaps the certificate of the running server.
#[derive(Debug)]
pub(crate) struct Live {
    certificate: Arc<Certificate>,
    address: SocketAddr,
    changing: Mutex<()>,
}

#[async_trait]
impl Deployer for Live {
    fn id(&self) -> &str {
        "https-server"
    }

    async fn deploy(&self, bundle: &Bundle) -> Result<Outcome> {
        let _one_at_a_time = self.changing.lock().await;
        if self.verify(bundle).await.is_ok() {
            return Ok(Outcome::AlreadyCurrent);
        }
        let from = Some((bundle.id().clone(), bundle.facts().serial.clone()));
        let old = self.certificate.swap(Served { from, key: Arc::new(certified(bundle)?) });
        // It counts when a client sees it; if none does, the old one comes back.
        if let Err(error) = self.verify(bundle).await {
            let serial =
                old.from.as_ref().map_or_else(|| "self-signed".to_owned(), |(_, serial)| serial.clone());
            self.certificate.swap(old);
            return Err(Error::new(
                ErrorKind::Deploy,
                "https_server.deploy",
                "no client sees the new certificate; the one from before is served again",
            )
            .with("served_serial", serial)
            .with("wanted_serial", &bundle.facts().serial)
            .with_source(error));
        }
        Ok(Outcome::Applied)
    }

    async fn verify(&self, bundle: &Bundle) -> Result<()> {
        probe::verify_served(self.address, bundle, Deadline::after(Duration::from_secs(10))).await
    }

    async fn remove(&self, id: &CertificateId) -> Result<()> {
        let _one_at_a_time = self.changing.lock().await;
        if self.certificate.now().from.is_some_and(|(served, _)| served == *id) {
            self.certificate.swap(Served { from: None, key: Arc::clone(&self.certificate.at_start) });
        }
        Ok(())
    }
}

fn certified(bundle: &Bundle) -> Result<CertifiedKey> {
    let unusable = |why: &str| {
        Error::new(ErrorKind::Config, "https_server.deploy", why).with("certificate", bundle.id().as_str())
    };
    let key = bundle.key().ok_or_else(|| unusable("the bundle has no key; a server needs it"))?;
    let key = PrivatePkcs8KeyDer::from(key.to_pkcs8().expose().clone());
    let chain = bundle.chain_der().iter().map(|der| CertificateDer::from(der.clone())).collect();
    CertifiedKey::from_der(chain, key.into(), &provider())
        .map_err(|e| unusable("TLS cannot use this certificate").with_source(e))
}

fn self_signed(names: &[String]) -> Result<CertifiedKey> {
    let made = rcgen::generate_simple_self_signed(names).map_err(not_started)?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    CertifiedKey::from_der(vec![made.cert.der().clone()], key.into(), &provider()).map_err(not_started)
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(answer(acceptor.clone(), stream));
            }
            // Out of file descriptors: the next one may find some.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(acceptor: TlsAcceptor, stream: TcpStream) {
    let conversation = async {
        let mut tls = acceptor.accept(stream).await?;
        // Whatever is asked, the answer is the same; a client that only looks asks nothing.
        if tls.read(&mut [0; 1024]).await? > 0 {
            tls.write_all(ANSWER).await?;
        }
        tls.shutdown().await
    };
    // A client that goes away or falls silent is its own business; failures are counted by the client.
    tokio::time::timeout(Duration::from_secs(10), conversation).await.ok();
}

/// The one crypto provider this build links; never the process-wide default.
fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "aws-lc-rs")]
    use rustls::crypto::aws_lc_rs as chosen;
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    use rustls::crypto::ring as chosen;
    Arc::new(chosen::default_provider())
}

fn not_started(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Unavailable, "https_server.start", "the HTTPS server could not be started")
        .with_source(why)
}

#[cfg(test)]
mod tests;
