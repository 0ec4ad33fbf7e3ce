//! One contender, in a process of its own.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use acmekit_benches::usage;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::span;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::durable::{Durable, Stopwatch};
use crate::job::{Block, Contender, Job, Report};
use crate::raw::Raw;
use crate::txt::Txt;

enum Loop {
    Durable(Box<Durable>),
    Raw(Raw),
}

impl Loop {
    async fn obtain(&self, names: &[String]) -> Result<(), String> {
        match self {
            Self::Durable(durable) => durable.obtain(names).await.map_err(|error| error.report()),
            Self::Raw(raw) => raw.obtain(names).await,
        }
    }
}

/// Warms up, says `ready`, waits for a line, runs, and answers with a [`Report`] in one line.
pub(crate) async fn run(job: Job) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let root_pem = std::fs::read_to_string(&job.root).map_err(|error| format!("{:?}: {error}", job.root))?;
    let client = client(&root_pem)?;
    let txt = Txt::new(job.txt_api.as_deref(), client.clone());
    let contender = Arc::new(match job.contender {
        Contender::Acmekit => {
            let durable = Durable::new(&job, &root_pem, txt).await;
            Loop::Durable(Box::new(durable.map_err(|error| error.report())?))
        }
        _ => Loop::Raw(Raw::new(&job, client, txt).await?),
    });
    if let (Loop::Durable(durable), true) = (&*contender, job.dissect) {
        let layer = Requests { clock: durable.clock.clone(), begun: Mutex::default() };
        tracing_subscriber::registry()
            .with(layer.with_filter(tracing::level_filters::LevelFilter::DEBUG))
            .init();
    }
    let warm = Job { count: job.concurrency, block: 0, prefix: format!("{}warm", job.prefix), ..job.clone() };
    all(&warm, &contender).await?;
    if let Loop::Durable(durable) = &*contender {
        durable.clock.reset();
    }

    let mut out = std::io::stdout();
    writeln!(out, "ready").and_then(|()| out.flush()).map_err(text)?;
    std::io::stdin().lock().read_line(&mut String::new()).map_err(text)?;
    let mut report = all(&job, &contender).await?;
    if let Loop::Durable(durable) = &*contender {
        if durable.events.load(Ordering::Relaxed) < report.latencies.len() as u64 {
            return Err("no events came: they are not on, and this is no fair run".to_owned());
        }
        report.parts = durable.clock.parts();
    }
    let line = serde_json::to_string(&report).map_err(|error| error.to_string())?;
    writeln!(out, "{line}").map_err(text)
}

/// So many certificates, so many at a time.
async fn all(job: &Job, contender: &Arc<Loop>) -> Result<Report, String> {
    let (begun, cpu) = (Instant::now(), usage::cpu());
    let (first_kib, _) = usage::memory_kib();
    let (next, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Report::default())));
    let mut workers = JoinSet::new();
    for _ in 0..job.concurrency {
        let (job, contender) = (job.clone(), Arc::clone(contender));
        let (next, done) = (Arc::clone(&next), Arc::clone(&done));
        workers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= job.count {
                    return Ok::<_, String>(());
                }
                // Each certificate under a registered domain of its own, as customers have them.
                let names: Vec<String> =
                    (0..job.names).map(|name| format!("n{name}.{}c{number}.example", job.prefix)).collect();
                let one = Instant::now();
                contender.obtain(&names).await?;
                let taken = one.elapsed().as_secs_f64() * 1000.0;
                let mut report = done.lock().unwrap_or_else(PoisonError::into_inner);
                report.latencies.push(taken);
                let certificates = report.latencies.len();
                if job.block > 0 && certificates.is_multiple_of(job.block) {
                    report.blocks.push(Block {
                        certificates,
                        seconds: begun.elapsed().as_secs_f64(),
                        cpu_seconds: (usage::cpu().saturating_sub(cpu)).as_secs_f64(),
                        kib: usage::memory_kib().0,
                    });
                }
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.map_err(|error| error.to_string())??;
    }
    let mut report = std::mem::take(&mut *done.lock().unwrap_or_else(PoisonError::into_inner));
    report.seconds = begun.elapsed().as_secs_f64();
    report.cpu_seconds = usage::cpu().saturating_sub(cpu).as_secs_f64();
    report.latencies.sort_by(f64::total_cmp);
    (report.first_kib, report.peak_kib) = (first_kib, usage::memory_kib().1);
    Ok(report)
}

fn client(root_pem: &str) -> Result<reqwest::Client, String> {
    let root = reqwest::Certificate::from_pem(root_pem.as_bytes()).map_err(|error| error.to_string())?;
    let client = reqwest::Client::builder()
        .tls_certs_only([root])
        .tcp_nodelay(true)
        .timeout(Duration::from_secs(30))
        .build();
    client.map_err(|error| error.to_string())
}

/// Notes how long each request to the CA takes, from the library's own spans.
struct Requests {
    clock: Stopwatch,
    begun: Mutex<HashMap<u64, Instant>>,
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Requests {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, _: Context<'_, S>) {
        if attributes.metadata().name() == "exchange" {
            self.begun.lock().unwrap_or_else(PoisonError::into_inner).insert(id.into_u64(), Instant::now());
        }
    }

    fn on_close(&self, id: span::Id, _: Context<'_, S>) {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).remove(&id.into_u64());
        if let Some(begun) = begun {
            self.clock.add("request to the CA", begun.elapsed());
        }
    }
}
