//! The oracle: TLS clients, and assertions that name their clause.

use std::net::SocketAddr;
use std::time::Duration;

use acmekit_core::{Bundle, Deadline, Error, Identifier, Outcome, Result, probe};

use super::{DeployerSubject, NAMES};

/// A handshake that takes longer than this has failed.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// So many handshakes in a row must show the same: an old worker may answer some of them.
const IN_A_ROW: usize = 10;

/// A new certificate for the suite's names.
pub(super) fn bundle(clause: &str) -> Bundle {
    other_bundle(clause, &NAMES)
}

pub(super) fn other_bundle(clause: &str, names: &[&str]) -> Bundle {
    crate::test_bundle(names)
        .unwrap_or_else(|e| panic!("{clause}: no certificate to try with: {}", e.report()))
}

/// What a client that asks for the suite's first name is shown, leaf first.
pub(super) async fn shown(address: SocketAddr) -> Result<Vec<Vec<u8>>> {
    let name: Identifier = NAMES[0].parse()?;
    probe::served_chain(address, &name, Deadline::after(HANDSHAKE)).await
}

/// Every one of several clients sees this certificate with its whole chain, under each name.
pub(super) async fn must_see(clause: &str, subject: &dyn DeployerSubject, bundle: &Bundle, when: &str) {
    for _ in 0..IN_A_ROW {
        for name in &bundle.facts().identifiers {
            let deadline = Deadline::after(HANDSHAKE);
            let seen = probe::served_chain(subject.handshake_address(), name, deadline)
                .await
                .unwrap_or_else(|e| panic!("{clause}: {when}, a client gets no handshake: {}", e.report()));
            assert!(
                seen.starts_with(bundle.chain_der()),
                "{clause}: {when}, a client that asks for {name} does not see the certificate with serial {} \
                 and its chain",
                bundle.facts().serial
            );
        }
    }
}

/// Deploys, and the answer must be this.
pub(super) async fn deploy(
    clause: &str,
    subject: &dyn DeployerSubject,
    bundle: &Bundle,
    when: &str,
    expected: Outcome,
) {
    match subject.deployer().deploy(bundle).await {
        Ok(outcome) => assert!(
            outcome == expected,
            "{clause}: {when}, deploy answers {outcome:?} where {expected:?} is the truth"
        ),
        Err(e) => panic!("{clause}: {when}, deploy fails: {}", e.report()),
    }
}

/// Deploys to a broken target, which must fail.
pub(super) async fn must_fail(clause: &str, subject: &dyn DeployerSubject, bundle: &Bundle) -> Error {
    match subject.deployer().deploy(bundle).await {
        Ok(outcome) => panic!("{clause}: the target is broken, and yet deploy answers {outcome:?}"),
        Err(e) => e,
    }
}
