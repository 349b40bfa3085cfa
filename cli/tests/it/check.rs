//! `rota check`

use serde_json::json;

use crate::Desk;

#[test]
fn a_file_is_clean_or_has_warnings_or_errors() {
    let desk = Desk::new()
        .write(
            "warned.yaml",
            "version: 1\npeople: { a: { user: 1 }, b: { user: 2 } }\ndefault: { assign: a }\n",
        )
        .write("wrong.yaml", "version: 1\npeople: { a: { user: 1 } }\ndefault: { asign: a }\n");
    let clean = desk.rota(&["check", "routing.yaml"]);
    assert_eq!((clean.code, clean.out.as_str()), (0, "routing.yaml: nothing is wrong\n"));

    let warned = desk.rota(&["check", "warned.yaml"]);
    assert_eq!(warned.code, 1);
    assert_eq!(
        warned.out,
        "warned.yaml:2:27: warning: `b` is in no queue and named by no rule, so he gets no lead; put him into a queue, or leave him out\nwarned.yaml: it can be used; 1 warning\n"
    );

    let wrong = desk.json(&["check", "wrong.yaml", "--json"], 65);
    assert_eq!(
        (&wrong["file"], &wrong["errors"], &wrong["warnings"]),
        (&json!("wrong.yaml"), &json!(2), &json!(0))
    );
    assert_eq!(
        wrong["problems"][1],
        json!({
            "line": 3, "column": 12, "severity": "error", "message": "unknown key `asign` in `default`",
            "hint": "did you mean `assign`?",
        })
    );
    assert_eq!(desk.json(&["check", "routing.yaml", "--json"], 0)["problems"], json!([]));
    // The worst of several counts.
    assert_eq!(desk.rota(&["check", "wrong.yaml", "warned.yaml", "routing.yaml"]).code, 65);
}

#[test]
fn a_file_that_cannot_be_read_is_wrong() {
    let desk = Desk::new().write("bytes.yaml", b"version: \xff");
    desk.refuses(&["check", "nowhere.yaml"], 65, "nowhere.yaml: No such file");
    desk.refuses(&["check", "bytes.yaml"], 65, "bytes.yaml: the file is not UTF-8: byte 10 is wrong");
    let unreadable = desk.json(&["check", "nowhere.yaml", "--json"], 65);
    assert_eq!(unreadable["errors"], json!(1));
}
