//! Tests of the outbound guard: URLs, hosts, allow-lists.

use super::*;
use proptest::prelude::*;

/// `expected` is the host and port that would be called, or a piece of the refusal.
fn check(guard: &Guard, url: &str, expected: Result<&str, &str>) {
    let got = guard.check_url(url).map_err(|e| e.to_string());
    match (&got, expected) {
        (Ok(got), Ok(expected)) => {
            assert_eq!(&got[url::Position::BeforeHost..url::Position::AfterPort], expected, "{url}")
        }
        (Err(got), Err(expected)) => assert!(got.contains(expected), "{url}: {got}"),
        _ => panic!("{url}: {got:?}, not {expected:?}"),
    }
}

/// URLs with what would be called, or a piece of why not.
const SPELLINGS: &[(&str, Result<&str, &str>)] = &[
    ("http://example.com/x", Ok("example.com")),
    ("HTTPS://EXAMPLE.com:8443/x", Ok("example.com:8443")),
    ("http://8.8.8.8/", Ok("8.8.8.8")),
    ("http://134744072/", Ok("8.8.8.8")),
    ("http://xn--bcher-kva.example/", Ok("xn--bcher-kva.example")),
    ("http://[2606:4700:4700::1111]:81/", Ok("[2606:4700:4700::1111]:81")),
    ("http://127.0.0.1/", Err("loopback")),
    ("http://127.1/", Err("loopback")),
    ("http://0x7f.1/", Err("loopback")),
    ("http://0x7f000001/", Err("loopback")),
    ("http://2130706433/", Err("loopback")),
    ("http://0177.0.0.1/", Err("loopback")),
    ("http://017700000001/", Err("loopback")),
    ("http://0x7F.0x0.0x0.0x1/", Err("loopback")),
    ("http://127.0.0.1./", Err("loopback")),
    ("http://0/", Err("unspecified")),
    ("http://0.0.0.0:80/", Err("unspecified")),
    ("http://10.1/", Err("private")),
    ("http://192.168.257/", Err("private")),
    ("http://0xa9fea9fe/", Err("metadata")),
    ("http://2852039166/", Err("metadata")),
    ("http://169.254.169.254/latest/meta-data", Err("metadata")),
    ("http://[::1]/", Err("loopback")),
    ("http://[::]/", Err("unspecified")),
    ("http://[::ffff:7f00:1]/", Err("loopback")),
    ("http://[::ffff:127.0.0.1]/", Err("loopback")),
    ("http://[64:ff9b::a9fe:a9fe]/", Err("metadata")),
    ("http://[fd00:ec2::254]/", Err("metadata")),
    ("http://[fe80::1%25eth0]/", Err("plain ASCII")),
    ("http://256.1.1.1/", Err("malformed")),
    ("http://1.2.3.4.5/", Err("malformed")),
    ("http://0x/", Err("unspecified")),
    ("http://example.com./", Err("not a name")),
    ("http://localhost../", Err("not a name")),
    ("http://.example.com/", Err("not a name")),
    ("http://a..b/", Err("not a name")),
    ("http://-a.b/", Err("not a name")),
    ("http://127。0。0。1/", Err("plain ASCII")),
    ("http://①②⑦.0.0.1/", Err("plain ASCII")),
    ("http://bücher.example/", Err("plain ASCII")),
    ("http://%31%32%37.0.0.1/", Err("plain ASCII")),
    ("http://ex%61mple.com/", Err("plain ASCII")),
    ("http://user@example.com/", Err("user")),
    ("http://user:pw@example.com/", Err("user")),
    ("http://example.com@127.0.0.1/", Err("user")),
    ("http://@example.com/", Err("user")),
    ("http://example.com\\@127.0.0.1/", Err("backslash")),
    ("http:\\\\example.com/", Err("backslash")),
    ("http:/example.com/", Err("must start")),
    ("http:example.com", Err("must start")),
    ("http:///example.com/", Err("no host")),
    ("http://", Err("no host")),
    ("http://:80/", Err("malformed")),
    ("http://example.com:0/", Err("port 0")),
    ("http://example.com:65536/", Err("malformed")),
    ("http://exa\tmple.com/", Err("blank")),
    ("http://example.com/\r\nHost: x", Err("blank")),
    (" http://example.com/", Err("blank")),
    ("ftp://example.com/", Err("must start")),
    ("file:///etc/passwd", Err("must start")),
    ("gopher://example.com/", Err("must start")),
    ("//example.com/", Err("must start")),
    ("javascript:alert(1)", Err("must start")),
    ("", Err("must start")),
    ("ü", Err("must start")),
];

#[test]
fn hosts_in_any_spelling_are_what_they_mean_or_refused() {
    let guard = Guard::default();
    for (url, expected) in SPELLINGS {
        check(&guard, url, *expected);
    }
}

#[test]
fn what_is_allowed_is_allowed_and_no_more() {
    let list = ["localhost:8080", "internal", "10.1.0.0/16", "192.168.7.7:81", "fd00:1::/32"];
    let guard = Guard::parse(&list).expect("a good list");
    let check = |host: &str, port: u16, ip: &str, allowed: bool| {
        let got = guard.check_address(host, port, ip.parse().expect(ip));
        assert_eq!(got.is_ok(), allowed, "{host}:{port} at {ip}: {got:?}");
    };
    check("localhost", 8080, "127.0.0.1", true);
    check("localhost", 8080, "::1", true);
    check("localhost", 8081, "127.0.0.1", false);
    check("other", 8080, "127.0.0.1", false);
    check("internal", 1, "10.9.9.9", true);
    check("internal", 1, "169.254.169.254", false);
    check("internal", 1, "169.254.1.1", false);
    check("internal", 1, "0.0.0.0", false);
    check("internal.evil.example", 1, "10.9.9.9", false);
    check("any", 5, "10.1.255.255", true);
    check("any", 5, "::ffff:10.1.2.3", true);
    check("any", 5, "10.2.0.0", false);
    check("any", 81, "192.168.7.7", true);
    check("any", 80, "192.168.7.7", false);
    check("any", 80, "fd00:1::9", true);
    check("any", 80, "fd00:2::9", false);
    check("any", 80, "1.1.1.1", true);
}

#[test]
fn a_metadata_address_is_allowed_only_by_address() {
    let guard = Guard::parse(&["169.254.169.254"]).expect("a good list");
    assert!(guard.check_url("http://169.254.169.254/").is_ok());
    assert!(guard.check_url("http://169.254.169.253/").is_err());
}

#[test]
fn a_models_own_origin_is_allowed_exactly() {
    for (base, other_port) in [
        ("http://127.0.0.1:9000/v1", "http://127.0.0.1:9001/v1"),
        ("http://[::1]:9000/v1", "http://[::1]:9001/v1"),
    ] {
        let guard = Guard::default();
        let url = parse_url(base).expect(base);
        let own = guard.with_origin(&url);
        assert!(guard.check_url(base).is_err());
        assert!(own.check_url(base).is_ok());
        assert!(own.check_url(other_port).is_err());
    }
    let own = Guard::default().with_origin(&parse_url("http://llm.internal/v1").expect("a url"));
    let private = "10.0.0.1".parse().expect("an address");
    assert!(own.check_address("llm.internal", 80, private).is_ok());
    assert!(own.check_address("llm.internal", 81, private).is_err());
}

#[test]
fn bad_entries_are_named() {
    for bad in ["", "http://x", "10.0.0.1/8", "10.0.0.0/33", "x:0", "x:y", "a b", "::/129", "*"] {
        let list = ["ok", bad];
        assert_eq!(Guard::parse(&list).map_err(|(i, _)| i).expect_err(bad), 1, "{bad}");
    }
    for good in ["0.0.0.0/0", "::/0", "[::1]:80", "::1", "a-b.c_d:1", "LOCALHOST"] {
        assert!(Guard::parse(&[good]).is_ok(), "{good}");
    }
}

proptest! {
    #[test]
    fn every_spelling_of_an_address_has_one_verdict(bits in any::<u32>(), near in 0_usize..4) {
        // Half of all addresses are plainly public; look closer where it matters.
        let bits = [bits, bits | 0x7f00_0000, 0xa9fe_0000 | (bits & 0xffff), bits >> 8][near];
        let ip = Ipv4Addr::from_bits(bits);
        let [a, b, c, d] = ip.octets();
        let guard = Guard::default();
        let plain = guard.check_url(&format!("http://{ip}/"));
        for host in [
            bits.to_string(),
            format!("0x{bits:x}"),
            format!("0{bits:o}"),
            format!("0x{a:x}.0{b:o}.{c}.0x{d:X}"),
            format!("{a}.{}", bits & 0x00ff_ffff),
            format!("{a}.{b}.{}", bits & 0xffff),
            format!("{ip}."),
        ] {
            let spelled = guard.check_url(&format!("http://{host}/"));
            prop_assert_eq!(&spelled, &plain, "{}", host);
        }
        let class = classify(ip.into());
        let (high, low) = (bits >> 16, bits & 0xffff);
        for host in [
            format!("::ffff:{ip}"),
            format!("64:ff9b::{high:x}:{low:x}"),
            format!("2002:{high:x}:{low:x}::1"),
        ] {
            prop_assert_eq!(classify(host.parse().expect("an address")), class, "{}", host);
            let url = format!("http://[{host}]/");
            prop_assert_eq!(guard.check_url(&url).is_ok(), plain.is_ok(), "{}", url);
        }
    }
}
