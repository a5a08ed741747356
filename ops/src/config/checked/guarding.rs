//! What `security` says about limits, proxies and the audit log.

use super::{flag, size, text, whole};
use crate::audit::AuditBounds;
use crate::config::raw::{Raw, parts};
use no_auth::limit::Rate;
use no_net::gate::Rates;
use no_net::proxies::{ForwardedHeader, Proxies};
use serde_json::Value;

/// Limits, proxies and the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarding {
    /// How often one may ask.
    pub rates: Rates,
    /// Whose word about addresses counts.
    pub proxies: Proxies,
    /// The audit log; `None` when it is off.
    pub audit: Option<AuditBounds>,
}

/// Reads it; what is wrong with the list of proxies is noted at its entry.
pub(super) fn guarding(raw: &mut Raw) -> Guarding {
    let asks = flag(raw, "security.rateLimit.enabled").then(|| {
        let of = |name: &str| rate(raw, name);
        (of("perPrincipal"), of("perAddress"))
    });
    let rates = Rates { asks, failures: rate(raw, "failures") };
    let audit = flag(raw, "security.audit.enabled").then(|| AuditBounds {
        file_bytes_max: whole(raw, "security.audit.maxBytes"),
        files_max: size(raw, "security.audit.files"),
    });
    Guarding { rates, proxies: proxies(raw), audit }
}

fn rate(raw: &Raw, name: &str) -> Rate {
    let number = |part: &str| {
        let path = format!("security.rateLimit.{name}.{part}");
        u32::try_from(whole(raw, &path)).unwrap_or(u32::MAX)
    };
    Rate::new(number("perSecond"), number("burst"))
}

fn proxies(raw: &mut Raw) -> Proxies {
    let header = match text(raw, "security.forwardedHeader").as_str() {
        "forwarded" => ForwardedHeader::Forwarded,
        _ => ForwardedHeader::XForwardedFor,
    };
    let list = raw.get("security.trustedProxies").map(|found| found.value);
    let list = match list {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    let list: Vec<_> = list.iter().filter_map(Value::as_str).collect();
    Proxies::parse(&list, header).unwrap_or_else(|(place, why)| {
        let mut path = parts("security.trustedProxies");
        path.push(place.to_string());
        raw.fault(&path, why, None);
        Proxies::default()
    })
}
