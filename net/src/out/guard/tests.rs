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
    ("http://127.00.0x0.01/", Err("loopback")),
    ("http://0127.0.0.1/", Ok("87.0.0.1")),
    ("http://08.0.0.1/", Err("malformed")),
    ("http://localhost/", Err("localhost is a loopback")),
    ("http://LOCALHOST:8080/", Err("loopback")),
    ("http://api.localhost/", Err("api.localhost is a loopback")),
    ("http://a.b.LocalHost/", Err("loopback")),
    ("http://localhost./", Err("not a name")),
    ("http://notlocalhost/", Ok("notlocalhost")),
    ("http://localhost.example/", Ok("localhost.example")),
    ("http://100.64.0.1/", Err("carrier-grade NAT")),
    ("http://100.100.100.200/", Err("metadata")),
    ("http://168.63.129.16/machine", Err("metadata")),
    ("http://192.0.0.192/opc/v2/", Err("metadata")),
    ("http://192.0.2.1/", Err("documentation")),
    ("http://198.18.0.1/", Err("benchmarking")),
    ("http://224.0.0.1/", Err("multicast")),
    ("http://240.0.0.1/", Err("reserved")),
    ("http://4294967295/", Err("broadcast")),
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
    ("http://[64:ff9b::8.8.8.8]/", Ok("[64:ff9b::808:808]")),
    ("http://[64:ff9b:1::808:808]/", Err("private")),
    ("http://[::127.0.0.1]/", Err("loopback")),
    ("http://[0:0:0:0:0:0:0:1]/", Err("loopback")),
    ("http://[::ffff:0:127.0.0.1]/", Err("loopback")),
    ("http://[2002:7f00:1::]/", Err("loopback")),
    ("http://[2002:a9fe:a9fe::1]/", Err("metadata")),
    ("http://[2001:0:a00:1:8000:63bf:f7f7:f7f7]/", Err("private")),
    ("http://[2001:0:4136:e378:8000:63bf:3f57:fffe]/", Err("private")),
    ("http://[2606:4700::5efe:10.0.0.1]/", Err("private")),
    ("http://[fe80::1]/", Err("link-local")),
    ("http://[fc00::1]/", Err("private")),
    ("http://[ff02::1]/", Err("multicast")),
    ("http://[2001:db8::1]/", Err("documentation")),
    ("http://[100::1]/", Err("reserved")),
    ("http://[fd00:ec2::254]/", Err("metadata")),
    ("http://[fe80::1%25eth0]/", Err("plain ASCII")),
    ("http://[fe80::1%eth0]/", Err("plain ASCII")),
    ("http://[::1]x/", Err("malformed")),
    ("http://[::1/", Err("malformed")),
    ("http://[127.0.0.1]/", Err("malformed")),
    ("http://::1/", Err("malformed")),
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
    ("http://１２７.0.0.1/", Err("plain ASCII")),
    ("http://١٢٧.0.0.1/", Err("plain ASCII")),
    ("http://xn--127-2j0e.0.0.1/", Err("malformed")),
    ("http://loc\u{ad}alhost/", Err("plain ASCII")),
    ("http://ⓛocalhost/", Err("plain ASCII")),
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
    ("http://example.com:22/", Err("example.com:22 is no port of the web")),
    ("http://example.com:25/", Err("no port of the web")),
    ("http://example.com:6379/", Err("no port of the web")),
    ("http://8.8.8.8:53/", Err("8.8.8.8:53 is no port of the web")),
    ("http://[2606:4700::1111]:25/", Err("[2606:4700::1111]:25 is no port of the web")),
    ("https://example.com:0022/", Err("no port of the web")),
    ("http://example.com:81/", Ok("example.com:81")),
    ("http://example.com:9200/", Ok("example.com:9200")),
    ("http://exa\tmple.com/", Err("blank")),
    ("http://example.com/\r\nHost: x", Err("blank")),
    (" http://example.com/", Err("blank")),
    ("ftp://example.com/", Err("must start")),
    ("file:///etc/passwd", Err("must start")),
    ("gopher://example.com/", Err("must start")),
    ("unix:/run/docker.sock", Err("must start")),
    ("http+unix://%2Frun%2Fdocker.sock/", Err("must start")),
    ("http://unix:/run/docker.sock", Ok("unix")),
    ("ws://example.com/", Err("must start")),
    ("data:text/plain,x", Err("must start")),
    ("dict://example.com:11211/", Err("must start")),
    ("ldap://example.com/", Err("must start")),
    ("jar:http://example.com/", Err("must start")),
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
    check("internal", 8001, "10.9.9.9", true);
    check("internal", 8001, "169.254.169.254", false);
    check("internal", 8001, "169.254.1.1", false);
    check("internal", 8001, "0.0.0.0", false);
    check("internal.evil.example", 8001, "10.9.9.9", false);
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
fn local_names_mean_loopback_and_are_allowed_by_name_or_address() {
    let check = |list: &[&str], host: &str, expected: &[&str]| {
        let guard = Guard::parse(list).expect("a good list");
        let got: Vec<_> = guard.loopbacks(host, 8080).into_iter().flatten().collect();
        let expected: Vec<IpAddr> = expected.iter().map(|ip| ip.parse().expect(ip)).collect();
        assert_eq!(got, expected, "{list:?}: {host}");
        let url = format!("http://{host}:8080/");
        assert_eq!(guard.check_url(&url).is_ok(), !expected.is_empty(), "{list:?}: {url}");
    };
    check(&[], "localhost", &[]);
    check(&["localhost"], "localhost", &["127.0.0.1", "::1"]);
    check(&["localhost:8080"], "localhost", &["127.0.0.1", "::1"]);
    check(&["localhost:8081"], "localhost", &[]);
    check(&["localhost"], "api.localhost", &[]);
    check(&["api.localhost"], "api.localhost", &["127.0.0.1", "::1"]);
    check(&["127.0.0.0/8"], "api.localhost", &["127.0.0.1"]);
    check(&["[::1]:8080"], "localhost", &["::1"]);
}

#[test]
fn a_port_of_a_service_is_open_only_where_an_entry_names_it() {
    let list = ["redis.example", "cache.example:6379", "10.0.0.0/8", "10.0.0.9:25"];
    let guard = Guard::parse(&list).expect("a good list");
    check(&guard, "http://redis.example:6379/", Err("no port of the web"));
    check(&guard, "http://cache.example:6379/", Ok("cache.example:6379"));
    check(&guard, "http://10.0.0.9:25/", Ok("10.0.0.9:25"));
    check(&guard, "http://10.0.0.8:25/", Err("no port of the web"));
    // An address that may be the allowed one is looked at again when it is known.
    check(&guard, "http://mail.example:25/", Ok("mail.example:25"));
    let at = |ip: &str| guard.check_address("mail.example", 25, ip.parse().expect(ip)).is_ok();
    assert!(at("10.0.0.9") && !at("10.0.0.8") && !at("1.1.1.1"));
    let own = Guard::default().with_origin(&parse_url("http://10.0.0.1:6379").expect("a url"));
    assert!(own.check_url("http://10.0.0.1:6379/v1").is_ok());
}

#[test]
fn where_others_lead_a_port_is_the_definitions_or_the_webs() {
    let guard = Guard::parse(&["inner.example", "10.0.0.0/8"]).expect("a good list");
    let check = |url: &str, named: Option<u16>, is_allowed: bool| {
        assert_eq!(guard.check_led(url, named).is_ok(), is_allowed, "{url} from {named:?}");
    };
    check("http://a.example/", None, true);
    check("https://a.example/", None, true);
    check("https://a.example:8443/", None, true);
    check("https://a.example:9443/", None, false);
    check("https://a.example:9443/", Some(9443), true);
    check("https://a.example:9443/", Some(443), false);
    check("https://a.example:22/", Some(22), false);
    check("http://inner.example:9000/", None, true);
    check("http://inner.example:6379/", None, false);
    check("http://10.1.1.1:9000/", None, true);
    check("http://1.1.1.1:9000/", None, false);
}

#[test]
fn an_agents_guard_allows_what_the_general_one_does_and_more() {
    let general = Guard::parse(&["10.0.0.1"]).expect("a good list");
    let own = general.with(&Guard::parse(&["10.0.0.2"]).expect("a good list"));
    for (guard, url, is_allowed) in [
        (&general, "http://10.0.0.1/", true),
        (&general, "http://10.0.0.2/", false),
        (&own, "http://10.0.0.1/", true),
        (&own, "http://10.0.0.2/", true),
        (&own, "http://10.0.0.3/", false),
    ] {
        assert_eq!(guard.check_url(url).is_ok(), is_allowed, "{url}");
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
