//! One function for each clause. They are public so that an author can run one alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use acmekit_core::{Bundle, Deadline, Deployer, ErrorKind, Outcome};

use super::DeployerSubject;
use super::client::{bundle, deploy, must_fail, must_see, other_bundle, shown};

/// Y1: after `deploy` every client sees the new certificate with its chain.
pub async fn y1_deploying_makes_clients_see_it(subject: &mut dyn DeployerSubject) {
    let (one, two) = (bundle("Y1"), bundle("Y1"));
    deploy("Y1", subject, &one, "with a new certificate", Outcome::Applied).await;
    must_see("Y1", subject, &one, "after the first deployment").await;
    deploy("Y1", subject, &two, "with its renewal", Outcome::Applied).await;
    must_see("Y1", subject, &two, "after the renewal").await;
    deploy("Y1", subject, &one, "with an older certificate again", Outcome::Applied).await;
    must_see("Y1", subject, &one, "after going back to an older certificate").await;
}

/// Y2: the certificate that is served already is `AlreadyCurrent`, and nothing is touched.
pub async fn y2_what_is_served_is_already_current(subject: &mut dyn DeployerSubject) {
    let one = bundle("Y2");
    deploy("Y2", subject, &one, "with a new certificate", Outcome::Applied).await;
    let before = subject.fingerprint().await;
    for _ in 0..2 {
        deploy("Y2", subject, &one, "with the certificate that is served", Outcome::AlreadyCurrent).await;
    }
    assert!(before == subject.fingerprint().await, "Y2: AlreadyCurrent, and yet the target was touched");
    must_see("Y2", subject, &one, "after being told that it is current").await;
}

/// Y3: while certificates are switched every handshake succeeds and shows one whole chain.
pub async fn y3_every_handshake_while_switching_shows_a_whole_chain(subject: &mut dyn DeployerSubject) {
    const SWITCHES: usize = 6;
    let bundles: Vec<Bundle> = (0..SWITCHES).map(|_| bundle("Y3")).collect();
    let [first, others @ ..] = bundles.as_slice() else { return };
    deploy("Y3", subject, first, "with a new certificate", Outcome::Applied).await;
    let (address, over, handshakes) =
        (subject.handshake_address(), AtomicBool::new(false), AtomicUsize::new(0));
    let clients = async {
        while !over.load(Ordering::Relaxed) {
            let seen = shown(address)
                .await
                .unwrap_or_else(|e| panic!("Y3: a handshake fails while switching: {}", e.report()));
            assert!(
                bundles.iter().any(|bundle| seen.starts_with(bundle.chain_der())),
                "Y3: while switching, a client sees neither the old nor the new chain whole"
            );
            handshakes.fetch_add(1, Ordering::Relaxed);
        }
    };
    let switching = async {
        for next in others {
            let before = handshakes.load(Ordering::Relaxed);
            deploy("Y3", &*subject, next, "with the next certificate", Outcome::Applied).await;
            // Without a client that looked in between, the clause would hold for nothing.
            while handshakes.load(Ordering::Relaxed) < before + 3 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(clients, switching);
}

/// Y4: after a deployment that failed the previous certificate is served; the next one works.
pub async fn y4_after_a_failure_the_previous_one_is_served(subject: &mut dyn DeployerSubject) {
    let (one, two) = (bundle("Y4"), bundle("Y4"));
    deploy("Y4", subject, &one, "with a new certificate", Outcome::Applied).await;
    subject.break_target().await;
    must_fail("Y4", subject, &two).await;
    must_see("Y4", subject, &one, "after a deployment that failed").await;
    subject.mend().await;
    must_see("Y4", subject, &one, "after the target was mended").await;
    deploy("Y4", subject, &two, "after the target was mended", Outcome::Applied).await;
    must_see("Y4", subject, &two, "after the second attempt").await;
}

/// Y5: the error of a deployment that failed says, by serial number, what is served now.
pub async fn y5_a_failure_says_what_is_served(subject: &mut dyn DeployerSubject) {
    let (one, two) = (bundle("Y5"), bundle("Y5"));
    deploy("Y5", subject, &one, "with a new certificate", Outcome::Applied).await;
    subject.break_target().await;
    let error = must_fail("Y5", subject, &two).await;
    must_see("Y5", subject, &one, "after a deployment that failed").await;
    assert!(
        matches!(error.kind(), ErrorKind::Deploy | ErrorKind::Conflict),
        "Y5: the error's kind is {:?} and not Deploy: {error}",
        error.kind()
    );
    let serial = one.facts().serial.trim_start_matches('0').to_ascii_uppercase();
    assert!(
        error.to_string().to_ascii_uppercase().contains(&serial),
        "Y5: the error does not name what is served now, serial {serial}: {error}"
    );
    subject.mend().await;
}

/// Y6: `verify` is `Ok` for what is served, and changes nothing.
pub async fn y6_verify_is_ok_for_what_is_served(subject: &mut dyn DeployerSubject) {
    let one = bundle("Y6");
    deploy("Y6", subject, &one, "with a new certificate", Outcome::Applied).await;
    let before = subject.fingerprint().await;
    if let Err(e) = subject.deployer().verify(&one).await {
        panic!("Y6: verify fails for the certificate that is served: {}", e.report());
    }
    assert!(before == subject.fingerprint().await, "Y6: verify touched the target");
    must_see("Y6", subject, &one, "after verify").await;
}

/// Y7: `verify` is an error for what is not served, however nearly.
pub async fn y7_verify_fails_for_what_is_not_served(subject: &mut dyn DeployerSubject) {
    let (old, new, never) = (bundle("Y7"), bundle("Y7"), bundle("Y7"));
    let stranger = other_bundle("Y7", &["stranger.test"]);
    deploy("Y7", subject, &old, "with a new certificate", Outcome::Applied).await;
    deploy("Y7", subject, &new, "with its renewal", Outcome::Applied).await;
    for (bundle, which) in [
        (&old, "the one before"),
        (&never, "a renewal that was never deployed"),
        (&stranger, "a certificate for other names"),
    ] {
        match subject.deployer().verify(bundle).await {
            Ok(()) => panic!("Y7: verify is Ok for {which}"),
            Err(e) => assert!(
                matches!(e.kind(), ErrorKind::Deploy | ErrorKind::Unavailable),
                "Y7: the error for {which} is of kind {:?}: {e}",
                e.kind()
            ),
        }
    }
    must_see("Y7", subject, &new, "after verifying others").await;
}

/// Y8: `remove` takes away what is there, and nothing else; what is not there is `Ok`.
pub async fn y8_remove_takes_it_away_and_absent_is_ok(subject: &mut dyn DeployerSubject) {
    let (one, other) = (bundle("Y8"), other_bundle("Y8", &["absent.test"]));
    deploy("Y8", subject, &one, "with a new certificate", Outcome::Applied).await;
    if let Err(e) = subject.deployer().remove(other.id()).await {
        panic!("Y8: removing what was never deployed fails: {}", e.report());
    }
    must_see("Y8", subject, &one, "after removing another one").await;
    subject.release(one.id()).await;
    for time in ["it", "it a second time"] {
        if let Err(e) = subject.deployer().remove(one.id()).await {
            panic!("Y8: removing {time} fails: {}", e.report());
        }
    }
    // The contract does not say that an old worker may not answer once more.
    let grace = Deadline::after(Duration::from_secs(3));
    while shown(subject.handshake_address()).await.is_ok_and(|seen| seen.first() == one.chain_der().first()) {
        assert!(
            grace.sleep(Duration::from_millis(50)).await,
            "Y8: after remove a client still sees the certificate"
        );
    }
    assert!(subject.deployer().verify(&one).await.is_err(), "Y8: after remove, verify is Ok");
}

/// Y9: neither `Debug` nor any error shows a private key.
pub async fn y9_no_private_key_is_ever_shown(subject: &mut dyn DeployerSubject) {
    let (one, two) = (bundle("Y9"), bundle("Y9"));
    deploy("Y9", subject, &one, "with a new certificate", Outcome::Applied).await;
    let mut texts = vec![("Debug", format!("{:?}", subject.deployer()))];
    subject.break_target().await;
    let failed = must_fail("Y9", subject, &two).await;
    subject.mend().await;
    let unverified = subject.deployer().verify(&two).await.err();
    for error in unverified.iter().chain([&failed]) {
        texts.push(("an error", format!("{error} {error:?} {}", error.report())));
    }
    for key in [&one, &two].into_iter().filter_map(|bundle| bundle.key()) {
        let pem = key.to_pem();
        let octets = key.to_pkcs8().expose();
        let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        let list = format!("{octets:?}");
        let lines = pem.expose().lines().filter(|line| !line.starts_with('-') && line.len() >= 16);
        for form in lines.chain([hex.as_str(), list.trim_matches(['[', ']'])]) {
            for (what, text) in &texts {
                assert!(!text.contains(form), "Y9: {what} shows a private key");
            }
        }
    }
}

/// Y10: it does the same behind `Arc` and `Box`.
pub async fn y10_it_works_behind_arc_and_box(subject: &mut dyn DeployerSubject) {
    let (one, two) = (bundle("Y10"), bundle("Y10"));
    let bare = subject.deployer();
    let boxed: Box<dyn Deployer> = Box::new(Arc::clone(&bare));
    let shared: Arc<Box<dyn Deployer>> = Arc::new(Box::new(Arc::clone(&bare)));
    assert!(
        boxed.id() == bare.id() && shared.id() == bare.id(),
        "Y10: the id is another one behind a pointer"
    );
    let pointers: [(&str, &dyn Deployer, &Bundle); 2] = [("Box", &boxed, &one), ("Arc", &shared, &two)];
    for (pointer, deployer, bundle) in pointers {
        match deployer.deploy(bundle).await {
            Ok(Outcome::Applied) => {
                must_see("Y10", subject, bundle, "after deploying behind a pointer").await
            }
            other => panic!("Y10: behind {pointer}, deploy answers {other:?}"),
        }
        if let Err(e) = deployer.verify(bundle).await {
            panic!("Y10: behind {pointer}, verify fails: {}", e.report());
        }
    }
}
