//! Certificates to try a deployer with.

use acmekit_core::{Bundle, CertificateSpec, Error, ErrorKind, Origin, PrivateKey, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rcgen::{KeyUsagePurpose, date_time_ymd};

/// Makes a certificate for these names as a CA would: a new root, intermediate and P-256 leaf each
/// time, valid from 2020 to 2040. The chain holds leaf and intermediate.
///
/// Two bundles for the same names have the same id, and neither certificate nor key in common.
///
/// ```
/// let one = acmekit_conformance::test_bundle(&["a.test", "*.a.test"])?;
/// let two = acmekit_conformance::test_bundle(&["a.test", "*.a.test"])?;
/// assert_eq!(one.id(), two.id());
/// assert_ne!(one.facts().serial, two.facts().serial);
/// assert_eq!(one.chain_der().len(), 2);
/// # Ok::<(), acmekit_core::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Config`] if a name is no DNS name or IP address, or there is none.
pub fn test_bundle(names: &[&str]) -> Result<Bundle> {
    let id = CertificateSpec::new(names)?.id().clone();
    let (chain, key) = issue(names).map_err(|e| {
        Error::new(ErrorKind::Config, "conformance.test_bundle", "could not make the certificates")
            .with_source(e)
    })?;
    Bundle::new(id, &chain, Some(PrivateKey::from_pem(&key)?), Origin::new("conformance", ""))
}

fn issue(names: &[&str]) -> Result<(String, String), rcgen::Error> {
    let root_key = KeyPair::generate()?;
    let root = Issuer::new(authority("acmekit conformance root")?, root_key);
    let middle_key = KeyPair::generate()?;
    let middle = authority("acmekit conformance intermediate")?;
    let middle_pem = middle.signed_by(&middle_key, &root)?.pem();
    let mut leaf = params(names)?;
    leaf.use_authority_key_identifier_extension = true;
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let leaf_pem = leaf.signed_by(&key, &Issuer::new(middle, middle_key))?.pem();
    Ok((leaf_pem + &middle_pem, key.serialize_pem()))
}

fn authority(name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(&[])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn params(names: &[&str]) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(first) = names.first() {
        params.distinguished_name.push(DnType::CommonName, *first);
    }
    Ok(params)
}
