//! The program as a timer runs it: a configuration, a CSV file, a CA; and what is on the disk afterwards.

#![expect(clippy::unwrap_used, reason = "test code: what is impossible here may panic")]

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use acmekit::atomic::{FileAttributes, write_file};
use acmekit::{ChallengeKind, Identifier, async_trait};
use acmekit_server::faults::{Action, Fault};
use acmekit_server::{Endpoint, Problem, TestCa, Validation, Validator};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(120);

/// Believes every client but those of `broken.example.test`.
#[derive(Debug)]
struct NotTheBroken;

#[async_trait]
impl Validator for NotTheBroken {
    fn kinds(&self, _: &Identifier) -> Vec<ChallengeKind> {
        vec![ChallengeKind::Http01]
    }

    async fn validate(&self, validation: &Validation) -> Result<(), Problem> {
        match validation.identifier.to_string().starts_with("broken.") {
            true => Err(Problem::unauthorized("the answer is another")),
            false => Ok(()),
        }
    }
}

/// A CA, and a folder with the configuration for it.
struct World {
    ca: TestCa,
    folder: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let ca = TestCa::builder().validator(NotTheBroken).start().await.unwrap();
        let world = Self { ca, folder: tempfile::tempdir().unwrap() };
        world.write("root.pem", world.ca.root_pem());
        world.write("domains.csv", "names,id\n# three of them\na.example.test\nb.example.test www.b.example.test,b\nc.example.test,c,ecdsa-p384,web\n");
        std::fs::create_dir(world.path("live")).unwrap();
        world.configure("");
        world
    }

    /// The configuration, with this at its end.
    fn configure(&self, more: &str) {
        let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            r#"certificates_csv = "domains.csv"
[[authorities]]
ca = "{}"
id = "test-ca"
contacts = ["ops@example.test"]
agree_to_terms = true
extra_roots = "root.pem"
[authorities.timeouts]
poll = "30s"
[store]
kind = "files"
path = "state"
[http]
listen = "{listen}"
[[deployers]]
kind = "files"
root = "live"
{more}"#,
            self.ca.directory_url()
        );
        self.write("acme.toml", &text);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        write_file(&self.path(name), text.as_bytes(), FileAttributes::mode(0o600)).unwrap();
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        run(&self.path("acme.toml"), arguments).await
    }

    fn deployed(&self, id: &str) -> String {
        std::fs::read_to_string(self.path("live").join(id).join("fullchain.pem")).unwrap_or_default()
    }
}

/// What the program said.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    told: String,
}

impl Ended {
    /// The line of the table that begins like this.
    fn line(&self, id: &str) -> &str {
        self.out.lines().find(|line| line.starts_with(id)).unwrap_or_else(|| panic!("no {id} in {self:?}"))
    }
}

fn command(file: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_from-config"));
    command.arg(file).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn run(file: &Path, arguments: &[&str]) -> Ended {
    let mut command = command(file, arguments);
    let Output { status, stdout, stderr } = timeout(SOON, command.output()).await.unwrap().unwrap();
    let text = |octets| String::from_utf8(octets).unwrap();
    Ended { code: status.code(), out: text(stdout), told: text(stderr) }
}

#[tokio::test]
async fn what_is_missing_is_ordered_and_deployed_and_nothing_twice() {
    let world = World::start().await;

    let plan = world.run(&["--dry-run"]).await;
    assert_eq!(plan.code, Some(0), "{plan:?}");
    assert!(
        plan.line("b ").contains("missing") && plan.out.contains("would order it: there is none"),
        "{plan:?}"
    );
    assert!(plan.line("c ").contains("files would-deploy"), "{plan:?}");
    let asked = |endpoint| world.ca.requests(endpoint);
    assert_eq!((asked(Endpoint::NewAccount), asked(Endpoint::NewOrder)), (0, 0), "a dry run orders nothing");

    let first = world.run(&[]).await;
    assert_eq!(first.code, Some(0), "{first:?}");
    for id in ["a.example.test-", "b ", "c "] {
        assert!(first.line(id).contains("issued") && first.line(id).contains("files applied"), "{first:?}");
    }
    assert!(
        first.told.contains("b: issued") && first.out.contains("3 certificates, 3 issued, 0 failed"),
        "{first:?}"
    );
    assert!(world.deployed("b").contains("BEGIN CERTIFICATE"));
    assert!(world.path("live/c/privkey.pem").is_file());
    assert_eq!(world.ca.certificates_issued(), 3);
    assert_eq!(world.ca.state().accounts().len(), 1, "they share the account");

    let second = world.run(&[]).await;
    assert_eq!(second.code, Some(0), "{second:?}");
    assert!(second.line("b ").contains("valid") && second.line("b ").contains("files current"), "{second:?}");
    assert_eq!(asked(Endpoint::NewOrder), 3, "the second run orders nothing");

    let (before, other) = (world.deployed("b"), world.deployed("c"));
    let forced = world.run(&["--force", "b"]).await;
    assert!(forced.code == Some(0) && forced.line("b ").contains("issued"), "{forced:?}");
    assert_eq!(asked(Endpoint::NewOrder), 4);
    assert!(world.deployed("b") != before && world.deployed("c") == other);

    // A file that somebody has damaged is put back without an order; a dry run sees it before.
    std::fs::remove_file(world.path("live/c")).unwrap();
    let plan = world.run(&["--dry-run"]).await;
    assert!(
        plan.line("c ").contains("would-deploy") && plan.line("b ").contains("files current"),
        "{plan:?}"
    );
    assert!(world.run(&[]).await.line("c ").contains("files applied"));
    assert_eq!((asked(Endpoint::NewOrder), world.deployed("c") == other), (4, true));
}

#[tokio::test]
async fn one_that_fails_holds_back_no_other_and_needs_a_person() {
    let world = World::start().await;
    world.configure("[[certificates]]\nnames = [\"broken.example.test\"]\nid = \"broken\"\n");
    let ended = world.run(&[]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.line("broken").contains("failed"), "{ended:?}");
    assert!(
        ended.out.contains("the answer is another") && ended.out.contains("certificates[0], line 18"),
        "{ended:?}"
    );
    assert!(ended.out.contains("4 certificates, 3 issued, 1 failed"), "{ended:?}");
    assert!(world.deployed("b").contains("BEGIN CERTIFICATE") && world.deployed("broken").is_empty());
    assert_eq!(world.ca.certificates_issued(), 3);

    // A timer that is too quick spends nothing.
    let orders = || world.ca.requests(Endpoint::NewOrder);
    let before = orders();
    for _ in 0..3 {
        let again = world.run(&[]).await;
        assert_eq!((again.code, orders()), (Some(1), before), "{again:?}");
        assert!(again.line("broken").contains("failed") && again.line("b ").contains("valid"), "{again:?}");
        assert!(
            again.out.contains("failed once in a row") && again.out.contains("the answer is another"),
            "{again:?}"
        );
    }
    let status = world.run(&["--status"]).await;
    assert!(status.code == Some(1) && status.out.contains("the answer is another"), "{status:?}");
    assert!(world.run(&["--dry-run"]).await.out.contains("too early to try again"));
    // A person may.
    let forced = world.run(&["--force", "broken"]).await;
    assert!(forced.code == Some(1) && orders() == before + 1, "{forced:?}");
    assert!(forced.out.contains("failed 2 times in a row"), "{forced:?}");
    assert!(!forced.out.contains("b.example"), "the others are left alone: {forced:?}");
}

#[tokio::test]
async fn the_store_alone_answers_what_there_is() {
    let world = World::start().await;
    world.run(&[]).await;
    let requests = world.ca.requests(Endpoint::Directory);
    let status = world.run(&["--status", "--json"]).await;
    assert_eq!((status.code, world.ca.requests(Endpoint::Directory)), (Some(0), requests), "{status:?}");
    let read: serde_json::Value = serde_json::from_str(&status.out).unwrap();
    let rows = read["certificates"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!((rows[1]["id"].as_str(), rows[1]["state"].as_str()), (Some("b"), Some("valid")));
    assert_eq!(rows[2]["group"], "web");
    assert!(rows[1]["valid_until"].as_str().unwrap() > rows[1]["renew_at"].as_str().unwrap());
    // Another name is wished for: what is stored does not have it.
    world.write("domains.csv", "b.example.test www.b.example.test mail.b.example.test,b\nd.example.test,d\n");
    let status = world.run(&["--status"]).await;
    assert!(status.line("b ").contains("unfit") && status.line("d ").contains("missing"), "{status:?}");
}

#[tokio::test]
async fn a_wrong_configuration_ends_it_with_file_and_line_before_anything_is_done() {
    let world = World::start().await;
    world.configure("[[certificates]]\nnames = [\"x.example.test\"]\ndeployer = [\"files\"]\n");
    let ended = world.run(&[]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    for told in ["acme.toml:20:1: certificates[0].deployer: ", "did you mean `deployers`?"] {
        assert!(ended.told.contains(told), "{told} in {ended:?}");
    }
    assert!(ended.out.is_empty() && !world.path("state").exists());
    world.configure("");
    world.write("domains.csv", "a b.example.test\n");
    let ended = world.run(&[]).await;
    assert!(ended.code == Some(2) && ended.told.contains("domains.csv:1:1: names[0]: "), "{ended:?}");
    world.write("domains.csv", "a.example.test,a\n");
    for wrong in [&["--force", "b"][..], &["--status", "--dry-run"], &["--jobs", "0"], &["--what"]] {
        let ended = world.run(wrong).await;
        assert!(ended.code == Some(2) && ended.told.contains(wrong[0]), "{ended:?}");
    }
    assert_eq!(run(&world.path("none.toml"), &[]).await.code, Some(2));
    assert_eq!(world.ca.certificates_issued(), 0);
}

#[tokio::test]
async fn sigterm_ends_it_and_the_next_run_goes_on() {
    let world = World::start().await;
    let hanging = world.ca.faults().add(Fault::new(Endpoint::Finalize, Action::Hang).always());
    let mut child =
        command(&world.path("acme.toml"), &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let convinced =
        async { while !lines.next_line().await.unwrap().unwrap().contains("the CA is convinced") {} };
    timeout(SOON, convinced).await.unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let ended = timeout(SOON, child.wait_with_output()).await.unwrap().unwrap();
    let out = String::from_utf8(ended.stdout).unwrap();
    assert!(
        ended.status.code() == Some(1) && out.contains("interrupted") && out.contains("run it again"),
        "{out}"
    );
    world.ca.faults().remove(hanging);
    let next = world.run(&[]).await;
    assert!(next.code == Some(0) && next.told.contains("goes on with an order from before"), "{next:?}");
    assert_eq!(world.ca.certificates_issued(), 3);
}

#[tokio::test]
async fn a_plan_says_when_the_limits_let_each_certificate_be_ordered() {
    let world = World::start().await;
    let names: String = (0..12).map(|n| format!("n{n}.example.org\n")).collect();
    world.write("domains.csv", &names);
    let text = std::fs::read_to_string(world.path("acme.toml")).unwrap();
    let limits = "[authorities.limits]\ncertificates_per_domain = { count = 10, period = \"10h\" }\n[store]";
    world.write("acme.toml", &text.replace("[store]", limits));
    let plan = world.run(&["--plan"]).await;
    assert_eq!(plan.code, Some(0), "{plan:?}");
    assert_eq!(plan.out.matches("the 10 certificates for `example.org` are spent").count(), 2, "{plan:?}");
    assert!(plan.out.contains("12 to order, all done at 2"), "{plan:?}");
    assert_eq!(world.ca.requests(Endpoint::Directory), 0, "nobody is asked");
    let json = world.run(&["--plan", "--json"]).await;
    assert!(json.out.contains("\"done_at\""), "{json:?}");
}

#[tokio::test]
async fn the_records_to_set_are_printed_as_lines_of_a_zone_file() {
    let world = World::start().await;
    world.configure(
        "[dns]\nresolvers = [\"127.0.0.1:9\"]\nstanding_records = true\n\
         [[certificates]]\nnames = [\"*.a.example.test\"]\nid = \"wild\"\nchallenge = \"dns-persist-01\"\n\
         [[certificates]]\nnames = [\"web.example.test\"]\nchallenge = \"http-01\"\n",
    );
    let ended = world.run(&["--standing-records"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines: Vec<&str> = ended.out.lines().collect();
    let of = |domain: &str| {
        let start =
            format!("_validation-persist.{domain}. 3600 IN TXT \"ca.example.test; accounturi=https://");
        let found: Vec<_> = lines.iter().filter(|line| line.starts_with(&start)).collect();
        assert!(found.len() <= 1, "{lines:?}");
        found.first().map(|line| line.contains("; policy=wildcard\""))
    };
    // One for the domain and the wildcard below it, though they are two certificates.
    assert_eq!((of("a.example.test"), of("b.example.test")), (Some(true), Some(false)), "{lines:?}");
    assert_eq!(of("web.example.test"), None, "http-01 needs no record");
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(world.ca.certificates_issued(), 0);
}
