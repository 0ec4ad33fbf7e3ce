//! certbot: the EFF's client.

use std::path::PathBuf;

use super::{CaAccess, Proof, StockClient, Workplace, strings};
use crate::TestbedError;

/// certbot, with its `standalone` server or with hooks for DNS.
#[derive(Debug)]
pub struct Certbot(Workplace);

impl StockClient for Certbot {
    const NAME: &'static str = "certbot";

    async fn new(ca: &CaAccess) -> Result<Self, TestbedError> {
        Workplace::new(Self::NAME, "certbot", ca).map(Self)
    }

    async fn obtain(&mut self, names: &[&str], proof: &Proof) -> Result<(), TestbedError> {
        self.0.ask(names, proof);
        let mut args = strings(["certonly", "--agree-tos", "--register-unsafely-without-email"]);
        args.extend(["--cert-name".to_owned(), self.0.first_name()?.to_owned()]);
        for name in names {
            args.extend(strings(["--domain", name]));
        }
        match proof {
            Proof::Http01 => {
                args.extend(strings(["--standalone", "--http-01-address", "127.0.0.1", "--http-01-port"]));
                args.push(self.0.ca.http_port.to_string());
            }
            Proof::Dns01(dns) => {
                let hook = |name: &str, verb: &str| {
                    let command =
                        format!(r#"txt {verb} "_acme-challenge.$CERTBOT_DOMAIN." "$CERTBOT_VALIDATION""#);
                    let script = dns.script(self.0.dir.path(), name, &command)?;
                    Ok::<_, TestbedError>(script.display().to_string())
                };
                args.extend(strings(["--manual", "--preferred-challenges", "dns"]));
                args.extend(["--manual-auth-hook".to_owned(), hook("auth-hook", "add")?]);
                args.extend(["--manual-cleanup-hook".to_owned(), hook("cleanup-hook", "delete")?]);
            }
        }
        self.run(args).await
    }

    /// By what it noted when it got the first one, as its timer does.
    async fn renew(&mut self) -> Result<(), TestbedError> {
        let name = self.0.first_name()?;
        let args = ["renew", "--force-renewal", "--no-random-sleep-on-renew", "--cert-name", name];
        self.run(strings(args)).await
    }

    async fn revoke(&mut self) -> Result<(), TestbedError> {
        let name = self.0.first_name()?;
        self.run(strings(["revoke", "--no-delete-after-revoke", "--cert-name", name])).await
    }

    fn fullchain_path(&self) -> Result<PathBuf, TestbedError> {
        Ok(self.0.path("config/live").join(self.0.first_name()?).join("fullchain.pem"))
    }
}

impl Certbot {
    async fn run(&self, mut args: Vec<String>) -> Result<(), TestbedError> {
        args.extend(strings(["--non-interactive", "--server", &self.0.ca.directory_url]));
        for (option, folder) in [("--config-dir", "config"), ("--work-dir", "work"), ("--logs-dir", "logs")] {
            args.extend([option.to_owned(), self.0.path(folder).display().to_string()]);
        }
        self.0.run(args, &[("REQUESTS_CA_BUNDLE", self.0.root().display().to_string())]).await
    }
}
