use proptest::prelude::*;

use super::*;

const P: &str = "/certs/site.pem";

#[test]
fn versions_are_read_from_show_info() {
    for (text, want) in [
        ("Name: HAProxy\nVersion: 2.6.12-1+deb12u4\nPid: 7\nStart_time_sec: 99\n", Version(2, 6)),
        ("Version: 3.1-dev11-97aea4\nPid: 7\nStart_time_sec: 99\n", Version(3, 1)),
        ("Version: 3.4.0\nPid: 7\nStart_time_sec: 99\n", Version(3, 4)),
    ] {
        assert_eq!(info(text), Some(Info { version: want, process: "7@99".to_owned() }));
    }
    for bad in
        ["", "Permission denied\n", "Version: x.y\nPid: 1\n", "Version: 3\nPid: 1\n", "Version: 3.4.0\n"]
    {
        assert_eq!(info(bad), None, "{bad}");
    }
}

#[test]
fn a_listing_needs_its_list_of_files() {
    let open = listing("# transaction\n*/certs/site.pem\n# filename\n/certs/other.pem\n/certs/site.pem\n\n")
        .unwrap();
    assert_eq!(open.transaction.as_deref(), Some(P));
    assert_eq!(open.stores.len(), 2);
    assert_eq!(listing("# filename\n\n"), Some(Listing::default()));
    for bad in [
        "",
        "\n",
        "# transaction\n*/certs/site.pem\n",
        "Permission denied\n\n",
        "# transaction\nx\n# filename\n",
    ] {
        assert_eq!(listing(bad), None, "{bad}");
    }
}

#[test]
fn a_certificate_is_shown_as_2_6_shows_it() {
    let text = "Filename: /certs/site.pem\nStatus: Used\nSerial: 47B2\nnotBefore: Nov 21 04:35:29 2026 GMT\n\
                Subject Alternative Name: DNS:a.test, DNS:*.B.test, IP Address:192.0.2.1\nAlgorithm: EC256\n\
                SHA1 FingerPrint: 8E4A\nSubject: /CN=a.test\nIssuer: /CN=ca\nChain Subject: /CN=ca\n\
                Chain Issuer: /CN=root\nOCSP Response Key: \n\n";
    let found = shown(text, P).unwrap();
    assert_eq!((found.status.as_str(), found.serial.as_str(), found.chain), ("Used", "47B2", 1));
    assert_eq!(found.sha1.as_deref(), Some("8E4A"));
    assert_eq!(found.names, ["192.0.2.1", "*.b.test", "a.test"].map(str::to_owned).into());
    let empty = shown("Filename: /certs/site.pem\nStatus: Empty\nOCSP Response Key: \n\n", P).unwrap();
    assert_eq!((empty.status.as_str(), empty.serial.as_str()), ("Empty", ""));
    assert_eq!(
        shown("Can't display the certificate: Not found or the certificate is a bundle!\n\n", P),
        None
    );
    assert_eq!(shown(text, "/certs/other.pem"), None);
}

#[test]
fn serials_compare_without_the_sign_octet() {
    assert_eq!(canonical_serial("00ab"), "AB");
    assert_eq!(canonical_serial("0AB"), canonical_serial("ab"));
}

#[test]
fn set_says_which_path_it_changed() {
    for (text, want) in [
        ("Transaction created for certificate /certs/site.pem!\n\n", Some(P)),
        ("Transaction updated for certificate /certs/site.pem!\n\n", Some(P)),
        // Trap 1: the answer to `set ssl cert /certs/site.pem` with another transaction open.
        ("Transaction updated for certificate /certs/other.pem!\n\n", Some("/certs/other.pem")),
        // Trap 6: usage after a second empty line.
        ("Transaction created for certificate /certs/site.pem!\nUnknown command: ''\n", Some(P)),
        ("", None),
        ("\nTransaction created for certificate /certs/site.pem!\n", None),
        ("[5]: Transaction created for certificate /certs/site.pem!\n", None),
        (
            "Can't replace a certificate which is not referenced by the configuration!\nCan't update P!\n\n",
            None,
        ),
        (
            "unable to load certificate from file 'P': no start line.\nCan't load the payload\nCan't update P!\n",
            None,
        ),
        ("The ongoing transaction is about 'A' but you are trying to set 'B'\nCan't update B!\n\n", None),
        ("The command is too big for the buffer size. Please change tune.bufsize\n", None),
        // Trap 16: 3.4's notice without "Can't update".
        ("Operations on certificates are currently locked!\n\n", None),
        ("Transaction created for certificate !\n", None),
    ] {
        assert_eq!(set(text), want, "{text}");
    }
}

#[test]
fn only_a_whole_success_is_a_commit() {
    use Commit::{Done, Refused, Unanswered};
    for (text, want) in [
        ("Committing /certs/site.pem.\nSuccess!\n\n", Done),
        ("Committing /certs/site.pem\nSuccess!\n\n", Done),
        ("Committing /certs/site.pem.............\nsome warning\nSuccess!\n\n", Done),
        ("Committing /certs/site.pem..\nno private key: passed a null parameter.\nFailed!\n\n", Refused),
        ("No ongoing transaction! !\nCan't commit /certs/site.pem!\n\n", Refused),
        ("inconsistencies between private key and certificate loaded 'P'.\nCan't commit P!\n\n", Refused),
        (
            "The transaction must contain at least a certificate and a private key!\nCan't commit P!\n\n",
            Refused,
        ),
        ("Permission denied\n\n", Refused),
        ("", Unanswered),
        ("\n\n", Unanswered),
        ("Committing /certs/site.pem..........", Unanswered),
        ("Committing /certs/site.pem..........\nSuccess!", Unanswered),
        ("Committing /certs/site.pem..........\nSucc", Unanswered),
        ("Committing /certs/site.pemx.\nSuccess!\n\n", Unanswered),
        ("Committing /certs/other.pem.\nSuccess!\n\n", Unanswered),
        ("No ong", Unanswered),
        ("something new before the work starts\n", Unanswered),
        ("Can't commit the certificate!\nOperations on certificates are currently locked!\n\n", Refused),
    ] {
        assert_eq!(commit(text, P), want, "{text}");
    }
}

#[test]
fn a_masters_answer_ends_with_an_empty_line_a_commit_with_its_verdict() {
    assert!(is_whole(b"# filename\n/a\n\n", false));
    assert!(!is_whole(b"# filename\n/a\n", false));
    assert!(!is_whole(b"Committing /a..\n\n", true));
    assert!(!is_whole(b"something new\n\n", true));
    assert!(is_whole(b"Committing /a..\nSuccess!\n\n", true));
    assert!(is_whole(b"Committing /a..\nwhy\nFailed!\n\n", true));
    assert!(is_whole(b"No ongoing transaction! !\nCan't commit /a!\n\n", true));
}

#[test]
fn the_other_commands_succeed_only_with_their_exact_words() {
    assert!(is_aborted("Transaction aborted for certificate '/certs/site.pem'!\n\n", P));
    assert!(is_aborted("No ongoing transaction!\n\n", P));
    assert!(!is_aborted(
        "The ongoing transaction is about 'A' but you are trying to abort a transaction for 'B'\n",
        P
    ));
    assert!(!is_aborted("Transaction aborted for certificate '/certs/other.pem'!\n", P));
    assert!(is_created("New empty certificate store '/certs/site.pem'!\n\n", P));
    assert!(!is_created("Certificate '/certs/site.pem' already exists!\n\n", P));
    assert!(is_deleted("Certificate '/certs/site.pem' deleted!\n\n", P));
    assert!(is_deleted("Can't remove the certificate: certificate '/certs/site.pem' doesn't exist!\n\n", P));
    assert!(!is_deleted(
        "Can't remove the certificate: certificate '/certs/site.pem' in use, can't be deleted!\n",
        P
    ));
    let list = "/certs/list.txt";
    let inserted = "Inserting certificate '/certs/site.pem' in crt-list '/certs/list.txt'.";
    assert!(is_listed(&format!("{inserted}\nSuccess!\n\n"), list, P));
    assert!(!is_listed(&format!("{inserted}\n"), list, P));
    assert!(!is_listed("Can't edit the crt-list: certificate '/certs/site.pem' is empty!\n\n", list, P));
    assert!(is_unlisted("Entry '/certs/site.pem' deleted in crtlist '/certs/list.txt'!\n\n", list, P));
    assert!(!is_unlisted("Can't delete the entry: found the certificate\n", list, P));
}

#[test]
fn entries_of_a_list_come_with_line_and_options() {
    let text = "# /certs/list.txt\n/certs/site.pem:1\n/certs/other.pem:2 [alpn h2\0] b.test\n/certs/site.pem:3 [alpn h2\0]\n\n";
    let found = entries(text, P).unwrap();
    let wanted =
        [Entry { line: 1, options: String::new() }, Entry { line: 3, options: "[alpn h2]".to_owned() }];
    assert_eq!(found, wanted);
    assert_eq!(entries("# /certs/list.txt\n\n", P), Some(Vec::new()));
    assert_eq!(entries("didn't find the specified filename\n\n", P), None);
}

#[test]
fn workers_are_told_from_old_ones_and_programs() {
    let text = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n\
                18613           master          1 [failed: 0]   0d00h00m06s     2.6.12\n# workers\n\
                20018           worker          0               0d00h00m06s     2.6.12\n# old workers\n\
                18616           worker          1               0d00h00m09s     2.6.12\n# programs\n\
                99              worker          0               0d00h00m09s     -\n\n";
    assert_eq!(workers(text), Some(Workers { current: vec![20018], old: vec![18616] }));
    assert_eq!(workers("Unknown command: 'show'\n"), None);
}

#[test]
fn an_excerpt_keeps_the_words_and_not_the_key() {
    let text = "Unknown command: 'MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg8nNa', but maybe\n/b64LineThatLooksLikeAPathButIsNone=\n\n";
    let said = excerpt(text, "");
    assert!(said.starts_with("Unknown command: (…)"), "{said}");
    assert!(!said.contains("MIGH") && !said.contains("b64Line"), "{said}");
    assert!(
        excerpt("Can't update /etc/haproxy/certs/site!\n", "/etc/haproxy/certs/site").contains("certs/site")
    );
    assert_eq!(excerpt("\n\n", ""), "nothing");
    // Also where other signs are stuck to it.
    let line = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgO5NxMzr+b0cUyA93";
    assert_eq!(excerpt(&format!("command:'{line}'?"), ""), "(…)");
}

proptest! {
    #[test]
    fn no_octets_make_it_panic(octets in proptest::collection::vec(any::<u8>(), 0..400)) {
        crate::fuzzing::answers(&octets);
    }

    #[test]
    fn no_cut_of_a_real_answer_is_a_commit(at in 0_usize..48) {
        let whole = "Committing /certs/site.pem.............\nSuccess!\n\n";
        let cut = whole.get(..at).unwrap_or_default();
        prop_assert_eq!(commit(cut, P), Commit::Unanswered);
    }

    #[test]
    fn no_pile_of_words_makes_it_panic(text in "(# filename|# transaction|# workers|Committing |Success!|\\*|:|'|!|\\n|/certs/site.pem|[a-z.0-9]{0,4}){0,30}") {
        crate::fuzzing::answers(text.as_bytes());
    }
}
