//! The hook by which a client changes TXT records.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::{Bind, TestbedError, TsigKey, files};

/// Changes TXT records by `nsupdate` with a TSIG key.
#[derive(Debug, Clone)]
pub struct DnsUpdates {
    server: SocketAddr,
    key: TsigKey,
    nsupdate: PathBuf,
}

impl From<&Bind> for DnsUpdates {
    /// Of this server's zones, with the key that may change all of them.
    fn from(bind: &Bind) -> Self {
        Self { server: bind.addr(), key: bind.tsig().clone(), nsupdate: bind.nsupdate().to_owned() }
    }
}

impl DnsUpdates {
    pub(super) fn server(&self) -> SocketAddr {
        self.server
    }

    /// Writes a script that ends with `commands`, which call `txt add|delete NAME. VALUE`.
    ///
    /// The key is in a file beside it that only its owner reads: no argument and no output shows it.
    pub(super) fn script(&self, dir: &Path, name: &str, commands: &str) -> Result<PathBuf, TestbedError> {
        let key = dir.join("dns.key");
        let text = format!(
            "key \"{}\" {{ algorithm {}; secret \"{}\"; }};\n",
            self.key.name(),
            self.key.algorithm(),
            self.key.secret_base64()
        );
        files::write_with_mode(&key, &text, 0o600)?;
        let (ip, port) = (self.server.ip(), self.server.port());
        let text = format!(
            r#"#!/bin/sh
set -eu
txt() {{
    printf 'server {ip} {port}\nupdate %s %s 1 TXT "%s"\nsend\n' "$1" "$2" "$3" |
        '{nsupdate}' -k '{key}'
}}
{commands}
"#,
            nsupdate = self.nsupdate.display(),
            key = key.display(),
        );
        let script = dir.join(name);
        files::write_with_mode(&script, &text, 0o755)?;
        Ok(script)
    }
}
