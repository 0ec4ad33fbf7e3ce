//! For the fuzz targets only; no part of the API.

use acmekit_core::Result;
use hickory_proto::op::Message;

use crate::answer::{self, Asked, UDP_PAYLOAD};
use crate::config::Config;
use crate::records::Value;
use crate::tree::Tree;

/// Reads arbitrary octets as a question, and answers it in every way; and as the entry of a value.
///
/// # Panics
/// If an answer is too long, is none, or is one to something else.
#[doc(hidden)]
pub fn question(octets: &[u8]) {
    let Ok(mut tree) = tree() else { return };
    if let Ok(value) = serde_json::from_slice::<Value>(octets) {
        value.put_into(&mut tree);
    }
    match answer::read(octets) {
        Asked::Nothing => {
            let is_answer = octets.get(2).is_some_and(|flags| flags & 0x80 != 0);
            assert!(is_answer || octets.len() < 12, "a question is not answered");
        }
        Asked::Error(answer) => check(octets, &answer, 12),
        Asked::Question(question) => {
            question.is_ours(&tree);
            check(octets, &question.truncated(), 512);
            for complete in [true, false] {
                check(octets, &question.answer_over_udp(&tree, complete), usize::from(UDP_PAYLOAD));
                check(octets, &question.answer_over_tcp(&tree, complete), usize::from(u16::MAX));
            }
        }
    }
}

fn check(question: &[u8], answer: &[u8], limit: usize) {
    assert!(answer.len() <= limit, "an answer has {} octets", answer.len());
    assert_eq!(answer.get(..2), question.get(..2), "an answer has another id");
    assert!(answer.get(2).is_some_and(|flags| flags & 0x80 != 0), "an answer is a question");
    let read = Message::from_vec(answer);
    assert!(read.is_ok_and(|read| !read.metadata.truncation || read.answers.is_empty()), "an answer is none");
}

fn tree() -> Result<Tree> {
    let server = "ns.acme.test".parse()?;
    let config =
        Config::new(["acme.test".parse()?, "deep.down.acme.test".parse()?], ["ns.acme.test".parse()?])
            .address(server, [192, 0, 2, 53].into());
    let mut tree = Tree::new(&config)?;
    for text in ["value", &"x".repeat(255)] {
        tree.add_text(&"_acme-challenge.www.acme.test".parse()?, text);
    }
    // More than fits into an answer over UDP.
    for number in 0..20 {
        tree.add_text(&"many.acme.test".parse()?, &format!("{number:0>100}"));
    }
    Ok(tree)
}
