//! Replays the corpus of the fuzz targets on stable Rust: each seed, and some hundreds of mutations
//! of it, the same in every run. What cargo-fuzz finds becomes a seed, and is tried here for ever.

#![expect(clippy::unwrap_used, reason = "a test: the helpers fail where the corpus cannot be read")]

#[path = "../../fuzz/bodies.rs"]
pub mod bodies;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bodies::{TARGETS, Target};

const MUTATIONS: u64 = 400;
/// What parsers trip over.
const WORDS: [&[u8]; 20] = [
    b"",
    b"\0",
    b"\n",
    b"\r\n",
    b" ",
    b".",
    b"*",
    b"-",
    b"\"",
    b"\\u0000",
    b"{",
    b"[[[[[[[[",
    b"null",
    b"-1",
    b"18446744073709551616",
    b"\xff\xfe",
    b"\xe3\x80\x82",
    "ß\u{0301}".as_bytes(),
    b"-----BEGIN ",
    b"\x30\x84\xff\xff\xff\xff",
];

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Numbers that are the same in every run (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        start..start + self.below((length - start).min(64) + 1)
    }
}

fn mutate(seed: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut octets = seed.to_vec();
    for _ in 0..=numbers.below(3) {
        let at = numbers.range(octets.len());
        match numbers.below(7) {
            0 => octets.iter_mut().skip(at.start).take(1).for_each(|octet| *octet ^= 1 << numbers.below(8)),
            1 => drop(octets.drain(at)),
            2 => drop(octets.splice(at, WORDS[numbers.below(WORDS.len())].iter().copied())),
            3 => octets.truncate(at.start),
            4 => {
                let piece = octets[at.clone()].to_vec();
                drop(octets.splice(at.start..at.start, piece));
            }
            5 => drop(octets.splice(at, other[numbers.range(other.len())].iter().copied())),
            _ => {
                let octet = u8::try_from(numbers.below(256)).unwrap();
                octets.iter_mut().skip(at.start).take(1).for_each(|place| *place = octet);
            }
        }
    }
    octets
}

/// Panics with the octets and where they come from, if the body does.
fn run(body: fn(&[u8]), octets: &[u8], from: &str) {
    if catch_unwind(AssertUnwindSafe(|| body(octets))).is_err() {
        panic!("{from} panics on b\"{}\"", octets.escape_ascii());
    }
}

fn replay((name, body): Target) {
    let seeds: Vec<(PathBuf, Vec<u8>)> = files(&fuzz().join("corpus").join(name))
        .into_iter()
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    assert!(seeds.len() >= 3, "the corpus of {name} is too small");
    for (position, (path, seed)) in seeds.iter().enumerate() {
        run(body, seed, &path.display().to_string());
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        for mutation in 0..MUTATIONS {
            let (_, other) = &seeds[(position + 1 + numbers.below(seeds.len())) % seeds.len()];
            let octets = mutate(seed, other, &mut numbers);
            run(body, &octets, &format!("mutation {mutation} of {}", path.display()));
        }
    }
}

macro_rules! replay {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                replay((stringify!($target), bodies::$target));
            }
        )*

        /// A target is a body, a program, a corpus and a test here.
        #[test]
        fn every_target_is_everywhere() {
            let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, [$(stringify!($target)),*]);
            let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
            for name in &names {
                assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in the manifest");
                let program = std::fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).unwrap();
                assert!(program.contains(&format!("acmekit_fuzz::{name}(")), "{name} runs something else");
            }
            for folder in ["corpus", "fuzz_targets"] {
                assert_eq!(files(&fuzz().join(folder)).len(), names.len(), "{folder} has others");
            }
        }
    };
}

replay!(
    names csr bundle acme_json http_headers stored haproxy_answers rfc2136_key
    config_toml config_csv dns_answers dns_questions program_output vendor_answers route53_values http_requests
    server_jws server_payloads server_findings
);
