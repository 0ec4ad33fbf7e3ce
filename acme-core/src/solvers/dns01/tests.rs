use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;

use super::*;
use crate::{KeyAuthorization, ProviderLimits};

/// Takes a second for each call, and counts how many are under way.
#[derive(Debug, Clone, Default)]
struct Counting {
    under_way: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    done: Arc<AtomicUsize>,
}

impl Counting {
    async fn count(&self) {
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        self.done.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl DnsProvider for Counting {
    fn id(&self) -> &str {
        "counting"
    }
    fn limits(&self) -> ProviderLimits {
        ProviderLimits { concurrency: 2, call_timeout: Duration::from_secs(2), ..ProviderLimits::default() }
    }
    async fn zone(&self, _: &DnsName) -> Result<Option<Zone>> {
        self.count().await;
        Ok(None)
    }
    async fn add_txt(&self, zone: &Zone, record: &TxtRecord) -> Result<RecordHandle> {
        self.count().await;
        Ok(RecordHandle::intent("counting", zone.clone(), record.clone()))
    }
    async fn remove_txt(&self, _: &RecordHandle) -> Result<()> {
        self.count().await;
        Ok(())
    }
}

fn presentation() -> Presentation {
    let name = "_acme-challenge.example.test".parse().unwrap();
    let zone = Zone::new("example.test".parse().unwrap());
    let proof = KeyAuthorization::new("token", "thumbprint");
    let challenge = Challenge::new("example.test".try_into().unwrap(), ChallengeKind::Dns01, "token", proof);
    let record = TxtRecord::new(name, challenge.key_authorization.txt_value());
    Presentation::new(challenge).note(HANDLE, &RecordHandle::intent("counting", zone, record)).unwrap()
}

fn solver(provider: &Counting) -> Dns01 {
    let server = std::net::SocketAddr::from(([127, 0, 0, 1], 53));
    Dns01::with_resolver(provider.clone(), Resolver::new([server]).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_provider_is_never_asked_for_more_at_once_than_it_bears() {
    let provider = Counting::default();
    let solver = solver(&provider);
    // Clones, as two pipelines hold them, count together.
    let other = solver.clone();
    let deadline = Deadline::after(Duration::from_secs(60));
    let presentation = presentation();
    let adding = (0..5).map(|_| solver.present(&presentation, deadline));
    let removing = (0..5).map(|_| other.cleanup(&presentation, deadline));
    let (added, removed) = tokio::join!(join_all(adding), join_all(removing));
    // Waiting for one's turn is not part of the call's own two seconds.
    assert!(added.iter().all(Result::is_ok) && removed.iter().all(Result::is_ok), "{added:?} {removed:?}");
    assert_eq!(provider.done.load(Ordering::SeqCst), 10);
    assert_eq!(provider.most.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_turn_ends_at_the_deadline() {
    let provider = Counting::default();
    let solver = solver(&provider);
    let presentation = presentation();
    let deadline = Deadline::after(Duration::from_millis(1500));
    let ended = join_all((0..5).map(|_| solver.present(&presentation, deadline))).await;
    let late: Vec<_> = ended.iter().filter_map(|end| end.as_ref().err()).collect();
    assert_eq!(late.len(), 3, "two had their turn in time: {ended:?}");
    assert!(late.iter().all(|error| error.kind() == ErrorKind::Timeout), "{late:?}");
    assert_eq!(provider.done.load(Ordering::SeqCst), 2);
}
