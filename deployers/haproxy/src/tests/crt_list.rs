//! New certificates: the crt-list in memory and on the disk.

use acmekit_core::{Deployer, ErrorKind};

use super::certificate;
use super::fake::{Fake, Rule};
use crate::{Config, CrtList, HaProxy, Instance};

fn listed(fake: &Fake) -> Instance {
    let mut instance = fake.instance();
    let list = fake.folder.path().join("list.txt");
    let mut crt_list = CrtList::new(list.to_string_lossy());
    crt_list.options = "[alpn h2] a.test".to_owned();
    instance.crt_list = Some(crt_list);
    fake.state().lists.insert(list.to_string_lossy().into_owned(), vec!["/first.pem".to_owned()]);
    std::io::Write::write_all(&mut std::fs::File::create(list).unwrap(), b"/first.pem\n").unwrap();
    instance
}

#[tokio::test]
async fn a_new_certificate_gets_one_entry_in_list_and_file_and_leaves_none_behind() {
    let fake = Fake::start("2.6.12", None);
    let haproxy = HaProxy::new(Config::new(listed(&fake))).unwrap();
    let list = fake.folder.path().join("list.txt");
    for _ in 0..2 {
        haproxy.deploy(&certificate(&["a.test"])).await.unwrap();
        let wanted = format!("/first.pem\n{} [alpn h2] a.test\n", fake.path());
        assert_eq!(std::fs::read_to_string(&list).unwrap(), wanted);
        let lines = fake.state().lists.values().flatten().cloned().collect::<Vec<_>>();
        assert_eq!(lines, wanted.lines().collect::<Vec<_>>());
    }
    for _ in 0..2 {
        haproxy.remove(&"site".parse().unwrap()).await.unwrap();
        assert_eq!(std::fs::read_to_string(&list).unwrap(), "/first.pem\n");
        assert!(fake.state().stores.is_empty() && !fake.file().exists());
    }
    fake.no_faults();
}

#[tokio::test]
async fn what_the_crt_list_refuses_is_deleted_again() {
    let fake = Fake::start("3.0.0", None);
    let refusal = "Can't edit the crt-list: certificate 'P' is empty!\n\n";
    fake.rule("add ssl crt-list", Rule::Say(refusal.to_owned()));
    let error = HaProxy::new(Config::new(listed(&fake)))
        .unwrap()
        .deploy(&certificate(&["a.test"]))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deploy);
    assert_eq!(fake.changes().last().map(String::as_str), Some("del ssl cert"));
    assert!(fake.state().stores.is_empty() && !fake.file().exists());
    assert_eq!(std::fs::read_to_string(fake.folder.path().join("list.txt")).unwrap(), "/first.pem\n");
}

#[tokio::test]
async fn a_certificate_that_haproxy_needs_is_not_removed() {
    let old = certificate(&["a.test"]);
    let fake = Fake::start("2.6.12", Some(&old));
    let instance = listed(&fake);
    fake.state().lists.values_mut().for_each(|list| list.push(format!("{} [alpn h2]", fake.path())));
    let before = fake.state().lists.clone();
    let error = HaProxy::new(Config::new(instance)).unwrap().remove(old.id()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(fake.state().lists, before);
    assert_eq!(fake.holds(&old), (true, true));
}
