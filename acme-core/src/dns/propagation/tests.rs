//! Who is waited for, how long, and who is passed over.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::UdpSocket;

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
    // It loads the zone, then it does not have the value yet.
    let times = AtomicUsize::new(0);
    let restarted = Fake::start(move |message, _| {
        let value = match times.fetch_add(1, Ordering::Relaxed) {
            0..3 => return vec![reply(message, ResponseCode::ServFail).to_vec().unwrap()],
            3 => "old",
            _ => "value",
        };
        vec![zone_answer(message, "test", &[("a.test", text(value))])]
    })
    .await;
    wait(&fixed(&[&good().await, &restarted]), soon()).await.unwrap();
    assert_eq!(restarted.asked(), 5, "until it had the value");
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
