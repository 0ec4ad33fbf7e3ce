//! For the fuzz targets only; no part of the API.

use acmekit_core::TxtRecord;
use aws_sdk_route53::types::{ResourceRecord, ResourceRecordSet, RrType};

use crate::merge::{self, Wish};
use crate::{refusal, text};

/// Reads arbitrary octets as TXT values of a name, one a line, as a name, and as the words of a refusal. Route 53's
/// XML is the SDK's to read.
///
/// # Panics
/// If a value is not the same in the form it is sent in, a change loses what others have there, or a refusal shows
/// a credential.
#[doc(hidden)]
pub fn values(octets: &[u8]) {
    assert_eq!(text::unquoted(&text::quoted(octets)), octets, "a value is not read as it was written");
    let said = String::from_utf8_lossy(octets);
    text::name(&said);
    refusal::fuzz(&said);
    let Ok(name) = "_acme-challenge.example.com".parse() else { return };
    let values: Vec<&str> = said.lines().take(10).collect();
    let record = TxtRecord::new(name, values.first().copied().unwrap_or_default());
    let records = values.iter().filter_map(|value| ResourceRecord::builder().value(*value).build().ok());
    let set = ResourceRecordSet::builder().name("_acme-challenge.example.com.").r#type(RrType::Txt).ttl(60);
    let Ok(set) = set.set_resource_records(Some(records.collect())).build() else { return };
    for wish in [Wish::There, Wish::Gone] {
        let Ok(Some(changes)) = merge::batch(std::slice::from_ref(&set), &record, wish, 0) else { continue };
        let left = changes.iter().skip(1).filter_map(|change| change.resource_record_set());
        let left: Vec<&str> =
            left.flat_map(|set| set.resource_records()).map(|record| record.value()).collect();
        for value in values.iter().filter(|value| text::unquoted(value) != record.value.as_bytes()) {
            assert!(left.contains(value), "what others have there is lost: {value}");
        }
    }
}
