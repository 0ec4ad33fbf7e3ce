//! HTTPS on a socket of this machine.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rcgen::{CertificateParams, DnType, IsCa, KeyPair};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceExt};

/// What answers the requests. An error ends the connection without an answer.
pub(super) type Service = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// How long a client may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// How long it may stay silent between requests.
const IDLE: Duration = Duration::from_secs(300);

/// How many clients may be connected at once; further ones wait to be accepted.
const CONNECTIONS: usize = 4096;

/// A certificate for the server itself, from a root of its own. Answers the root in PEM.
pub(super) fn certificate(listen: SocketAddr) -> Result<(String, ServerConfig), String> {
    let make = || -> Result<_, rcgen::Error> {
        let root_key = KeyPair::generate()?;
        let mut root = CertificateParams::default();
        root.distinguished_name = rcgen::DistinguishedName::new();
        root.distinguished_name.push(DnType::CommonName, "acmekit test CA: HTTPS");
        root.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = root.self_signed(&root_key)?.pem();
        let issuer = rcgen::Issuer::new(root, root_key);
        let names =
            ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned(), listen.ip().to_string()];
        let mut leaf = CertificateParams::new(names.to_vec())?;
        leaf.distinguished_name = rcgen::DistinguishedName::new();
        let key = KeyPair::generate()?;
        let certificate = leaf.signed_by(&key, &issuer)?;
        Ok((pem, certificate.der().clone(), key.serialize_der()))
    };
    let (pem, certificate, key) = make().map_err(|error| error.to_string())?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)))
        .map_err(|error| error.to_string())?;
    Ok((pem, config))
}

fn provider() -> Arc<tokio_rustls::rustls::crypto::CryptoProvider> {
    #[cfg(feature = "aws-lc-rs")]
    return Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    #[cfg(not(feature = "aws-lc-rs"))]
    return Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
}

/// Accepts and answers until it is dropped; the connections end with it.
pub(super) async fn serve(listener: TcpListener, tls: ServerConfig, service: Service) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    connections.spawn(connection(stream, from, acceptor.clone(), service.clone()));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: some will come back.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Why a request gets no answer.
#[derive(Debug)]
struct NoAnswer(String);

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoAnswer {}

async fn connection(stream: TcpStream, from: SocketAddr, acceptor: TlsAcceptor, service: Service) {
    stream.set_nodelay(true).ok();
    // A second handle on the socket: by the time it is to be reset, TLS and HTTP own the first.
    let Ok(stream) = stream.into_std() else { return };
    let handle = stream.try_clone().ok();
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };

    let reset = Arc::new(AtomicBool::new(false));
    let answer = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(from));
        let (service, reset) = (service.clone(), Arc::clone(&reset));
        async move {
            service.oneshot(request.map(Body::new)).await.map_err(|error| {
                reset.store(crate::faults::is_reset(&*error), Ordering::SeqCst);
                NoAnswer(error.to_string())
            })
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    if let Err(error) = served {
        tracing::debug!(%from, %error, "a connection ended early");
    }
    if reset.load(Ordering::SeqCst)
        && let Some(handle) = handle
    {
        // Closed with nothing to linger for, it is reset.
        SockRef::from(&handle).set_linger(Some(Duration::ZERO)).ok();
    }
}
