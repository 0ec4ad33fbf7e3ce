//! The provider keeps its contract with programs that keep theirs, in each dialect, on a real BIND.

mod on_bind;

use on_bind::{Kind, OnBind};

mod lego {
    use super::*;
    acmekit_conformance::dns_provider_suite!(OnBind::start(Kind::Lego).await);
}

mod certbot {
    use super::*;
    acmekit_conformance::dns_provider_suite!(OnBind::start(Kind::Certbot).await);
}

mod acme_sh {
    use super::*;
    acmekit_conformance::dns_provider_suite!(
        OnBind::start(Kind::AcmeSh).await,
        skip {
            d04_two_values_stand_side_by_side: "acme.sh's dns_nsupdate removes all TXT values of a name",
            d07_removing_one_leaves_the_others: "acme.sh's dns_nsupdate removes all TXT values of a name",
            d10_a_refused_credential_says_so_and_stays_secret: "acme.sh's scripts end with 1 for whatever goes wrong",
            d13_values_are_kept_to_the_octet: "acme.sh's dns_nsupdate removes all TXT values of a name",
        }
    );
}
