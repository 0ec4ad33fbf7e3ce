//! What is kept of what a program writes, and what may be shown of it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};
use zeroize::Zeroizing;

/// What of the output an error shows, in characters: the end, where the reason usually stands.
const SHOWN: usize = 1500;
/// Shorter secrets are not blotted out.
const SHORTEST: usize = 4;

/// The end of one stream.
#[derive(Default)]
pub(super) struct Tail(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    octets: VecDeque<u8>,
    cut: bool,
}

/// The beginning of one stream.
pub(super) struct Head(Mutex<(Zeroizing<Vec<u8>>, bool)>, usize);

impl Head {
    pub(super) fn new(most: usize) -> Self {
        Self(Mutex::new((Zeroizing::new(Vec::new()), false)), most)
    }

    /// The octets, and whether there were more.
    pub(super) fn take(self) -> (Zeroizing<Vec<u8>>, bool) {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, piece: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = self.1.saturating_sub(kept.0.len());
        kept.0.extend(piece.iter().take(room));
        kept.1 |= piece.len() > room;
    }
}

impl Tail {
    /// Reads to the end, however much there is, and keeps the last part.
    pub(super) async fn fill(&self, stream: Option<impl AsyncRead + Unpin>, head: Option<&Head>) {
        let Some(mut stream) = stream else { return };
        let mut piece = Zeroizing::new([0; 4096]);
        while let Ok(length @ 1..) = stream.read(&mut *piece).await {
            let read = piece.get(..length).unwrap_or_default();
            if let Some(head) = head {
                head.add(read);
            }
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.octets.extend(read);
            // Twice as much as is shown, so that blotting out has whole lines to look at.
            let surplus = kept.octets.len().saturating_sub(2 * SHOWN);
            kept.cut |= surplus > 0;
            kept.octets.drain(..surplus);
        }
    }

    /// The text, without secrets: also without the rest of one whose beginning was cut off.
    fn text(&self, secrets: &[&str]) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let octets: Vec<u8> = kept.octets.iter().copied().collect();
        let rests = secrets.iter().filter(|_| kept.cut).filter_map(|secret| {
            let secret = secret.as_bytes();
            (0..secret.len()).find(|at| octets.starts_with(&secret[*at..])).map(|at| secret.len() - at)
        });
        let rest = rests.max().unwrap_or(0);
        let text = String::from_utf8_lossy(octets.get(rest..).unwrap_or_default()).into_owned();
        without_keys(blotted(text, secrets).trim())
    }
}

/// The text with `…` instead of each of these secrets, and of each of their lines; those of less than four octets
/// are left, since they would be found everywhere and anybody can guess them.
pub fn without_secrets(text: &str, secrets: &[&str]) -> String {
    blotted(text.to_owned(), &forms(secrets))
}

fn blotted(text: String, forms: &[&str]) -> String {
    forms.iter().fold(text, |text, form| text.replace(form, "…"))
}

/// What a secret is found by: a program may show one of its lines alone. Long ones first, since one may be a part of
/// another.
fn forms<'s>(secrets: &[&'s str]) -> Vec<&'s str> {
    let lines = secrets.iter().flat_map(|secret| secret.lines().map(str::trim));
    let mut forms: Vec<&str> = secrets.iter().copied().chain(lines).collect();
    forms.retain(|form| form.len() >= SHORTEST);
    forms.sort_unstable_by_key(|form| std::cmp::Reverse(form.len()));
    forms
}

/// The end of what these streams have carried, one after the other: together, a secret could be
/// torn apart by what the other stream carried meanwhile.
pub(super) fn shown(streams: &[&Tail], secrets: &[&str]) -> String {
    let secrets = forms(secrets);
    let texts: Vec<String> = streams.iter().map(|stream| stream.text(&secrets)).collect();
    let text =
        texts.iter().map(String::as_str).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n");
    let surplus = text.chars().count().saturating_sub(SHOWN);
    text.chars().skip(surplus).collect()
}

/// Leaves out every PEM private key, even one whose beginning was cut off.
fn without_keys(text: &str) -> String {
    let mut shown: Vec<&str> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.contains("PRIVATE KEY-----") {
            if line.contains("-----END") && !inside {
                shown.clear();
            }
            inside = line.contains("-----BEGIN") && !line.contains("-----END");
            shown.push("(a private key)");
        } else if !inside {
            shown.push(line);
        }
    }
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn tail(text: &str) -> Tail {
        let tail = Tail::default();
        tail.fill(Some(text.as_bytes()), None).await;
        tail
    }

    #[test]
    fn keys_whose_beginning_was_cut_off_are_left_out() {
        assert_eq!(without_keys("b3RoZXI=\n-----END PRIVATE KEY-----\nafter"), "(a private key)\nafter");
    }

    #[tokio::test]
    async fn no_part_of_a_secret_is_left_where_the_output_was_cut() {
        // Blotting out makes the text shorter: without care its very beginning would be shown.
        let text = "correct-horse".repeat(1000);
        let shown = shown(&[&tail(&text).await], &["correct-horse"]);
        assert!(shown.chars().all(|c| c == '…'), "{shown}");
    }

    #[tokio::test]
    async fn lines_of_a_secret_and_secrets_within_secrets_are_blotted_out() {
        let streams = tail("one: first-line; two: token-and-more; 53").await;
        let shown = shown(&[&streams], &["first-line\nsecond-line", "token", "token-and-more", "53"]);
        assert_eq!(shown, "one: …; two: …; 53");
    }

    #[tokio::test]
    async fn the_beginning_is_kept_as_far_as_wanted() {
        let (head, tail) = (Head::new(5), Tail::default());
        tail.fill(Some("0123456".as_bytes()), Some(&head)).await;
        let (kept, cut) = head.take();
        assert_eq!((kept.as_slice(), cut), ("01234".as_bytes(), true));
    }
}
