//! Which ports a call out may go to: a pure verdict.
//!
//! A service that reads lines can be made to act by an HTTP request: the lines that it does not
//! know it skips, those of the body it obeys (J. Topf, "The HTML Form Protocol Attack", 2001). So
//! the ports of such services are closed, and a port that neither the operator nor an agent's
//! definition wrote down must be one of the web.

/// Ports of the web: where somebody else than the definition may lead a call.
const WEB: [u16; 5] = [80, 443, 8000, 8080, 8443];

/// Ports of services that do not speak HTTP, in order: the "bad ports" of the Fetch standard, then
/// those of databases, caches, queues and remote desktops.
const SERVICES: [u16; 100] = [
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 88, 95,
    101, 102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389,
    427, 445, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636,
    873, 989, 990, 993, 995, 1433, 1521, 1719, 1720, 1723, 2049, 2181, 3306, 3389, 3659, 4045,
    4190, 4222, 5060, 5061, 5432, 5672, 5900, 6000, 6379, 6566, 6665, 6666, 6667, 6668, 6669, 6679,
    6697, 9042, 9092, 10_080, 11_211, 27_017,
];

/// Whether it is a port of the web.
#[must_use]
pub fn is_web(port: u16) -> bool {
    WEB.contains(&port)
}

/// Whether it belongs to a service that does not speak HTTP.
#[must_use]
pub fn is_service(port: u16) -> bool {
    SERVICES.binary_search(&port).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_no_web_port_is_in_it() {
        assert!(SERVICES.is_sorted_by(|a, b| a < b));
        assert!(WEB.into_iter().all(|port| !is_service(port)));
    }

    #[test]
    fn each_port_has_its_verdict() {
        for port in [0, 22, 25, 53, 110, 389, 445, 3306, 5432, 6379, 6667, 11_211, 27_017] {
            assert!(is_service(port) && !is_web(port), "{port}");
        }
        for port in [80, 443, 8000, 8080, 8443] {
            assert!(is_web(port), "{port}");
        }
        for port in [81, 444, 1024, 3000, 5000, 9000, 9200, 11_434, 65_535] {
            assert!(!is_web(port) && !is_service(port), "{port}");
        }
    }
}
