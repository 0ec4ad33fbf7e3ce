//! lego: the client and library in Go.

use std::path::PathBuf;

use super::{CaAccess, Proof, StockClient, Workplace, strings};
use crate::TestbedError;

/// lego, with its own HTTP server or its DNS provider `exec`.
#[derive(Debug)]
pub struct Lego(Workplace);

impl StockClient for Lego {
    const NAME: &'static str = "lego";

    async fn new(ca: &CaAccess) -> Result<Self, TestbedError> {
        Workplace::new(Self::NAME, "lego", ca).map(Self)
    }

    async fn obtain(&mut self, names: &[&str], proof: &Proof) -> Result<(), TestbedError> {
        self.0.ask(names, proof);
        self.prove(&["run"]).await
    }

    /// A century before it expires.
    async fn renew(&mut self) -> Result<(), TestbedError> {
        self.prove(&["renew", "--days", "36500", "--no-random-sleep"]).await
    }

    async fn revoke(&mut self) -> Result<(), TestbedError> {
        let mut args = self.globals();
        args.extend(strings(["--domains", self.0.first_name()?, "revoke", "--keep"]));
        self.run(args, Vec::new()).await
    }

    fn fullchain_path(&self) -> Result<PathBuf, TestbedError> {
        let name = self.0.first_name()?.replace('*', "_");
        Ok(self.0.path("lego/certificates").join(format!("{name}.crt")))
    }
}

impl Lego {
    async fn prove(&self, command: &[&str]) -> Result<(), TestbedError> {
        let (names, proof) = self.0.asked()?;
        let mut args = self.globals();
        for name in names {
            args.extend(strings(["--domains", name]));
        }
        let mut env = Vec::new();
        match proof {
            Proof::Http01 => {
                let listen = format!("127.0.0.1:{}", self.0.ca.http_port);
                args.extend(strings(["--http", "--http.port", &listen]));
            }
            Proof::Dns01(dns) => {
                let command = r#"case "$1" in
    present) txt add "$2" "$3" ;;
    cleanup) txt delete "$2" "$3" ;;
esac"#;
                let hook = dns.script(self.0.dir.path(), "dns-hook", command)?;
                // It would ask name servers at port 53 whether the records are there.
                args.extend(strings(["--dns", "exec", "--dns.disable-cp"]));
                args.extend(strings(["--dns.resolvers", &dns.server().to_string()]));
                env = vec![
                    ("EXEC_PATH", hook.display().to_string()),
                    // It waits this long before each validation and between two all the same, a minute by default.
                    ("EXEC_POLLING_INTERVAL", "1".to_owned()),
                    ("EXEC_SEQUENCE_INTERVAL", "1".to_owned()),
                ];
            }
        }
        args.extend(command.iter().map(|&arg| arg.to_owned()));
        self.run(args, env).await
    }

    fn globals(&self) -> Vec<String> {
        let mut args = strings(["--accept-tos", "--email", "ops@example.test"]);
        args.extend(strings(["--server", &self.0.ca.directory_url]));
        args.extend(["--path".to_owned(), self.0.path("lego").display().to_string()]);
        args
    }

    async fn run(&self, args: Vec<String>, mut env: Vec<(&str, String)>) -> Result<(), TestbedError> {
        env.push(("LEGO_CA_CERTIFICATES", self.0.root().display().to_string()));
        self.0.run(args, &env).await
    }
}
