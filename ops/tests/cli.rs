//! Commands that need no server: help, configuration, tokens, exit codes.

mod common;

use common::no;
use expect_test::expect;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn help_is_an_overview() {
    let said = no(&["--help"]);
    assert_eq!(said.code, 0);
    expect![[r#"
        nO: runs agent loops durably, on few cores

        Usage: no <COMMAND>

        Commands:
          serve        Run nO until SIGTERM
          dev          Run nO on loopback with a sample agent, and show one task of it
          task         Submit, watch and steer tasks
          agent        Define and control agents
          health       Ask a running nO whether it is healthy
          smoke        Try a running nO out: submit, watch, metrics, refusals
          config       Check, show and explain the configuration
          token        Make, list and revoke access tokens
          backup       Back a data folder up while nO runs, check backups, bring one back
          journal      Look at the journals of a data folder, also while nO runs
          db           Look at the store; make a database's tables
          audit        Check the audit log
          bench        Measure what this machine can hold, in a few seconds
          completions  Print completions for a shell
          man          Print or write manual pages
          help         Print this message or the help of the given subcommand(s)

        Options:
          -h, --help     Print help
          -V, --version  Print version

        Exit codes: 0 done, 1 failed, 2 wrong usage, 3 configuration refused, 4 store unusable,
        5 address in use, 70 broken invariant, 74 disk failed.

        Start with `no dev`.
    "#]]
    .assert_eq(&said.out);
}

#[test]
fn help_of_token_create() {
    expect![[r#"
        Make a token

        Usage: no token create [OPTIONS] --role <ROLE>

        Options:
              --role <ROLE>        What it may do: viewer, submitter, worker, operator, admin or a role of
                                   the configuration
              --tenant <TENANT>    Whose tasks it opens [default: default]
              --subject <SUBJECT>  Whose token it is, for logs [default: the role's name]
              --ttl <TTL>          How long it lives: a number with s, m, h or d [default: 1h]
              --json               Print JSON, for machines
              --config <FILE>      Configuration file with roles [env: NO_CONFIG] [default:
                                   config/operational.json if there]
              --data-dir <DIR>     Data folder with the key [env: NO_DATA_DIR] [default: data]
          -h, --help               Print help
          -V, --version            Print version

        Examples:
          no token create --role operator --ttl 8h
          no token create --role worker --tenant acme --subject render-farm --ttl 30d
          curl -H "Authorization: Bearer $(no token create --role viewer)" http://127.0.0.1:3000/v1/tasks

        Roles: viewer (see), submitter (see, submit), worker (lease), operator (see, submit, steer, write
        agents), admin (everything), and those of the configuration's `roles`.
    "#]].assert_eq(&no(&["token", "create", "--help"]).out);
}

#[test]
fn every_command_explains_itself() {
    let commands = "serve;dev;task submit;task get;task list;task watch;task cancel;task retry;\
        task feedback;task steps;agent list;agent get;agent put;agent delete;agent pause;agent resume;health;\
        config validate;config show;config keys;token create;token list;token revoke;\
        audit verify;backup create;backup verify;backup restore;journal inspect;db migrate;db health-check;db test-connection;\
        db import;db export;smoke;\
        bench;man;\
        completions";
    for command in commands.split(';') {
        let args: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let said = no(&args);
        assert_eq!(said.code, 0, "{command}: {}", said.err);
        assert!(said.out.contains("Usage: no"), "{command}");
        assert!(said.out.lines().all(|line| line.chars().count() <= 100), "{}", said.out);
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let dir = tempfile::tempdir().expect("folder");
    let said = no(&["man", "--output", dir.path().to_str().expect("utf-8")]);
    assert_eq!(said.code, 0, "{}", said.err);
    for name in ["no", "no-serve", "no-task-submit", "no-backup-create", "no-man"] {
        let page = fs::read_to_string(dir.path().join(format!("{name}.1"))).expect("a page");
        assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{page}");
    }
    let one = no(&["man", "backup", "create"]);
    let page = fs::read_to_string(dir.path().join("no-backup-create.1")).expect("a page");
    assert_eq!((one.code, one.out.trim_end()), (0, page.trim_end()));
    assert!(page.contains("backup.create") || page.contains("no\\-backup\\-create"), "{page}");
}

#[test]
fn wrong_usage_is_2() {
    for args in [
        &["serv"][..],
        &["task"],
        &["task", "submit"],
        &["task", "submit", "a", "--priority", "10"],
        &["task", "submit", "a", "{\"broken\":", "--token", "t"],
        &["task", "list", "--state", "done"],
        &["token", "create", "--role", "root"],
        &["token", "create", "--role", "viewer", "--ttl", "1w"],
        &["health", "--url", "gopher://x", "--token", "t"],
        &["dev", "--host", "0.0.0.0", "--port", "70000"],
        &["backup", "create"],
        &["backup", "restore"],
        &["smoke", "--input", "{", "--token", "t"],
        &["smoke", "--timeout", "0"],
        &["man", "no-such"],
    ] {
        let said = no(args);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{args:?}");
        assert!(!said.err.is_empty(), "{args:?}");
    }
}

#[test]
fn a_configuration_is_checked() {
    let dir = tempfile::tempdir().expect("folder");
    let file = dir.path().join("c.json");
    let path = file.to_str().expect("utf-8");
    fs::write(&file, "{\"service\":{\"port\":8080}}").expect("written");
    let said = no(&["config", "validate", "--config", path]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.starts_with("valid: would listen on 127.0.0.1:8080"), "{}", said.out);
    let said = no(&["config", "show", "--config", path, "--port", "9090"]);
    assert!(said.out.contains("service.port = 9090  (option for service.port)"), "{}", said.out);

    fs::write(&file, "{\n\"service\":{\"prt\":8080}}").expect("written");
    for command in [&["config", "validate"][..], &["config", "show"], &["serve"], &["dev"]] {
        let said = no(&[command, &["--config", path]].concat());
        assert_eq!((said.code, said.out.as_str()), (3, ""), "{command:?}");
        let fault = ":2: service.prt: unknown key (did you mean service.port?)";
        assert!(said.err.contains(fault), "{}", said.err);
    }
    let said = no(&["config", "validate", "--json", "--config", path]);
    let shown: serde_json::Value = serde_json::from_str(&said.out).expect("json");
    assert_eq!((said.code, &shown["valid"]), (3, &serde_json::json!(false)));
    assert_eq!(shown["faults"][0]["path"], "service.prt");
    assert_eq!(no(&["config", "validate", "--config", "/no/such/file"]).code, 3);

    let said = no(&["serve", "--host", "0.0.0.0"]);
    assert_eq!(said.code, 3);
    let fault =
        "option for service.host: service.host: 0.0.0.0 is not loopback and there is no TLS";
    assert!(said.err.contains(fault), "{}", said.err);
}

#[test]
fn tokens_are_made_with_the_key_of_the_data_folder() {
    let dir = tempfile::tempdir().expect("folder");
    let data = dir.path().to_str().expect("utf-8");
    let create = ["token", "create", "--role", "worker", "--tenant", "acme", "--data-dir", data];
    let said = no(&create);
    assert_eq!(said.code, 3);
    assert!(said.err.contains("start nO once"), "{}", said.err);

    let key = no_auth::LocalKey::open_or_create(dir.path()).expect("made");
    let said = no(&[&create[..], &["--json", "--ttl", "8h"]].concat());
    assert_eq!(said.code, 0, "{}", said.err);
    let shown: serde_json::Value = serde_json::from_str(&said.out).expect("json");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_s = now.expect("after 1970").as_secs();
    let token = shown["token"].as_str().expect("a token");
    let verifier = no_auth::Verifier::new(key.key_set());
    let principal = verifier.verify(token, now_s + 8 * 3_600 - 60).expect("accepted");
    assert_eq!((&*principal.tenant, &*principal.subject), ("acme", "worker"));
    assert!(verifier.verify(token, now_s + 9 * 3_600).is_err());

    let file = dir.path().join("token.key");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("mode");
    let said = no(&create);
    assert_eq!(said.code, 3);
    assert!(said.err.contains("chmod 600"), "{}", said.err);
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let said = no(&["completions", shell]);
        assert_eq!(said.code, 0);
        assert!(said.out.contains("submit"), "{shell}");
    }
}
