//! Any protocol on TLS: a server that says each line again, with a certificate that it gets and renews.

mod args;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use acmekit::tls::{ACME_TLS, AutoTls, TlsListener};
use clap::Parser;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::timeout;

use args::Args;

/// How long a client may be silent, and how long it may take to read its line.
const IDLE: Duration = Duration::from_secs(60);
/// How many clients there may be at once.
const CLIENTS: usize = 1000;
/// A longer line is said again in parts.
const LINE: u64 = 64 * 1024;

async fn run(args: &Args) -> Result<(), Box<dyn Error + Send + Sync>> {
    let tls = AutoTls::at(args.authority()?, &args.names)
        .folder(&args.store)
        // This is no HTTP, and shall not be taken for it: a client that asks for HTTP is refused in its handshake. A
        // protocol that has a name of its own adds it here.
        .configure(|config| config.alpn_protocols.retain(|name| name == ACME_TLS))
        .start()
        .await?;
    let listener = tls.listen(args.listen).await?;
    let address = listener.local_addr()?;
    let mut server = JoinSet::new();
    server.spawn(serve(listener));
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    writeln!(io::stdout(), "serving {address}")?;

    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    server.shutdown().await;
    tls.shutdown().await;
    Ok(())
}

/// Serves whoever has shaken hands, until it is dropped.
async fn serve(mut listener: TlsListener) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            (stream, peer) = listener.accept() => {
                // Who is too much is hung up on. Not to accept would keep the CA waiting, too.
                if clients.len() < CLIENTS {
                    clients.spawn(async move {
                        if let Err(error) = echo(stream).await {
                            tracing::debug!(%peer, %error, "the connection has ended");
                        }
                    });
                }
            }
            // Who has left makes room.
            Some(_) = clients.join_next() => {}
        }
    }
}

/// Says each line again: the place of a protocol of one's own. A TLS stream reads and writes like any other.
async fn echo(stream: impl AsyncRead + AsyncWrite + Send + Unpin) -> io::Result<()> {
    let (mut stream, mut line) = (BufReader::new(stream), Vec::new());
    loop {
        line.clear();
        let length = timeout(IDLE, (&mut stream).take(LINE).read_until(b'\n', &mut line)).await??;
        if length == 0 {
            return timeout(IDLE, stream.shutdown()).await?;
        }
        let answer = async {
            stream.write_all(&line).await?;
            stream.flush().await
        };
        timeout(IDLE, answer).await??;
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    match run(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let acme = error.downcast_ref::<acmekit::Error>();
            let text = acme.map_or_else(|| error.to_string(), acmekit::Error::report);
            // Nobody is left to tell if this cannot be written.
            writeln!(io::stderr(), "tcp-tls: {text}").ok();
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_line_is_said_again_and_the_end_ends_it() {
        let (mut client, server) = tokio::io::duplex(1024);
        let talk = async {
            client.write_all(b"one\ntwo\nthree").await.unwrap();
            client.shutdown().await.unwrap();
            let mut heard = String::new();
            client.read_to_string(&mut heard).await.unwrap();
            heard
        };
        let (ended, heard) = tokio::join!(echo(server), talk);
        ended.unwrap();
        assert_eq!(heard, "one\ntwo\nthree");
    }
}
