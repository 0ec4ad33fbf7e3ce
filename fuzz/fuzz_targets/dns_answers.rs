#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| acmekit_fuzz::dns_answers(octets));
