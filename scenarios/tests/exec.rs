//! dns-01 by a program, end to end: Pebble validates what a script has put into BIND.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::sync::Arc;

use acmekit::exec::{Config, Dialect, Exec};
use acmekit::solvers::Dns01;
use acmekit::stores::MemoryStore;
use acmekit::{CertificateSpec, Pipeline};
use acmekit_scenarios::{Recorder, World, authority, resolver};

fn program(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../providers/exec/tests/programs");
    folder.join(name).display().to_string()
}

/// What the scripts of the provider's own tests are set up by.
fn on(world: &World, dialect: Dialect) -> Config {
    let (addr, key) = (world.dns.addr(), world.dns.tsig());
    Config::new(dialect)
        .env("SERVER", format!("{} {}", addr.ip(), addr.port()))
        .env("TSIG_NAME", format!("{}:{}", key.algorithm(), key.name()))
        .env("TSIG_SECRET", key.secret_base64())
}

async fn apex_and_wildcard(world: &World, config: Config) {
    let seen = Recorder::default();
    let solver = Dns01::with_resolver(Exec::new(config).unwrap(), resolver(&world.dns).unwrap());
    let acme = Pipeline::builder(authority(&world.ca).unwrap(), Arc::new(MemoryStore::new()))
        .solver(solver)
        .observer(seen.observer())
        .build()
        .unwrap();
    let spec = CertificateSpec::new(["example.test", "*.example.test"]).unwrap();
    let issued = acme.obtain(&spec).await.unwrap();
    assert_eq!(issued.bundle.facts().identifiers.len(), 2);
    assert_eq!(seen.count("challenge-presented"), 2, "{:#?}", seen.all());
    assert_eq!(world.leftovers().await.unwrap(), []);
}

#[tokio::test]
async fn apex_and_wildcard_by_a_program_of_lego_whose_zone_the_dns_tells() {
    let world = World::start().await.unwrap();
    let mut config = on(&world, Dialect::lego(["sh", &program("lego.sh")]));
    config.resolver = Some(resolver(&world.dns).unwrap());
    apex_and_wildcard(&world, config).await;
}

#[tokio::test]
async fn apex_and_wildcard_by_hooks_of_certbot() {
    let world = World::start().await.unwrap();
    let hooks = Dialect::certbot(["sh", &program("auth.sh")], ["sh", &program("cleanup.sh")]);
    apex_and_wildcard(&world, on(&world, hooks).zone("example.test".parse().unwrap())).await;
}

#[tokio::test]
async fn apex_and_wildcard_by_a_script_of_acme_sh() {
    let world = World::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (file, key) = (folder.path().join("tsig.key"), world.dns.tsig());
    let text = format!(
        "key \"{}\" {{ algorithm {}; secret \"{}\"; }};\n",
        key.name(),
        key.algorithm(),
        key.secret_base64()
    );
    acmekit::atomic::write_file(&file, text.as_bytes(), acmekit::atomic::FileAttributes::default()).unwrap();
    let acme_sh = acmekit_testbed::acme_sh().unwrap_or_else(|error| panic!("{error}"));
    let config = Config::new(Dialect::acme_sh(acme_sh, "dns_nsupdate", folder.path().join("home")))
        .zone("example.test".parse().unwrap())
        .env("NSUPDATE_SERVER", world.dns.addr().ip().to_string())
        .env("NSUPDATE_SERVER_PORT", world.dns.addr().port().to_string())
        .env("NSUPDATE_KEY", file.display().to_string());
    apex_and_wildcard(&world, config).await;
}
