//! deploy/RUNBOOK.md, typed: every command of every `sh` block is run in order against a node, and
//! must end with the exit code that the book means; those of `sh cluster` blocks must be known.

#[path = "runbook/book.rs"]
mod book;
#[path = "monitoring/deployed.rs"]
mod deployed;
mod e2e;
#[path = "runbook/stage.rs"]
mod stage;

use book::{Place, Shell, Step, steps, unknown};
use deployed::text;
use stage::Stage;

#[test]
fn each_command_does_as_the_runbook_says() {
    let steps = steps(&text("RUNBOOK.md")).expect("blocks of both kinds alone");
    let (here, elsewhere): (Vec<&Step>, Vec<&Step>) =
        steps.iter().partition(|step| step.place == Place::Here);
    assert!(100 < here.len() && 50 < elsewhere.len(), "{} and {}", here.len(), elsewhere.len());
    let faults: Vec<String> = std::thread::scope(|scope| {
        let looked = scope.spawn(|| elsewhere.iter().filter_map(|step| unknown(step)).collect());
        let mut stage = Stage::set();
        let typed: Vec<String> = here.iter().filter_map(|step| stage.fault(step)).collect();
        let looked: Vec<String> = looked.join().expect("it looked");
        [typed, looked].concat()
    });
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// What is wrong with a book of one block, with no node anywhere.
fn faults(block: &str) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(dir.path().join("bin")).expect("a folder");
    let no = dir.path().join("bin/no");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_no"), no).expect("a link");
    let shell = Shell { dir: dir.path().to_owned(), variables: Vec::new() };
    let look = |step: &Step| match step.place {
        Place::Here => shell.fault(step, &step.text),
        Place::Elsewhere => unknown(step),
    };
    steps(block).expect("a block").iter().filter_map(look).collect()
}

#[test]
fn a_wrong_command_is_found() {
    let good = [
        "```sh\nno config keys\n```",
        "```sh\nno config \\\n  keys | grep -c engine.shards > F\n```",
        "```sh\nno health --bogus # exits 2: no such option\n```",
        "```sh cluster\nsudo -u no /usr/local/bin/no backup create --output F\n```",
        "```sh cluster\nkubectl exec POD -- no health --detailed > F | tail\n```",
    ];
    for block in good {
        assert_eq!(faults(block), [""; 0], "{block}");
    }
    let bad = [
        ("```sh\nno config keys --bogus\n```", "unexpected argument '--bogus'"),
        ("```sh\nno config keys --bogus | cat\n```", "unexpected argument '--bogus'"),
        ("```sh\nno config bogus \\\n  --json\n```", "unrecognized subcommand 'bogus'"),
        ("```sh\nno config keys # exits 3\n```", "exit status: 0, not 3"),
        ("```sh\nnobody-has-this\n```", "exit status: 127, not 0"),
        ("```sh cluster\nnobody-has-this\n```", "no tool that is known"),
        ("```sh cluster\ncat F | nobody-has-this\n```", "no tool that is known"),
        ("```sh cluster\nno backup create --outptu F\n```", "unexpected argument '--outptu'"),
        ("```sh cluster\nsudo -u no no token creat\n```", "unrecognized subcommand 'creat'"),
        ("```sh cluster\nkubectl exec P -- no health --bogus\n```", "unexpected argument"),
    ];
    for (block, why) in bad {
        let faults = faults(block);
        assert!(faults.len() == 1 && faults[0].contains(why), "{block}: {faults:?}");
    }
}

#[test]
fn a_block_that_is_neither_kind_is_refused() {
    for (book, why) in [
        ("a\n```json\n{}\n```", "line 2: a block is `sh` or `sh cluster`, not `json`"),
        ("```\nls\n```", "line 1: a block is `sh` or `sh cluster`, not ``"),
        ("```sh\nls\n", "line 1: the block has no end"),
        ("```sh\n# ls\n```", "line 1: a block without a whole command"),
        ("```sh\nls\nls \\\n```", "line 1: a block without a whole command"),
        ("```sh\nls # exits well\n```", "line 2: `exits well`"),
    ] {
        assert_eq!(steps(book), Err(why.to_owned()), "{book}");
    }
    let step = |line, text: &str, exits, place| Step { line, text: text.to_owned(), exits, place };
    assert_eq!(
        steps("a\n\n```sh\nb \\\n  c # exits 4: d\n```\n\n```sh cluster\ne\n```\n"),
        Ok(vec![step(5, "b   c", 4, Place::Here), step(9, "e", 0, Place::Elsewhere)])
    );
}
