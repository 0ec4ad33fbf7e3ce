//! An HTTP server in this process for the fakes of vendors' APIs: what it answers is given byte for
//! byte, what it is asked is kept, and it misbehaves on demand.
//!
//! ```
//! use acmekit_conformance::api::{Answer, Api, Fault};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let api = Api::start(|asked| async move {
//!     match (asked.method.as_str(), asked.path.as_str()) {
//!         ("POST", "/update") => Answer::json(200, r#"{"txt": "value"}"#),
//!         _ => Answer::new(404, "page not found"),
//!     }
//! })
//! .await;
//! api.fail("POST /update", Fault::After(Answer::new(500, ""))); // it is done, but this is answered
//! # assert!(api.asked().is_empty());
//! # }
//! ```

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Asked {
    /// The method: `POST`.
    pub method: String,
    /// Path and query: `/v1/things?page=1`.
    pub path: String,
    /// Names, in lower case, and values of the header fields.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Asked {
    /// The value of a header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Method and path: `POST /v1/things`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// An answer: status, header fields and body as given, and the body's length.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Names and values of the header fields.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// An answer of no type.
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// JSON.
    pub fn json(status: u16, body: impl Into<String>) -> Self {
        Self::new(status, body).with("content-type", "application/json")
    }

    /// Plain text, as Go's `http.Error` has it.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self::new(status, body).with("content-type", "text/plain; charset=utf-8")
    }

    /// An HTML page.
    pub fn html(status: u16, body: impl Into<String>) -> Self {
        Self::new(status, body).with("content-type", "text/html")
    }

    /// Adds a header field.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn head(&self) -> String {
        let fields: String =
            self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        // The reason phrase means nothing (RFC 9112 section 4).
        format!("HTTP/1.1 {} Said\r\n{fields}", self.status)
    }

    fn octets(&self) -> Vec<u8> {
        format!("{}content-length: {}\r\n\r\n{}", self.head(), self.body.len(), self.body).into_bytes()
    }
}

/// What happens in place of the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing is done, and this is answered.
    Instead(Answer),
    /// It is done, but this is answered.
    After(Answer),
    /// It is done, and the connection ends without an answer.
    HangUpAfter,
    /// Nothing is done and nothing answered, but the connection stays.
    Silence,
    /// Success, with a body of JSON that stops after its first octet.
    BodyThatStops,
    /// Success, with a body of JSON that does not end.
    EndlessBody,
}

type Answering = dyn Fn(Asked) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync;

struct Shared {
    answering: Box<Answering>,
    asked: Mutex<Vec<Asked>>,
    faults: Mutex<VecDeque<(String, Fault)>>,
    /// What every request meets that starts so.
    always: Mutex<Option<(String, Fault)>>,
}

/// The server, on a free port of 127.0.0.1 until it is dropped.
pub struct Api {
    address: SocketAddr,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("address", &self.address).finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Api {
    /// Starts it; this function says what is true.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start<F, A>(answering: F) -> Self
    where
        F: Fn(Asked) -> A + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        let shared = Arc::new(Shared {
            answering: Box::new(move |asked| Box::pin(answering(asked))),
            asked: Mutex::default(),
            faults: Mutex::default(),
            always: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.unwrap_or_else(|e| panic!("no free port on 127.0.0.1: {e}"));
        let address = listener.local_addr().unwrap_or_else(|e| panic!("the port has no address: {e}"));
        let (mut serving, served) = (JoinSet::new(), Arc::clone(&shared));
        serving.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(serve(stream, Arc::clone(&served)));
            }
        });
        Self { address, shared, _serving: serving }
    }

    /// Where it is: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Has the next request that starts so, `POST /update`, and is not yet spoken for, meet a fault.
    pub fn fail(&self, start: &str, fault: Fault) {
        locked(&self.shared.faults).push_back((start.to_owned(), fault));
    }

    /// Has every request that starts so meet a fault, until it is [mended](Self::mend).
    pub fn fail_all(&self, start: &str, fault: Fault) {
        *locked(&self.shared.always) = Some((start.to_owned(), fault));
    }

    /// Ends what [`fail_all`](Self::fail_all) began.
    pub fn mend(&self) {
        *locked(&self.shared.always) = None;
    }

    /// All there was.
    pub fn asked(&self) -> Vec<Asked> {
        locked(&self.shared.asked).clone()
    }

    /// How many requests there were that start so: `POST /update`; the empty text is all of them.
    pub fn count(&self, start: &str) -> usize {
        locked(&self.shared.asked).iter().filter(|asked| asked.line().starts_with(start)).count()
    }
}

/// Serves one connection, until its client leaves or a fault ends it.
async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut read = Vec::new();
    loop {
        if let Some(asked) = whole(&read) {
            read.clear();
            let fault = {
                let mut faults = locked(&shared.faults);
                let next = faults.iter().position(|(start, _)| asked.line().starts_with(start));
                let next = next.and_then(|at| faults.remove(at)).map(|(_, fault)| fault);
                let always = || {
                    locked(&shared.always)
                        .clone()
                        .filter(|(start, _)| asked.line().starts_with(start.as_str()))
                };
                next.or_else(|| always().map(|(_, fault)| fault))
            };
            locked(&shared.asked).push(asked.clone());
            let answer = match fault {
                None => (shared.answering)(asked).await,
                Some(Fault::Instead(answer)) => answer,
                Some(Fault::After(answer)) => {
                    (shared.answering)(asked).await;
                    answer
                }
                Some(Fault::HangUpAfter) => {
                    (shared.answering)(asked).await;
                    return;
                }
                Some(Fault::Silence) => std::future::pending().await,
                Some(fault) => return unending(stream, fault == Fault::EndlessBody).await,
            };
            if stream.write_all(&answer.octets()).await.is_err() {
                return;
            }
            continue;
        }
        match stream.read_buf(&mut read).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// The request, once all of it is there.
fn whole(read: &[u8]) -> Option<Asked> {
    let text = String::from_utf8_lossy(read);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ').map(str::to_owned);
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let (method, path) = (first.next()?, first.next()?);
    let asked = Asked { method, path, headers: lines.filter_map(field).collect(), body: body.to_owned() };
    let length = asked.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    (body.len() >= length).then_some(asked)
}

async fn unending(mut stream: TcpStream, endless: bool) {
    let head = Answer::json(200, "").head();
    let begun = format!("{head}transfer-encoding: chunked\r\n\r\n1\r\n[\r\n");
    if stream.write_all(begun.as_bytes()).await.is_err() {
        return;
    }
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(4096));
    if endless {
        while stream.write_all(chunk.as_bytes()).await.is_ok() {}
        return;
    }
    // The other side ends it.
    stream.read_to_end(&mut Vec::new()).await.ok();
}
