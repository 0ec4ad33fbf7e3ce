//! How a program is told what to do.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use acmekit_core::child::{Ended, Run, without_secrets};
use acmekit_core::{DnsName, Error, ErrorKind, Result, TxtRecord};

use crate::{Config, Dialect};

/// What is to be done with a record.
#[derive(Debug)]
pub(crate) enum Change<'a> {
    Add,
    Remove {
        /// What the auth hook said when it was added.
        said: &'a str,
    },
}

impl Change<'_> {
    pub(crate) fn op(&self) -> &'static str {
        match self {
            Self::Add => "exec.add",
            Self::Remove { .. } => "exec.remove",
        }
    }
}

/// How much of an auth hook's output its cleanup hook is given. Linux takes 128 KiB in one variable.
pub(crate) const OUTPUT: usize = 32 * 1024;

/// What acme.sh is told of where it is.
pub(crate) const ACME_SH_SETS: [&str; 5] =
    ["HOME", "LE_WORKING_DIR", "LE_CONFIG_HOME", "ACCOUNT_CONF_PATH", "DOMAIN_CONF"];

/// Reads acme.sh and the script, and calls one function. `$0` is the path of acme.sh, by which it finds what lies
/// beside it; its main part runs the command it is given, and that is `:`, which does nothing. What it keeps is
/// for nobody else to read.
const CALL: &str = r#"umask 077
. "$0" : || exit
_initpath || exit
. "$1" || exit
"$2" "$3" "$4""#;

impl Dialect {
    /// What is named in errors.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Lego { program } | Self::Certbot { auth_hook: program, .. } => {
                program.first().cloned().unwrap_or_default()
            }
            Self::AcmeSh { script, .. } => script.clone(),
        }
    }

    /// The program to be run for this change, with its arguments and the dialect's own variables.
    pub(crate) fn run(&self, change: &Change<'_>, record: &TxtRecord) -> Result<Run> {
        let TxtRecord { name, value, .. } = record;
        match self {
            Self::Lego { program } => {
                let mut run = command(change, program);
                let verb = if matches!(change, Change::Add) { "present" } else { "cleanup" };
                run.args.extend([verb.into(), format!("{name}.").into(), value.into()]);
                Ok(run)
            }
            Self::Certbot { auth_hook, cleanup_hook } => {
                let domain = domain_of(change, name)?;
                let mut run = match change {
                    Change::Add => command(change, auth_hook),
                    Change::Remove { .. } => command(change, cleanup_hook),
                };
                run.plain_env = vec![
                    ("CERTBOT_DOMAIN", domain.as_str().into()),
                    ("CERTBOT_ALL_DOMAINS", domain.as_str().into()),
                    ("CERTBOT_REMAINING_CHALLENGES", "0".into()),
                    ("CERTBOT_VALIDATION", value.into()),
                ];
                match change {
                    Change::Add => run.keep = OUTPUT,
                    Change::Remove { said } => run.plain_env.push(("CERTBOT_AUTH_OUTPUT", said.into())),
                }
                Ok(run)
            }
            Self::AcmeSh { acme_sh, script, home } => {
                let verb = if matches!(change, Change::Add) { "add" } else { "rm" };
                let mut run = Run::new(change.op(), "the script of acme.sh", "bash");
                run.args = vec!["-c".into(), CALL.into(), acme_sh.into(), api_of(acme_sh, script).into()];
                run.args.extend(
                    [format!("{}_{verb}", function_of(script)), name.to_string(), value.clone()]
                        .map(OsString::from),
                );
                let values = [
                    home.clone(),
                    home.clone(),
                    home.clone(),
                    home.join("account.conf"),
                    home.join(format!("{name}.conf")),
                ];
                run.plain_env = ACME_SH_SETS.into_iter().zip(values.map(OsString::from)).collect();
                Ok(run)
            }
        }
    }
}

fn command(change: &Change<'_>, program: &[String]) -> Run {
    let (first, more) =
        program.split_first().map_or(("", [].as_slice()), |(first, more)| (first.as_str(), more));
    let mut run = Run::new(change.op(), "the program", first);
    run.args = more.iter().map(Into::into).collect();
    run
}

/// The domain whose challenge is at this name.
fn domain_of(change: &Change<'_>, name: &DnsName) -> Result<DnsName> {
    let domain = name.parent().filter(|_| name.labels().next() == Some("_acme-challenge"));
    domain.ok_or_else(|| {
        let why = "a hook of certbot puts records at `_acme-challenge.$CERTBOT_DOMAIN` alone";
        Error::new(ErrorKind::Unsupported, change.op(), why).with("name", name).with_hint(
            "let the CNAME lead to a name that begins with `_acme-challenge.`, or use another dialect",
        )
    })
}

/// The file of a script.
pub(crate) fn api_of(acme_sh: &Path, script: &str) -> PathBuf {
    match script.contains('/') {
        true => script.into(),
        false => acme_sh.with_file_name("dnsapi").join(format!("{script}.sh")),
    }
}

/// What the functions of a script begin with: its name.
pub(crate) fn function_of(script: &str) -> &str {
    let file = script.rsplit('/').next().unwrap_or(script);
    file.strip_suffix(".sh").unwrap_or(file)
}

/// That these files are there: bash would end with 1, as scripts do for everything.
pub(crate) async fn look_for(files: [&Path; 2]) -> Result<()> {
    for file in files {
        if !tokio::fs::metadata(file).await.is_ok_and(|found| found.is_file()) {
            return Err(Error::new(ErrorKind::Config, "exec.script", "there is no such file")
                .with("path", file.display())
                .with_hint(
                    "acme.sh is one file with a folder `dnsapi` beside it; Debian has the package `acme.sh`",
                ));
        }
    }
    Ok(())
}

/// What the auth hook said, as its cleanup hook will be given it. It goes into the journal, which is no place for
/// secrets.
pub(crate) fn auth_output(ended: &Ended, config: &Config) -> Result<String> {
    if ended.cut {
        return Err(Error::new(
            ErrorKind::Protocol,
            "exec.add",
            "the auth hook wrote too much to its standard output",
        )
        .with("most", format!("{OUTPUT} octets"))
        .with_hint("what is not for the cleanup hook belongs on the standard error"));
    }
    let text = String::from_utf8_lossy(&ended.stdout).replace('\0', "");
    let secrets: Vec<&str> = config.env.values().map(|value| value.expose().as_str()).collect();
    Ok(without_secrets(&text, &secrets).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str) -> TxtRecord {
        TxtRecord::new(name.parse().unwrap(), "VALUE")
    }

    fn told(dialect: &Dialect, change: &Change<'_>, name: &str) -> (Vec<String>, Vec<String>) {
        let run = dialect.run(change, &record(name)).unwrap();
        let text = |value: &OsString| value.to_string_lossy().into_owned();
        let env = run.plain_env.iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
        (std::iter::once(&run.program).chain(&run.args).map(text).collect(), env)
    }

    #[test]
    fn lego_has_the_verb_the_whole_name_and_the_value() {
        let lego = Dialect::lego(["/bin/update", "-v"]);
        let (args, env) = told(&lego, &Change::Add, "_acme-challenge.example.com");
        assert_eq!(args, ["/bin/update", "-v", "present", "_acme-challenge.example.com.", "VALUE"]);
        assert_eq!(env, Vec::<String>::new());
        let (args, _) = told(&lego, &Change::Remove { said: "" }, "proof.example.com");
        assert_eq!(args[2..], ["cleanup", "proof.example.com.", "VALUE"]);
    }

    #[test]
    fn certbot_has_variables_and_the_cleanup_hook_what_the_auth_hook_said() {
        let hooks = Dialect::certbot(["/auth"], ["/cleanup", "x"]);
        let (args, env) = told(&hooks, &Change::Add, "_acme-challenge.example.com");
        assert_eq!(args, ["/auth"]);
        let want = [
            "CERTBOT_DOMAIN=example.com",
            "CERTBOT_ALL_DOMAINS=example.com",
            "CERTBOT_REMAINING_CHALLENGES=0",
            "CERTBOT_VALIDATION=VALUE",
        ];
        assert_eq!(env, want);
        let (args, env) = told(&hooks, &Change::Remove { said: "id 7" }, "_acme-challenge.example.com");
        assert_eq!(args, ["/cleanup", "x"]);
        assert_eq!(
            (env[..4].to_vec(), env[4].as_str()),
            (want.map(str::to_owned).to_vec(), "CERTBOT_AUTH_OUTPUT=id 7")
        );
    }

    #[test]
    fn certbot_cannot_be_told_of_a_name_of_another_form() {
        let hooks = Dialect::certbot(["/auth"], ["/cleanup"]);
        for name in ["proof.example.com", "example.com", "_acme-challenge"] {
            let error = hooks.run(&Change::Add, &record(name)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}");
            assert!(error.hint().unwrap().contains("CNAME"));
        }
    }

    #[test]
    fn acme_sh_calls_the_function_of_the_script_in_a_home_of_its_own() {
        let script = Dialect::acme_sh("/usr/share/acme.sh/acme.sh", "dns_cf", "/var/lib/a");
        let (args, env) = told(&script, &Change::Add, "_acme-challenge.example.com");
        assert_eq!(args[..2], ["bash", "-c"]);
        let want = [
            "/usr/share/acme.sh/acme.sh",
            "/usr/share/acme.sh/dnsapi/dns_cf.sh",
            "dns_cf_add",
            "_acme-challenge.example.com",
            "VALUE",
        ];
        assert_eq!(args[3..], want);
        assert!(env.iter().all(|variable| variable.contains("=/var/lib/a")), "{env:?}");
        let own = Dialect::acme_sh("/a/acme.sh", "/opt/dns_own.sh", "/h");
        let (args, _) = told(&own, &Change::Remove { said: "" }, "example.com");
        assert_eq!(args[4..6], ["/opt/dns_own.sh", "dns_own_rm"]);
    }
}
