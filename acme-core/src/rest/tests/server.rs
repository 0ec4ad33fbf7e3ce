//! A server whose answers are given byte by byte.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::Result;
use crate::rest::{Client, Pool};

/// Answers in turn; the last one again and again.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) seen: Arc<Mutex<Seen>>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
pub(super) struct Seen {
    pub(super) requests: Vec<String>,
    pub(super) connections: usize,
    answers: VecDeque<String>,
}

impl Server {
    pub(super) async fn answering<const N: usize>(answers: [String; N]) -> Self {
        Self::started(answers.into(), None).await
    }

    /// By TLS, with a certificate that is its own root; that in PEM.
    pub(super) async fn answering_by_tls(answer: String) -> (Self, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(crate::probe::crypto_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider);
        let tls = tls.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let tls = tls.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        (Self::started([answer].into(), Some(Arc::new(tls).into())).await, made.cert.pem())
    }

    async fn started(answers: VecDeque<String>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen { answers, ..Seen::default() }));
        let (mut serving, shared) = (JoinSet::new(), Arc::clone(&seen));
        serving.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                shared.lock().unwrap().connections += 1;
                let (tls, shared) = (tls.clone(), Arc::clone(&shared));
                open.spawn(async move {
                    match tls {
                        None => serve(stream, shared).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, shared).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, seen, _serving: serving }
    }

    pub(super) fn base(&self) -> String {
        format!("http://{}/v1/", self.address)
    }

    pub(super) fn client(&self) -> Client {
        Client::new(&self.base(), &Pool::new().unwrap()).unwrap()
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().requests.clone()
    }

    pub(super) async fn get(&self) -> Result<Value> {
        self.client().request("test.get", Method::GET, &["things"]).send().await
    }

    pub(super) async fn post(&self) -> Result<()> {
        self.client().request("test.post", Method::POST, &["things"]).json(&json!({"a": 1})).done().await
    }
}

/// Serves one connection, until its client leaves or an answer is no whole one.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: Arc<Mutex<Seen>>) {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).to_string();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |text| text.parse().unwrap()) {
                let answer = {
                    let mut seen = seen.lock().unwrap();
                    seen.requests.push(text);
                    let last = seen.answers.len() == 1;
                    if last { seen.answers[0].clone() } else { seen.answers.pop_front().unwrap() }
                };
                read.clear();
                if answer == HANG_UP || stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
                continue;
            }
        }
        match stream.read_buf(&mut read).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

pub(super) const HANG_UP: &str = "hang up";

pub(super) fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

pub(super) fn json_answer(status: &str, body: &str) -> String {
    answer(status, "content-type: application/json\r\n", body)
}
