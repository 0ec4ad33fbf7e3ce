//! For the fuzz targets only; no part of the API.

use std::collections::BTreeMap;
use std::time::Duration;

use acmekit_core::rest::Client;
use acmekit_core::{DnsName, fuzzing};

use crate::Updated;
use crate::account::{Account, Values};

/// Reads arbitrary octets as an answer of the server's: a line with the status, one with the content type, the
/// body; and as what is kept of it: accounts, and the values at a name.
///
/// # Panics
/// If an account or values do not survive being written, an account shows its password, or an error a credential.
#[doc(hidden)]
pub fn answer(client: &Client, octets: &[u8]) {
    let client = client.clone().with_refusals(crate::refusal);
    let body = fuzzing::vendor_answer(&client, octets).and_then(Result::ok);
    let body = body.as_deref().unwrap_or(octets);
    let _ = serde_json::from_slice::<Updated>(body);
    if let Ok(account) = serde_json::from_slice::<Account>(body) {
        kept(&account);
    }
    // A file as lego keeps it.
    if let Ok(accounts) = serde_json::from_slice::<BTreeMap<DnsName, Account>>(body) {
        accounts.values().for_each(kept);
    }
    if let Ok(mut values) = serde_json::from_slice::<Values>(body) {
        let updates = values.begin("new", Duration::from_secs(1));
        assert!(updates.len() <= values.held.len() + 1, "more is written than is needed");
        updates.iter().for_each(|value| values.wrote(value, Duration::MAX));
        values.end("new");
        assert!(values.is_held("new") && values.slots.len() <= 2 || updates.is_empty());
        let again = serde_json::to_vec(&values).ok().and_then(|octets| serde_json::from_slice(&octets).ok());
        assert!(again == Some(values), "the values do not survive being written");
    }
}

fn kept(account: &Account) {
    assert!(account.fulldomain.is_within(&account.zone()), "an account is outside its zone");
    let octets = account.octets().ok();
    let again = octets.and_then(|octets| serde_json::from_slice::<Account>(octets.expose()).ok());
    let is_same = |again: Account| {
        (again.username.expose(), again.password.expose(), &again.fulldomain)
            == (account.username.expose(), account.password.expose(), &account.fulldomain)
    };
    assert!(again.is_some_and(is_same), "an account does not survive being written");
}
