//! HAProxy and nginx serve their certificates, reload and end.

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use acmekit_testbed::{HaProxy, Nginx, TestbedError, free_port, handshake, self_signed, serial_of, wait_for};
use common::is_gone;

const SOON: Duration = Duration::from_secs(10);

#[expect(clippy::disallowed_methods, reason = "nobody reads these files between two reloads")]
fn replace(path: &Path, pem: &str) -> std::io::Result<()> {
    std::fs::write(path, pem)
}

async fn served(addr: SocketAddr, serial: &str) -> Result<(), TestbedError> {
    let asked = || async {
        handshake(addr, "example.test").await.ok().filter(|now| now.serial().is_ok_and(|now| now == serial))
    };
    wait_for(SOON, "the certificate is served", asked).await.map(drop)
}

#[tokio::test]
async fn haproxy_serves_on_every_bind_line_and_ends_on_drop() {
    let proxy = HaProxy::builder()
        .bind_lines(12)
        .certificate("a.pem", &["a.test"])
        .certificate("b.pem", &["b.test", "*.b.test"])
        .start()
        .await
        .unwrap();
    assert_eq!(proxy.tls_addrs().len(), 12);
    for addr in proxy.tls_addrs() {
        for (sni, index) in [("a.test", 0), ("b.test", 1), ("www.b.test", 1), ("unknown.test", 0)] {
            let presented = handshake(addr, sni).await.unwrap();
            assert_eq!(presented.serial().unwrap(), proxy.initial_certificates()[index].serial, "{sni}");
            assert_eq!(presented.serial().unwrap(), serial_of(presented.leaf()).unwrap());
            assert!(presented.chain().is_empty());
        }
    }
    let listed = proxy.command("show ssl cert").await.unwrap();
    assert!(listed.contains(&proxy.cert_path().display().to_string()), "{listed}");
    assert!(tokio::net::TcpStream::connect(proxy.tcp_socket_addr()).await.is_ok());
    assert!(proxy.is_alive() && proxy.version().await.unwrap().contains('.'));
    assert!(proxy.reload().await.is_err(), "no master, no reload");
    let pid = proxy.pid().unwrap();
    drop(proxy);
    assert!(is_gone(pid));
}

#[tokio::test]
async fn haproxy_reloads_from_disk_and_refuses_a_broken_file() {
    let proxy = HaProxy::builder().master_worker(true).start().await.unwrap();
    let addr = proxy.tls_addrs()[0];
    let show = proxy.master_command("show proc").await.unwrap();
    assert!(show.contains("worker"), "{show}");
    let worker = proxy.master_command("@1 show info").await.unwrap();
    assert!(worker.contains("Uptime_sec"), "{worker}");
    let next = self_signed(&["example.test"]).unwrap();
    replace(proxy.cert_path(), &format!("{}{}", next.cert_pem, next.key_pem)).unwrap();
    proxy.reload().await.unwrap();
    served(addr, &next.serial).await.unwrap();
    replace(proxy.cert_path(), "garbage\n").unwrap();
    assert!(proxy.reload().await.is_err());
    served(addr, &next.serial).await.unwrap();
    assert!(proxy.is_alive());
}

#[tokio::test]
async fn haproxy_workers_end_with_their_master() {
    let proxy = HaProxy::builder().master_worker(true).start().await.unwrap();
    let show = proxy.command("show info").await.unwrap();
    let worker = show.lines().find_map(|line| line.strip_prefix("Pid: ")).unwrap().parse().unwrap();
    assert_ne!(Some(worker), proxy.pid());
    drop(proxy);
    wait_for(SOON, "the worker is gone", || async { is_gone(worker).then_some(()) }).await.unwrap();
}

#[tokio::test]
async fn haproxy_frozen_presents_nothing() {
    let proxy = HaProxy::builder().master_worker(true).start().await.unwrap();
    let addr = proxy.tls_addrs()[0];
    proxy.freeze().unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(300), handshake(addr, "example.test")).await.is_err());
    proxy.thaw().unwrap();
    handshake(addr, "example.test").await.unwrap();
}

#[tokio::test]
async fn nginx_serves_reloads_and_ends_on_drop() {
    let web = Nginx::builder().names(&["www.test"]).start().await.unwrap();
    let before = handshake(web.addr(), "www.test").await.unwrap().serial().unwrap();
    let next = self_signed(&["www.test"]).unwrap();
    replace(web.certificate_path(), &next.cert_pem).unwrap();
    replace(web.key_path(), &next.key_pem).unwrap();
    assert_eq!(
        handshake(web.addr(), "www.test").await.unwrap().serial().unwrap(),
        before,
        "not before the reload"
    );
    let argv = web.reload_argv();
    assert!(std::process::Command::new(&argv[0]).args(&argv[1..]).status().unwrap().success());
    served(web.addr(), &next.serial).await.unwrap();
    replace(web.key_path(), &self_signed(&["www.test"]).unwrap().key_pem).unwrap();
    let reloaded = web.reload().await;
    assert!(reloaded.is_err() || web.is_alive(), "a key that does not fit leaves the old one in service");
    served(web.addr(), &next.serial).await.unwrap();
    assert!(web.version().await.unwrap().starts_with('1'));
    let pid = web.pid().unwrap();
    drop(web);
    assert!(is_gone(pid));
}

#[tokio::test]
async fn nginx_serves_given_files_and_keeps_them() {
    let dir = tempfile::tempdir().unwrap();
    let first = Nginx::builder().certificate_dir(dir.path()).start().await.unwrap();
    let serial = handshake(first.addr(), "example.test").await.unwrap().serial().unwrap();
    drop(first);
    let second = Nginx::builder().certificate_dir(dir.path()).start().await.unwrap();
    assert_eq!(handshake(second.addr(), "example.test").await.unwrap().serial().unwrap(), serial);
    second.freeze().unwrap();
    second.thaw().unwrap();
    handshake(second.addr(), "example.test").await.unwrap();
}

#[tokio::test]
async fn missing_programs_say_what_to_install() {
    let haproxy = HaProxy::builder().binary("/nowhere/haproxy").start().await.unwrap_err().to_string();
    let nginx = Nginx::builder().binary("/nowhere/nginx").start().await.unwrap_err().to_string();
    assert!(haproxy.contains("dev/setup") && haproxy.contains("package `haproxy`"), "{haproxy}");
    assert!(nginx.contains("dev/setup") && nginx.contains("package `nginx-light`"), "{nginx}");
}

#[tokio::test]
async fn a_handshake_with_nobody_is_an_error() {
    let port = free_port().unwrap();
    assert!(handshake(port.addr(), "example.test").await.is_err());
}
