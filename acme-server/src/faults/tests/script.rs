use serde_json::json;
use tower::ServiceExt as _;

use super::{Faults, body, post, stand_in};

#[tokio::test]
async fn a_script_is_read_from_json() {
    let script = r#"[
        { "preset": "html-502", "endpoint": "finalize", "skip": 1, "times": 2 },
        { "endpoint": ["order", "finalize"], "action": "patch", "patch": { "status": "processing" },
          "only": ["valid"], "times": "always" },
        { "endpoint": "any", "action": "problem", "type": "serverInternal", "status": 500, "after_effect": true,
          "skip": 3, "retry_after": 7 },
        { "endpoint": "new-order", "action": "respond", "status": 200, "content_type": "text/plain", "body": "hi",
          "headers": { "X-A": "b" } }
    ]"#;
    let (router, _) = stand_in();
    let faults = Faults::from_json(script).unwrap();
    let service = faults.wrap(router);
    let mut seen = Vec::new();
    for path in ["/acme/new-order", "/acme/order/1/finalize", "/acme/order/1/finalize", "/acme/order/1"] {
        let response = service.clone().oneshot(post(path, &json!({}))).await.unwrap();
        seen.push((response.status().as_u16(), String::from_utf8(body(response).await).unwrap()));
    }
    assert_eq!(seen[0], (200, "hi".to_owned()));
    assert!(seen[1].1.contains("processing"));
    assert_eq!(seen[2].0, 502);
    assert_eq!(seen[3].0, 500);
    assert_eq!(faults.hits(), [1, 2, 1, 1]);
    assert_eq!(serde_json::from_str::<Faults>(script).unwrap().hits().len(), 4);
    assert!(faults.load_json("[{}]").is_err());
    assert_eq!(faults.hits(), [1, 2, 1, 1], "a script that cannot be read changes nothing");
}

#[test]
fn what_is_wrong_with_a_script_is_named() {
    for (script, expected) in [
        ("[", "not JSON: EOF while parsing a list at line 1 column 1"),
        ("{}", "not an array of rules"),
        (r#"["x"]"#, "rule 1: not an object"),
        (
            r#"[{"preset": "hang"}, {"preset": "hank"}]"#,
            "rule 2: `preset`: `hank` is unknown; one of html-502, ",
        ),
        (
            r#"[{"endpoint": "finalise", "action": "hang"}]"#,
            "rule 1: `endpoint`: \"finalise\" is unknown; `any`, or",
        ),
        (r#"[{"action": "hang"}]"#, "rule 1: `endpoint`: missing"),
        (r#"[{"endpoint": "order"}]"#, "rule 1: `action`: missing, as is `preset`; one of respond, "),
        (r#"[{"preset": "hang", "action": "hang"}]"#, "rule 1: `action`: not together with `preset`"),
        (
            r#"[{"endpoint": "order", "action": "hung"}]"#,
            "rule 1: `action`: `hung` is unknown; one of respond",
        ),
        (r#"[{"endpoint": "order", "action": "respond"}]"#, "rule 1: `status`: missing"),
        (
            r#"[{"endpoint": "order", "action": "respond", "status": 100}]"#,
            "rule 1: `status`: 100 is not the status",
        ),
        (
            r#"[{"endpoint": "order", "action": "respond", "status": 200, "body": "x"}]"#,
            "rule 1: `content_type`: missing, as",
        ),
        (
            r#"[{"preset": "hang", "times": -1}]"#,
            "rule 1: `times`: -1 is neither a whole number nor \"always\"",
        ),
        (
            r#"[{"preset": "hang", "percent": 101}]"#,
            "rule 1: `percent`: 101 is not a whole number from 0 to 100",
        ),
        (r#"[{"preset": "hang", "tmies": 1}]"#, "rule 1: `tmies`: unknown, or of no use to this action"),
        (
            r#"[{"endpoint": "order", "action": "delay", "seconds": -1}]"#,
            "rule 1: `seconds`: -1 is not a number of",
        ),
        (
            r#"[{"endpoint": "order", "action": "remove-header", "name": "a b"}]"#,
            "rule 1: `name`: `a b` is not the name",
        ),
        (
            r#"[{"endpoint": "order", "action": "set-header", "name": "Content-Length", "value": "1"}]"#,
            "rule 1: `name`: `content-length` cannot be changed",
        ),
        (r#"[{"preset": "hang", "only": "gets"}]"#, "rule 1: `only`: \"gets\" is neither `posts` nor"),
    ] {
        let error = Faults::from_json(script).unwrap_err();
        let expected = format!("script of faults: {expected}");
        assert!(error.to_string().starts_with(&expected), "{script}: {error}");
    }
}
