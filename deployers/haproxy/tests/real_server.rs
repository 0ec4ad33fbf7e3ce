//! Against a real HAProxy: what is installed here (2.6 on Debian 12).

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use acmekit_core::{Bundle, Deployer, ErrorKind, Origin, Outcome, PrivateKey};
use acmekit_haproxy::{Config, CrtList, Endpoint, HaProxy, Instance};
use acmekit_testbed::{HaProxy as Server, handshake, wait_for};
use common::{NAME, certificate, deployer, file_of, instance, left_over, serves, serves_the_first, worker};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_see_no_failure_while_the_certificate_changes_without_a_reload() {
    let server = Server::start().await.unwrap();
    let process = worker(&server).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let (address, stop) = (server.tls_addrs()[0], Arc::clone(&stop));
        clients.spawn(async move {
            let (mut good, mut bad) = (0, Vec::new());
            while !stop.load(Ordering::SeqCst) {
                match handshake(address, NAME).await {
                    Ok(_) => good += 1,
                    Err(error) => bad.push(error.to_string()),
                }
            }
            (good, bad)
        });
    }
    let haproxy = deployer(instance(&server));
    let mut last = certificate("site", &[NAME]);
    for _ in 0..10 {
        assert_eq!(haproxy.deploy(&last).await.unwrap(), Outcome::Applied);
        assert!(serves(&server, NAME, &last).await);
        assert_eq!(haproxy.deploy(&last).await.unwrap(), Outcome::AlreadyCurrent);
        haproxy.verify(&last).await.unwrap();
        last = certificate("site", &[NAME]);
    }
    stop.store(true, Ordering::SeqCst);
    let seen = clients.join_all().await;
    assert!(seen.iter().all(|(good, bad)| *good > 10 && bad.is_empty()), "{seen:?}");
    assert_eq!(worker(&server).await, process);
    assert_eq!(haproxy.verify(&last).await.unwrap_err().kind(), ErrorKind::Deploy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_deployments_at_any_moment_never_harms_haproxy() {
    let server = Server::builder().bind_lines(13).start().await.unwrap();
    let process = worker(&server).await;
    let mut instance = instance(&server);
    // One handshake: the moments between the commands are what is to be hit.
    instance.addresses.truncate(1);
    let haproxy = deployer(instance);
    let (mut cancelled, mut done) = (0, 0);
    while cancelled < 50 && cancelled + done < 1000 {
        let bundle = certificate("site", &[NAME]);
        let within = Duration::from_micros(rand::random_range(0..40_000));
        match tokio::time::timeout(within, haproxy.deploy(&bundle)).await {
            Err(_) => cancelled += 1,
            Ok(outcome) => done += usize::from(outcome.is_ok()),
        }
        assert!(server.is_alive(), "{}", server.log());
    }
    assert_eq!(cancelled, 50, "only {cancelled} were cancelled, {done} came through");
    haproxy.close().await;
    let listing = server.command("show ssl cert").await.unwrap();
    assert!(!listing.contains("# transaction"), "{listing}");
    let last = certificate("site", &[NAME]);
    assert_eq!(haproxy.deploy(&last).await.unwrap(), Outcome::Applied);
    assert!(serves(&server, NAME, &last).await);
    assert_eq!(worker(&server).await, process, "HAProxy was replaced in between");
}

#[tokio::test]
async fn somebody_elses_open_transaction_is_told_and_left_alone() {
    let server = Server::start().await.unwrap();
    let path = server.cert_path().display().to_string();
    let theirs = certificate("theirs", &[NAME]);
    let payload = format!("{}{}", theirs.fullchain_pem(), theirs.key_pem().unwrap().expose());
    let opened = server.command(&format!("set ssl cert {path} <<\n{payload}")).await.unwrap();
    assert!(opened.starts_with("Transaction created"), "{opened}");
    let before = file_of(&server);
    let error = deployer(instance(&server)).deploy(&certificate("site", &[NAME])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains(&path), "{error}");
    assert_eq!(file_of(&server), before);
    let committed = server.command(&format!("commit ssl cert {path}")).await.unwrap();
    assert!(committed.contains("Success!"), "{committed}");
    assert!(serves(&server, NAME, &theirs).await);
}

#[tokio::test]
async fn what_haproxy_has_no_room_for_is_not_sent() {
    let server = Server::start().await.unwrap();
    let long: Vec<String> = (0..400).map(|n| format!("a-rather-long-label-{n}.{NAME}")).collect();
    let large = certificate("site", &long.iter().map(String::as_str).collect::<Vec<_>>());
    let before = file_of(&server);
    let error = deployer(instance(&server)).deploy(&large).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.hint().unwrap().contains("tune.bufsize"));
    assert_eq!(file_of(&server), before);
    assert!(serves_the_first(&server).await);
}

#[tokio::test]
async fn a_larger_buffer_takes_what_the_deployer_is_told_it_takes() {
    let server = Server::builder().global_line("tune.bufsize 65536").start().await.unwrap();
    let long: Vec<String> = (0..400).map(|n| format!("a-rather-long-label-{n}.{NAME}")).collect();
    let large = certificate("site", &long.iter().map(String::as_str).collect::<Vec<_>>());
    let mut instance = instance(&server);
    instance.bufsize = 65_536;
    instance.addresses.clear();
    assert_eq!(deployer(instance).deploy(&large).await.unwrap(), Outcome::Applied);
    assert!(serves(&server, "a-rather-long-label-7.example.test", &large).await);
}

#[tokio::test]
async fn the_longest_command_that_fits_is_taken_and_one_octet_more_is_not_sent() {
    let bundle = certificate("site", &[NAME]);
    let refusal = |server: &Server| {
        let mut instance = instance(server);
        instance.bufsize = 100;
        deployer(instance)
    };
    let probe = Server::start().await.unwrap();
    let error = refusal(&probe).deploy(&bundle).await.unwrap_err();
    let size: usize = error.context().find(|(key, _)| *key == "size").unwrap().1.parse().unwrap();
    // The path is as long there: folders are named alike.
    let bufsize = size + 1;
    let server = Server::builder().global_line(&format!("tune.bufsize {bufsize}")).start().await.unwrap();
    assert_eq!(server.cert_path().as_os_str().len(), probe.cert_path().as_os_str().len());
    let mut short = instance(&server);
    short.bufsize = size;
    assert_eq!(deployer(short).deploy(&bundle).await.unwrap_err().kind(), ErrorKind::Config);
    let mut exact = instance(&server);
    exact.bufsize = bufsize;
    assert_eq!(deployer(exact).deploy(&bundle).await.unwrap(), Outcome::Applied);
    assert!(serves(&server, NAME, &bundle).await);
}

#[tokio::test]
async fn a_bundle_that_cannot_serve_never_reaches_haproxy() {
    let server = Server::start().await.unwrap();
    let (one, two) = (certificate("site", &[NAME]), certificate("site", &[NAME]));
    // A key or a chain that does not fit makes no bundle in the first place.
    let id = || "site".parse().unwrap();
    let other_key = PrivateKey::from_pem(two.key_pem().unwrap().expose()).unwrap();
    Bundle::new(id(), &one.fullchain_pem(), Some(other_key), Origin::default()).unwrap_err();
    let mixed = format!("{}{}", one.leaf_pem(), two.chain_pem());
    Bundle::new(id(), &mixed, one.key().cloned(), Origin::default()).unwrap_err();
    let keyless = Bundle::new(id(), &one.fullchain_pem(), None, Origin::default()).unwrap();
    let before = (file_of(&server), server.command("show info").await.unwrap());
    let error = deployer(instance(&server)).deploy(&keyless).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(file_of(&server), before.0);
    assert!(serves_the_first(&server).await);
}

#[tokio::test]
async fn the_old_certificate_comes_back_when_clients_do_not_see_the_new_one() {
    let (server, elsewhere) = (Server::start().await.unwrap(), Server::start().await.unwrap());
    let before = file_of(&server);
    let mut instance = instance(&server);
    instance.addresses = elsewhere.tls_addrs();
    instance.verify_timeout = Duration::from_millis(500);
    let error = deployer(instance).deploy(&certificate("site", &[NAME])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deploy);
    let context: Vec<_> = error.context().collect();
    assert!(context.contains(&("served", "previous")) && context.contains(&("file", "previous")), "{error}");
    assert_eq!(file_of(&server), before);
    assert!(serves_the_first(&server).await);
    let listing = server.command("show ssl cert").await.unwrap();
    assert!(!listing.contains("# transaction"), "{listing}");
}

#[tokio::test]
async fn of_a_pair_with_one_down_the_fate_of_each_is_told() {
    let (one, two) = (Server::start().await.unwrap(), Server::start().await.unwrap());
    two.stop();
    let (mut first, mut second) = (instance(&one), instance(&two));
    (first.name, second.name) = (Some("lb1".to_owned()), Some("lb2".to_owned()));
    let haproxy = HaProxy::new(Config::new(first).and(second)).unwrap();
    let bundle = certificate("site", &[NAME]);
    for fate in ["lb1: done", "lb1: has been so before"] {
        let error = haproxy.deploy(&bundle).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let said = error.to_string();
        assert!(said.contains(fate) && said.contains("lb2: ") && said.contains("1 of 2"), "{said}");
    }
    assert!(serves(&one, NAME, &bundle).await);
    assert_eq!(haproxy.verify(&bundle).await.unwrap_err().kind(), ErrorKind::Unavailable);
    two.restart().await.unwrap();
    assert_eq!(haproxy.deploy(&bundle).await.unwrap(), Outcome::Applied);
    assert!(serves(&two, NAME, &bundle).await);
    assert_eq!(haproxy.deploy(&bundle).await.unwrap(), Outcome::AlreadyCurrent);
}

#[tokio::test]
async fn a_failed_check_on_the_first_of_a_pair_spares_the_second() {
    let (one, two) = (Server::start().await.unwrap(), Server::start().await.unwrap());
    let (mut first, second) = (instance(&one), instance(&two));
    first.addresses = two.tls_addrs();
    first.verify_timeout = Duration::from_millis(300);
    let haproxy = HaProxy::new(Config::new(first).and(second)).unwrap();
    let error = haproxy.deploy(&certificate("site", &[NAME])).await.unwrap_err();
    assert!(error.to_string().contains("not tried"), "{error}");
    assert!(serves_the_first(&one).await && serves_the_first(&two).await);
}

#[tokio::test]
async fn a_new_certificate_is_taken_up_survives_a_reload_and_goes_again() {
    let server = Server::builder().master_worker(true).start().await.unwrap();
    let (id, name) = ("new", "new.test");
    let mut instance =
        Instance::new(Endpoint::unix(server.socket_path()), server.cert_dir().join("{id}.pem"));
    let mut list = CrtList::new(server.crt_list_path().to_string_lossy());
    list.options = "[alpn h2,http/1.1] new.test *.new.test".to_owned();
    instance.crt_list = Some(list);
    instance.addresses = server.tls_addrs();
    let haproxy = deployer(instance);
    let before = std::fs::read_to_string(server.crt_list_path()).unwrap();
    let first = certificate(id, &[name, "*.new.test"]);
    assert_eq!(haproxy.deploy(&first).await.unwrap(), Outcome::Applied);
    assert_eq!(haproxy.deploy(&first).await.unwrap(), Outcome::AlreadyCurrent);
    assert!(serves(&server, "www.new.test", &first).await);
    let second = certificate(id, &[name, "*.new.test"]);
    assert_eq!(haproxy.deploy(&second).await.unwrap(), Outcome::Applied);
    server.reload().await.unwrap();
    assert!(serves(&server, name, &second).await);
    assert_eq!(haproxy.deploy(&second).await.unwrap(), Outcome::AlreadyCurrent);

    haproxy.remove(second.id()).await.unwrap();
    haproxy.remove(second.id()).await.unwrap();
    assert_eq!(std::fs::read_to_string(server.crt_list_path()).unwrap(), before);
    assert!(!server.cert_dir().join("new.pem").exists());
    let seen = handshake(server.tls_addrs()[0], name).await.unwrap().serial().unwrap();
    assert_eq!(seen, server.initial_certificates()[0].serial);
    server.reload().await.unwrap();
    assert!(serves_the_first(&server).await);
}

#[tokio::test]
async fn what_clients_do_not_see_of_a_new_certificate_leaves_no_trace() {
    let (server, elsewhere) = (Server::start().await.unwrap(), Server::start().await.unwrap());
    let mut instance =
        Instance::new(Endpoint::unix(server.socket_path()), server.cert_dir().join("{id}.pem"));
    instance.crt_list = Some(CrtList::new(server.crt_list_path().to_string_lossy()));
    instance.addresses = elsewhere.tls_addrs();
    instance.verify_timeout = Duration::from_millis(300);
    let list = || std::fs::read_to_string(server.crt_list_path()).unwrap();
    let before = (list(), server.command("show ssl cert").await.unwrap());
    deployer(instance).deploy(&certificate("new", &["new.test"])).await.unwrap_err();
    assert_eq!((list(), server.command("show ssl cert").await.unwrap()), before);
    assert!(!server.cert_dir().join("new.pem").exists());
}

#[tokio::test]
async fn the_default_certificate_is_not_removed() {
    let server = Server::start().await.unwrap();
    let mut instance = instance(&server);
    instance.crt_list = Some(CrtList::new(server.crt_list_path().to_string_lossy()));
    let before = file_of(&server);
    let error = deployer(instance).remove(&"site".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(file_of(&server), before);
    assert!(serves_the_first(&server).await);
}

#[tokio::test]
async fn through_the_master_the_current_worker_is_changed_before_and_after_a_reload() {
    let server = Server::builder().master_worker(true).bind_lines(13).start().await.unwrap();
    let mut instance = instance(&server);
    instance.endpoint = Endpoint::master(server.master_socket_path().unwrap());
    let haproxy = deployer(instance);
    let first = certificate("site", &[NAME]);
    assert_eq!(haproxy.deploy(&first).await.unwrap(), Outcome::Applied);
    assert!(serves(&server, NAME, &first).await);
    assert_eq!(haproxy.deploy(&first).await.unwrap(), Outcome::AlreadyCurrent);
    server.reload().await.unwrap();
    assert!(serves(&server, NAME, &first).await, "the file was not the new one");
    let second = certificate("site", &[NAME]);
    let deployed = wait_for(Duration::from_secs(10), "the master takes commands", || async {
        haproxy.deploy(&second).await.ok()
    });
    assert_eq!(deployed.await.unwrap(), Outcome::Applied);
    assert!(serves(&server, NAME, &second).await);
}

#[tokio::test]
async fn a_tcp_socket_serves_as_well() {
    let server = Server::start().await.unwrap();
    let mut instance = instance(&server);
    instance.endpoint = Endpoint::tcp(server.tcp_socket_addr().to_string());
    let bundle = certificate("site", &[NAME]);
    assert_eq!(deployer(instance).deploy(&bundle).await.unwrap(), Outcome::Applied);
    assert!(serves(&server, NAME, &bundle).await);
}

#[tokio::test]
async fn a_frozen_haproxy_is_given_up_at_the_deadline_and_nothing_is_written() {
    let server = Server::start().await.unwrap();
    let mut instance = instance(&server);
    instance.timeout = Duration::from_millis(300);
    let before = file_of(&server);
    server.freeze().unwrap();
    let error = deployer(instance).deploy(&certificate("site", &[NAME])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(file_of(&server), before);
    server.thaw().unwrap();
    assert!(serves_the_first(&server).await);
}

#[tokio::test]
async fn our_own_transaction_from_before_a_crash_is_cleared_away() {
    let server = Server::start().await.unwrap();
    let instance = instance(&server);
    left_over(&server, &instance.endpoint.to_string(), "set").await;
    let bundle = certificate("site", &[NAME]);
    assert_eq!(deployer(instance).deploy(&bundle).await.unwrap(), Outcome::Applied);
    assert!(serves(&server, NAME, &bundle).await);
    assert_eq!(std::fs::read_dir(server.cert_dir()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_commit_that_was_never_answered_is_cured_by_a_reload_and_nothing_else() {
    let server = Server::builder().master_worker(true).start().await.unwrap();
    let mut instance = instance(&server);
    instance.endpoint = Endpoint::master(server.master_socket_path().unwrap());
    let half = left_over(&server, &instance.endpoint.to_string(), "commit").await;
    let process = worker(&server).await;
    let error = deployer(instance.clone()).deploy(&half).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deploy, "{}", error.report());
    assert!(error.hint().unwrap().contains("reload"), "{}", error.report());
    let listing = server.command("show ssl cert").await.unwrap();
    assert!(listing.contains("# transaction"), "it was touched: {listing}");
    instance.reload = true;
    let haproxy = deployer(instance);
    assert_eq!(haproxy.deploy(&half).await.unwrap(), Outcome::Applied);
    assert!(serves(&server, NAME, &half).await);
    assert_ne!(worker(&server).await, process);
    assert_eq!(haproxy.deploy(&half).await.unwrap(), Outcome::AlreadyCurrent);
    assert_eq!(std::fs::read_dir(server.cert_dir()).unwrap().count(), 1);
}
