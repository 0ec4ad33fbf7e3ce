//! A TSIG key: name, algorithm, secret.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// How updates are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TsigAlgorithm {
    /// HMAC-SHA256.
    #[default]
    HmacSha256,
    /// HMAC-SHA384.
    HmacSha384,
    /// HMAC-SHA512.
    HmacSha512,
}

impl TsigAlgorithm {
    /// The name in configurations and on the wire, such as `hmac-sha256`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
        }
    }

    fn secret_length(self) -> usize {
        match self {
            Self::HmacSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
        }
    }
}

impl fmt::Display for TsigAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A key that a DNS server knows; made anew for each one.
#[derive(Debug, Clone)]
pub struct TsigKey {
    name: String,
    algorithm: TsigAlgorithm,
    secret_base64: String,
}

impl TsigKey {
    pub(crate) fn random(name: &str, algorithm: TsigAlgorithm) -> Self {
        let secret: Vec<u8> = std::iter::repeat_with(rand::random).take(algorithm.secret_length()).collect();
        let secret_base64 = STANDARD.encode(secret);
        crate::logs::note_secret(&secret_base64);
        Self { name: name.to_owned(), algorithm, secret_base64 }
    }

    /// Its name, without a dot at the end.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> TsigAlgorithm {
        self.algorithm
    }

    /// Its secret.
    pub fn secret_base64(&self) -> &str {
        &self.secret_base64
    }

    /// As `dig -y` and `nsupdate -y` want it.
    pub(crate) fn for_dig(&self) -> String {
        format!("{}:{}:{}", self.algorithm, self.name, self.secret_base64)
    }
}
