use super::*;
use crate::KeyType;

/// A root, an intermediate and a leaf for `names`, as (full chain PEM, leaf key).
pub(crate) async fn issue(names: &[&str]) -> (String, PrivateKey) {
    let key = PrivateKey::generate(KeyType::EcdsaP256).await.unwrap();
    (issue_for(names, &key).await, key)
}

async fn issue_for(names: &[&str], key: &PrivateKey) -> String {
    let authority = |cn: &str| {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, cn);
        params
    };
    let root_key = rcgen::KeyPair::generate().unwrap();
    let root = rcgen::Issuer::new(authority("root"), root_key);
    let middle_key = rcgen::KeyPair::generate().unwrap();
    let middle_params = authority("intermediate");
    let middle = middle_params.signed_by(&middle_key, &root).unwrap();
    let middle_issuer = rcgen::Issuer::new(middle_params, middle_key);
    let mut params =
        rcgen::CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    params.use_authority_key_identifier_extension = true;
    let leaf = params.signed_by(&key.pair().unwrap(), &middle_issuer).unwrap();
    format!("{}\n{}", leaf.pem(), middle.pem())
}

pub(crate) fn id() -> CertificateId {
    "test".parse().unwrap()
}

#[tokio::test]
async fn a_good_bundle_tells_its_facts_and_survives_the_store() {
    let (chain, key) = issue(&["example.com", "*.example.com"]).await;
    let bundle =
        Bundle::new(id(), &chain.replace('\n', "\r\n"), Some(key), Origin::new("ca", "url")).unwrap();
    assert_eq!(bundle.facts().issuer, "intermediate");
    assert_eq!(bundle.facts().root, "root");
    assert_eq!(bundle.facts().identifiers.len(), 2);
    assert!(bundle.facts().ari_id.as_ref().unwrap().contains('.'));
    let pem = bundle.fullchain_pem();
    assert!(!pem.contains("\n\n") && !pem.contains('\r') && pem.ends_with("-----\n"));
    let again = Bundle::from_stored(bundle.to_stored().unwrap().expose()).unwrap();
    assert_eq!(again.facts(), bundle.facts());
    assert_eq!(again.key_pem(), bundle.key_pem());
    assert_eq!(again.origin(), bundle.origin());
}

#[tokio::test]
async fn a_foreign_key_is_refused() {
    let (chain, _) = issue(&["example.com"]).await;
    let other = PrivateKey::generate(KeyType::EcdsaP256).await.unwrap();
    let error = Bundle::new(id(), &chain, Some(other), Origin::default()).unwrap_err();
    assert!(error.to_string().contains("not the certificate's"), "{error}");
}

#[tokio::test]
async fn a_chain_that_does_not_link_is_refused() {
    let (one, key) = issue(&["example.com"]).await;
    let (two, _) = issue(&["example.com"]).await;
    let leaf = one.split_inclusive("-----END CERTIFICATE-----").next().unwrap();
    let foreign = two.split_inclusive("-----END CERTIFICATE-----").nth(1).unwrap();
    let error = Bundle::new(id(), &format!("{leaf}\n{foreign}"), Some(key), Origin::default()).unwrap_err();
    assert!(error.to_string().contains("not signed by the next"), "{error}");
}

#[tokio::test]
async fn names_that_are_not_covered_and_expired_certificates_are_refused() {
    let (chain, key) = issue(&["example.com"]).await;
    let bundle = Bundle::new(id(), &chain, Some(key), Origin::default()).unwrap();
    let asked = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<BTreeSet<_>>();
    let start = bundle.facts().not_before;
    bundle.check_against(&asked(&["example.com"]), start).unwrap();
    assert!(bundle.check_against(&asked(&["example.com", "www.example.com"]), start).is_err());
    assert!(bundle.check_against(&asked(&["example.com"]), bundle.facts().not_after).is_err());
}

#[tokio::test]
async fn every_flipped_byte_of_a_stored_bundle_is_noticed_and_no_error_shows_the_key() {
    let (chain, key) = issue(&["example.com"]).await;
    let secret = key.to_pem().expose().lines().nth(1).unwrap().to_owned();
    let bundle = Bundle::new(id(), &chain, Some(key), Origin::new("ca", "url")).unwrap();
    let stored = bundle.to_stored().unwrap().expose().clone();
    for at in (0..stored.len()).step_by(7) {
        let mut damaged = stored.clone();
        damaged[at] ^= 0x04;
        match Bundle::from_stored(&damaged) {
            Err(error) => assert!(!error.report().contains(&secret)),
            // White space between JSON tokens carries nothing.
            Ok(read) => assert_eq!(*read.to_stored().unwrap().expose(), stored, "byte {at}"),
        }
    }
    for cut in (0..stored.len()).step_by(97) {
        assert!(Bundle::from_stored(&stored[..cut]).is_err());
    }
}

#[tokio::test]
async fn a_chain_that_was_cut_off_is_no_shorter_chain() {
    let (chain, _) = issue(&["example.com"]).await;
    let whole = Bundle::new(id(), &chain, None, Origin::default()).unwrap();
    assert_eq!(whole.chain_der().len(), 2);
    let leaf = chain.find("-----END CERTIFICATE-----").unwrap() + "-----END CERTIFICATE-----".len();
    for cut in 0..chain.trim_end().len() {
        let read = Bundle::new(id(), &chain[..cut], None, Origin::default());
        // Where the leaf is whole and nothing else begins, there is nothing to see.
        let between = cut >= leaf && chain[leaf..cut].trim().is_empty();
        assert_eq!(read.is_ok(), between, "cut at {cut} of {}", chain.len());
    }
}

#[test]
fn what_is_no_chain_is_refused() {
    for bad in ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(Bundle::new(id(), bad, None, Origin::default()).is_err());
    }
}
