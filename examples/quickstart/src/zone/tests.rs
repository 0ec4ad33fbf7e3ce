//! The suite for DNS providers, asked over the wire.

use std::time::Duration;

use acmekit::Deadline;
use acmekit::dns::{Transport, exchange};
use acmekit_conformance::dns_provider::Subject;
use hickory_server::proto::op::{Message, Query};

use super::*;

struct Local(DnsServer);

impl Local {
    async fn start() -> Self {
        let zones: Vec<DnsName> =
            ["example.test", "sub.example.test"].map(|zone| zone.parse().unwrap()).to_vec();
        Self(DnsServer::start(&zones).await.unwrap())
    }

    async fn ask(&self, name: &DnsName, kind: RecordType) -> Vec<RData> {
        let mut question = Message::query();
        question.add_query(Query::query(absolute(name.as_str()).unwrap(), kind));
        let deadline = Deadline::after(Duration::from_secs(5));
        let answer = exchange(self.0.address, &question.to_vec().unwrap(), Transport::Tcp, deadline).await;
        let answer = Message::from_vec(&answer.unwrap()).unwrap();
        assert!(answer.metadata.authoritative, "{name} {kind}");
        answer.answers.into_iter().map(|record| record.data).collect()
    }

    async fn put(&self, name: &DnsName, data: RData) {
        let provider = self.0.provider();
        let zone = provider.zone(name).await.unwrap().unwrap();
        let record = Record::from_rdata(absolute(name.as_str()).unwrap(), 60, data);
        provider.table(&zone).unwrap().upsert(record, 0).await;
    }
}

#[async_trait]
impl Subject for Local {
    fn provider(&self) -> Arc<dyn DnsProvider> {
        Arc::new(self.0.provider())
    }

    fn another(&self) -> Arc<dyn DnsProvider> {
        self.provider()
    }

    fn zone(&self) -> DnsName {
        "sub.example.test".parse().unwrap()
    }

    fn foreign_name(&self) -> DnsName {
        "www.example.net".parse().unwrap()
    }

    async fn lookup(&self, name: &DnsName) -> Vec<String> {
        let text = |data: RData| match data {
            RData::TXT(text) => String::from_utf8(text.txt_data.concat()).ok(),
            _ => None,
        };
        self.ask(name, RecordType::TXT).await.into_iter().filter_map(text).collect()
    }

    async fn plant(&self, name: &DnsName, value: &str) {
        self.put(name, RData::TXT(TXT::new(vec![value.to_owned()]))).await;
        self.put(name, RData::A(A(Ipv4Addr::LOCALHOST))).await;
    }

    async fn has_planted_record(&self, name: &DnsName) -> bool {
        self.ask(name, RecordType::A).await == [RData::A(A(Ipv4Addr::LOCALHOST))]
    }

    fn secret(&self) -> String {
        unreachable!("there is no credential")
    }

    fn wrong_secret(&self) -> String {
        unreachable!("there is no credential")
    }

    fn with_wrong_credential(&self) -> Arc<dyn DnsProvider> {
        unreachable!("there is no credential")
    }
}

acmekit_conformance::dns_provider_suite!(
    Local::start().await,
    skip {
        d10_a_refused_credential_says_so_and_stays_secret: "a server in the same process needs no credential",
    }
);

#[tokio::test]
async fn a_name_outside_of_the_zones_is_answered_not_refused() {
    let server = Local::start().await;
    for name in ["test", "www.example.net"] {
        assert_eq!(server.ask(&name.parse().unwrap(), RecordType::CAA).await, []);
    }
    server.0.stop().await.unwrap();
}
