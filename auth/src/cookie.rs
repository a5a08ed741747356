//! Cookies, as little of RFC 6265 as nO needs: one value out of a `Cookie` header, and a
//! `Set-Cookie` that scripts cannot read and other sites cannot send along.

/// Cookies of one request that are looked at; a browser sends fewer.
const COOKIES_MAX: usize = 64;

/// The value of the cookie of that name in the `Cookie` headers of a request. `None` as well when
/// it comes twice: somebody between us and the browser has added one, and which is ours is not to
/// be known.
#[must_use]
pub fn value_of<'h>(headers: impl IntoIterator<Item = &'h str>, name: &str) -> Option<&'h str> {
    let pairs = headers.into_iter().flat_map(|header| header.split(';')).take(COOKIES_MAX);
    let mut values = pairs.filter_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name).then_some(value)
    });
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// Names of the cookies that begin with `prefix`, as they were sent, as far as they are of letters,
/// digits and `_` after it.
#[must_use]
pub fn names_of<'h>(headers: impl IntoIterator<Item = &'h str>, prefix: &str) -> Vec<&'h str> {
    let pairs = headers.into_iter().flat_map(|header| header.split(';')).take(COOKIES_MAX);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = pairs.filter_map(|pair| {
        let (name, _) = pair.trim().split_once('=')?;
        name.strip_prefix(prefix)?.chars().all(is_plain).then_some(name)
    });
    names.collect()
}

/// How a cookie is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cookie<'a> {
    /// Its name, without a prefix.
    pub name: &'a str,
    /// Its value.
    pub value: &'a str,
    /// Under which path it is sent.
    pub path: &'a str,
    /// How long, in s; 0 removes it.
    pub max_age_s: u64,
    /// Whether it is sent by TLS alone.
    pub is_secure: bool,
}

/// The name as the browser knows it. `__Host-` binds a cookie to this host, the root path and TLS:
/// no other host of the domain can set it.
#[must_use]
pub fn name(name: &str, is_secure: bool) -> String {
    if is_secure { format!("__Host-{name}") } else { name.to_owned() }
}

impl Cookie<'_> {
    /// The value of a `Set-Cookie` header. `SameSite=Lax`, as the issuer sends the browser back
    /// from another site.
    #[must_use]
    pub fn header(&self) -> String {
        let Cookie { value, max_age_s, is_secure, .. } = *self;
        let (name, secure) = (name(self.name, is_secure), if is_secure { "; Secure" } else { "" });
        let path = if is_secure { "/" } else { self.path };
        format!("{name}={value}; Path={path}; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{secure}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_found_and_two_are_none() {
        let header = "a=1; __Host-no_session=x=y;b=2";
        assert_eq!(value_of([header], "__Host-no_session"), Some("x=y"));
        assert_eq!(value_of([header], "a"), Some("1"));
        assert_eq!(value_of([header], "no_session"), None);
        assert_eq!(value_of(["a=1; a=2"], "a"), None);
        assert_eq!(value_of([""], "a"), None);
        assert_eq!(value_of(["a"], "a"), None);
        assert_eq!(value_of(["a=1", "b=1"], "b"), Some("1"), "a header in two");
        assert_eq!(value_of(["a=1", "a=2"], "a"), None, "twice in two");
        let many = "x=1;".repeat(COOKIES_MAX) + "a=1";
        assert_eq!(value_of([&*many], "a"), None);
    }

    #[test]
    fn names_are_found_by_their_start_in_the_order_of_the_browser() {
        let headers = ["no_login_b=1; other=2", "no_login_a=3;no_login_;no_login_x\ty=4"];
        assert_eq!(names_of(headers, "no_login_"), ["no_login_b", "no_login_a"]);
        assert_eq!(names_of([""], "no_login_"), [""; 0]);
    }

    #[test]
    fn cookies_are_for_the_browser_alone() {
        let cookie =
            Cookie { name: "no_s", value: "v", path: "/auth", max_age_s: 9, is_secure: true };
        let expected = "__Host-no_s=v; Path=/; Max-Age=9; HttpOnly; SameSite=Lax; Secure";
        assert_eq!(cookie.header(), expected);
        let plain = Cookie { is_secure: false, ..cookie };
        assert_eq!(plain.header(), "no_s=v; Path=/auth; Max-Age=9; HttpOnly; SameSite=Lax");
    }
}
