//! Who is waited for, how long, and who is passed over.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, UdpSocket};

use super::super::tests::{Fake, fixed, name, reply, soon, text, zone_answer};
use super::*;

async fn good() -> Fake {
    Fake::with("test", vec![("a.test", text("value"))]).await
}

async fn wait(resolver: &Resolver, deadline: Deadline) -> Result<()> {
    resolver.wait_for_txt(&name("test"), &name("a.test"), "value", deadline).await
}

#[tokio::test]
async fn a_server_that_refuses_the_zone_is_passed_over_when_the_others_agree() {
    for code in [ResponseCode::Refused, ResponseCode::ServFail] {
        let lame = Fake::start(move |message, _| vec![reply(message, code).to_vec().unwrap()]).await;
        let deadline = soon();
        wait(&fixed(&[&good().await, &lame]), deadline).await.unwrap();
        // Not at once: it may be loading the zone.
        assert!(lame.asked() > 2, "asked only {} times", lame.asked());
        assert!(deadline.remaining() > Duration::from_secs(10), "{:?} are left", deadline.remaining());
    }
}

#[tokio::test]
async fn a_server_that_is_being_restarted_is_waited_for() {
    // For a second nobody listens there; then it does not have the value yet.
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = udp.local_addr().unwrap();
    drop(udp);
    let restarted = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (udp, tcp) = (UdpSocket::bind(address).await.unwrap(), TcpListener::bind(address).await.unwrap());
        let times = AtomicUsize::new(0);
        Fake::on(udp, tcp, move |message, _| {
            let value = if times.fetch_add(1, Ordering::Relaxed) == 0 { "old" } else { "value" };
            vec![zone_answer(message, "test", &[("a.test", text(value))])]
        })
    };
    let good = good().await;
    let resolver = fixed(&[&good]).authoritative([good.address, address]);
    let (waited, server) = tokio::join!(wait(&resolver, soon()), restarted);
    waited.unwrap();
    assert_eq!(server.asked(), 2, "until it had the value");
}

#[tokio::test]
async fn a_short_deadline_leaves_time_for_those_that_answer() {
    let good = good().await;
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let resolver = fixed(&[&good]).authoritative([good.address, closed]);
    wait(&resolver, Deadline::after(Duration::from_secs(2))).await.unwrap();
}

#[tokio::test]
async fn a_silent_server_costs_a_hundred_names_no_more_than_one() {
    let (good, silent) = (good().await, Fake::silent().await);
    let resolver = fixed(&[&good, &silent]);
    let deadline = soon();
    let waiting: Vec<_> = (0..100).map(|_| wait(&resolver, deadline)).collect();
    for waited in join_all(waiting).await {
        waited.unwrap();
    }
    // Two rounds of three seconds, and the pause between them.
    assert!(deadline.remaining() > Duration::from_secs(20 - 10), "{:?} are left", deadline.remaining());
    assert_eq!(good.asked(), 100, "who has the value is asked once for each name");
}
