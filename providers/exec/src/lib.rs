//! DNS-01 by a program that is run for each change, in one of three dialects: whoever has a script for lego,
//! certbot or acme.sh keeps it as it is.
//!
//! ```
//! use acmekit_exec::{Config, Dialect, Exec};
//!
//! # fn example() -> acmekit_core::Result<()> {
//! let script = Dialect::acme_sh("/usr/share/acme.sh/acme.sh", "dns_hetzner", "/var/lib/acme/acme.sh");
//! let config = Config::new(script).zone("example.com".parse()?).env("HETZNER_Token", "…");
//! let provider = Exec::new(config)?;
//! # Ok(()) }
//! # example().unwrap();
//! ```
//!
//! # Dialects
//! For the value `VALUE` at `_acme-challenge.example.com`:
//!
//! | dialect | what is run | by |
//! |---|---|---|
//! | [`Lego`](Dialect::Lego) | `PROGRAM present _acme-challenge.example.com. VALUE`, later `PROGRAM cleanup …` | [lego's `exec`](https://go-acme.github.io/lego/dns/exec/) |
//! | [`Certbot`](Dialect::Certbot) | the auth hook, later the cleanup hook, with variables | [certbot's `--manual`](https://eff-certbot.readthedocs.io/en/stable/using.html#pre-and-post-validation-hooks) |
//! | [`AcmeSh`](Dialect::AcmeSh) | `dns_xx_add _acme-challenge.example.com VALUE`, later `dns_xx_rm …` | [acme.sh's `dnsapi`](https://github.com/acmesh-official/acme.sh/wiki/dnsapi), nearly two hundred vendors |
//!
//! **lego**: `EXEC_MODE=RAW`, in which the program is given the domain, the token and the key authorization,
//! cannot be had: a DNS provider is told records and nothing of ACME.
//!
//! **certbot**: hooks get `CERTBOT_DOMAIN` (`example.com`), `CERTBOT_VALIDATION`, and, since each challenge is a
//! run of its own here, `CERTBOT_ALL_DOMAINS` with that one domain and `CERTBOT_REMAINING_CHALLENGES=0`. The
//! cleanup hook also gets `CERTBOT_AUTH_OUTPUT`: what the auth hook wrote to its standard output (32 KiB at most),
//! without space around it and with secrets blotted out, since it is kept in the [`RecordHandle`]; it is empty
//! where the auth hook's end was not seen. `CERTBOT_TOKEN` is for http-01 alone. A hook puts the record at
//! `_acme-challenge.$CERTBOT_DOMAIN`: where a CNAME leads to a name of another form, adding is an error.
//!
//! **acme.sh**: bash reads `acme.sh` for its helpers, without running its main part, then the script. What
//! scripts keep goes to `account.conf` in a folder of their own, and nothing to `~/.acme.sh`; calls that share
//! that folder wait for each other, also between processes. bash and what the script calls (curl, openssl, …)
//! must be there.
//!
//! # What the program has to do
//! What [`DnsProvider`] demands: add **one** value beside others, remove exactly that one, and end with 0 when the
//! value is there already, or gone already. It may have to remove after a crash, when nobody knows whether it has
//! added. Some scripts do less: acme.sh's `dns_nsupdate` removes all TXT values of the name. That does for one order,
//! since apex and wildcard are presented together and removed together, and not for two at once for the same name.
//!
//! Its end is its answer:
//!
//! | it ends with | error |
//! |---|---|
//! | 0 | none |
//! | 75 (`EX_TEMPFAIL`) | `Unavailable`: try again later |
//! | 77 (`EX_NOPERM`) | `Auth`: the credential is refused |
//! | 78 (`EX_CONFIG`) | `Config`: somebody has to change something |
//! | anything else | `Other`, tried again with growing pauses |
//! | not within [`timeout`](Config::timeout) | `Timeout` |
//!
//! # How it is run
//! One at a time: such programs were written for that. As [`child::Run`](acmekit_core::child::Run) tells: without
//! input, in a small environment, in a process group of its own. At the deadline the whole group gets SIGTERM, and
//! SIGKILL two seconds later; a dropped future kills it at once. An error shows the last 1500 characters of the
//! output.
//!
//! Secrets are given by the environment of that one child ([`Config::env`]), never by arguments, and each is blotted
//! out of the output that errors show: the whole value, and each of its lines. What a program makes of it, such as
//! its base64, and what it puts on the command lines of others, such as `curl -H`, is its own affair.

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
compile_error!("acmekit-exec needs one crypto provider: enable the feature `aws-lc-rs` or `ring`");

mod config;
mod dialect;
#[doc(hidden)]
pub mod fuzzing;
mod home;

use std::fmt;
use std::time::Duration;

use acmekit_core::child::{Ended, Run};
use acmekit_core::dns::Zones;
use acmekit_core::{
    Deadline, DnsName, DnsProvider, Error, ErrorKind, ProviderLimits, RecordHandle, Result, Retry, TxtRecord,
    Zone, async_trait,
};
use tokio::sync::Mutex;

pub use self::config::{Config, Dialect};
use self::dialect::Change;
use self::home::Home;

/// The provider's id.
pub const ID: &str = "exec";

/// How long a program has after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// Runs a program for each change. See the [crate](self).
pub struct Exec {
    config: Config,
    zones: Zones,
    turn: Mutex<()>,
}

impl Exec {
    /// Checks the configuration; nothing is run.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names what is wrong; also if there are neither zones nor a resolver to look for
    /// them, and this machine has none.
    pub fn new(mut config: Config) -> Result<Self> {
        config.check()?;
        let zones = Zones::new(std::mem::take(&mut config.zones), config.resolver.take())?;
        Ok(Self { config, zones, turn: Mutex::new(()) })
    }

    async fn change(&self, change: Change<'_>, record: &TxtRecord) -> Result<Ended> {
        let run = self.config.dialect.run(&change, record)?;
        let waiting = Deadline::after(self.config.timeout);
        let op = change.op();
        let turn =
            waiting.run(op, "waiting for an earlier call", async { Ok(self.turn.lock().await) }).await?;
        let home = match &self.config.dialect {
            Dialect::AcmeSh { acme_sh, script, home } => {
                dialect::look_for([acme_sh, &dialect::api_of(acme_sh, script)]).await?;
                Some(Home::lock(op, home, waiting).await?)
            }
            _ => None,
        };
        let ended = self.run(run).await.map_err(|e| e.with("name", &record.name));
        drop((home, turn));
        let ended = ended?;
        match ended.status.success() {
            true => Ok(ended),
            false => Err(self.failed(op, ended).with("name", &record.name)),
        }
    }

    async fn run(&self, mut run: Run) -> Result<Ended> {
        run.timeout = self.config.timeout;
        run.grace = GRACE;
        run.env = self.config.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        run.to_the_end().await
    }

    fn failed(&self, op: &'static str, ended: Ended) -> Error {
        let (kind, retry, hint) = match ended.status.code() {
            Some(75) => (ErrorKind::Unavailable, Retry::Backoff, "it says itself that trying again may help"),
            Some(77) => {
                (ErrorKind::Auth, Retry::Never, "it says itself that a credential is refused: look at `env`")
            }
            Some(78) => (ErrorKind::Config, Retry::Never, "it says itself that its configuration is wrong"),
            _ => (ErrorKind::Other, Retry::Backoff, "its own words are in `output`"),
        };
        let why = format!("the program failed with {}", ended.status);
        Error::new(kind, op, why)
            .with_retry(retry)
            .with("program", self.config.dialect.name())
            .with("output", ended.output)
            .with_hint(hint)
    }
}

#[async_trait]
impl DnsProvider for Exec {
    fn id(&self) -> &str {
        ID
    }

    fn limits(&self) -> ProviderLimits {
        let mut limits = ProviderLimits::default();
        limits.concurrency = 1;
        // Waiting for others has as long as running, and then a hanging program is ended.
        limits.call_timeout = self.config.timeout * 2 + GRACE * 2;
        limits
    }

    async fn zone(&self, name: &DnsName) -> Result<Option<Zone>> {
        self.zones.holding(name, Deadline::after(self.config.timeout)).await
    }

    async fn add_txt(&self, zone: &Zone, record: &TxtRecord) -> Result<RecordHandle> {
        let ended = self.change(Change::Add, record).await?;
        let handle = RecordHandle::intent(ID, zone.clone(), record.clone());
        match self.config.dialect {
            Dialect::Certbot { .. } => Ok(handle.with_id(dialect::auth_output(&ended, &self.config)?)),
            _ => Ok(handle),
        }
    }

    async fn remove_txt(&self, handle: &RecordHandle) -> Result<()> {
        let said = handle.id.as_deref().unwrap_or_default();
        self.change(Change::Remove { said }, &handle.record).await.map(drop)
    }
}

impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exec")
            .field("dialect", &self.config.dialect)
            .field("env", &self.config.env.keys())
            .field("zones", &self.zones)
            .finish_non_exhaustive()
    }
}
