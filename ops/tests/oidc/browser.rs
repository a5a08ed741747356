//! A browser: follows redirects, keeps cookies (by the crate `cookie_store`, RFC 6265) in a jar for
//! each origin, fills in forms.

use crate::e2e::{Client, Reply};
use cookie_store::CookieStore;
use std::collections::BTreeMap;
use url::Url;

/// Redirects in a row, at most.
const REDIRECTS_MAX: usize = 20;
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// A browser of one person.
#[derive(Default)]
pub(crate) struct Browser {
    jars: BTreeMap<String, CookieStore>,
    clients: BTreeMap<String, Client>,
    /// Every URL that was gone to, in order.
    pub(crate) seen: Vec<Url>,
    /// A path before which it stops instead of following a redirect there.
    pub(crate) stops_at: Option<&'static str>,
}

/// Where a browser is, and what it shows.
pub(crate) struct Page {
    /// Its URL; after a stop the one that was not gone to.
    pub(crate) url: Url,
    /// What came last.
    pub(crate) reply: Reply,
}

impl Page {
    /// The text between two others, where both stand there.
    fn between(&self, before: &str, after: &str) -> Option<&str> {
        let (_, rest) = self.reply.text.split_once(before)?;
        Some(rest.split_once(after)?.0)
    }

    /// What the provider asks the person for; nothing on any other page.
    pub(crate) fn prompt(&self) -> Option<&str> {
        self.between(r#"name="prompt" value=""#, r#"""#)
    }

    /// The link that gives up.
    pub(crate) fn abort(&self) -> Url {
        let link = self.reply.text.split(r#"href=""#).skip(1);
        let mut link = link.filter_map(|rest| rest.split('"').next());
        let link = link.find(|link| link.ends_with("/abort")).expect("a link");
        self.url.join(link).expect("a URL")
    }
}

impl Browser {
    /// One request, without following where it leads.
    pub(crate) fn send(
        &mut self,
        method: &str,
        url: &Url,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        let origin = url.origin().ascii_serialization();
        let jar = self.jars.entry(origin.clone()).or_default();
        let cookies = jar.get_request_values(url).map(|(name, value)| format!("{name}={value}"));
        let cookies = cookies.collect::<Vec<_>>().join("; ");
        let mut all = headers.to_vec();
        if !cookies.is_empty() {
            all.push(("cookie", &cookies));
        }
        let client = self.clients.entry(origin).or_insert_with_key(|url| Client::new(url, None));
        let mut path = url.path().to_owned();
        if let Some(query) = url.query() {
            path = format!("{path}?{query}");
        }
        let reply = client.send(method, &path, &all, (method != "GET").then_some(body.as_bytes()));
        for cookie in reply.headers.get_all("set-cookie") {
            jar.parse(cookie.to_str().expect("ASCII"), url).expect("a cookie that may be set here");
        }
        self.seen.push(url.clone());
        reply
    }

    /// Goes there, and on to where that leads.
    pub(crate) fn open(&mut self, url: Url) -> Page {
        let reply = self.send("GET", &url, &[], "");
        self.follow(Page { url, reply })
    }

    /// Goes on from a page to where it leads.
    pub(crate) fn follow(&mut self, mut page: Page) -> Page {
        for _ in 0..REDIRECTS_MAX {
            if !matches!(page.reply.status, 302 | 303) {
                return page;
            }
            page.url = page.url.join(page.reply.header("location")).expect("a URL");
            if self.stops_at == Some(page.url.path()) {
                return page;
            }
            page.reply = self.send("GET", &page.url, &[], "");
        }
        panic!("it goes round in circles: {}", page.url);
    }

    /// Sends the form of a page with its hidden fields and these.
    pub(crate) fn submit(&mut self, page: &Page, fields: &[(&str, &str)]) -> Page {
        let url = page.url.join(page.between(r#"action=""#, r#"""#).expect("a form"));
        let url = url.expect("a URL");
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        for hidden in page.reply.text.split(r#"<input type="hidden" name=""#).skip(1) {
            let mut parts = hidden.split('"');
            form.append_pair(parts.next().expect("a name"), parts.nth(1).expect("a value"));
        }
        let body = form.extend_pairs(fields).finish();
        let reply = self.send("POST", &url, &[FORM], &body);
        self.follow(Page { url, reply })
    }

    /// Answers what the provider asks, as somebody who logs in and agrees; ends at the first page
    /// that asks nothing. Gives what was asked too.
    pub(crate) fn agree(&mut self, mut page: Page, login: &str) -> (Page, Vec<String>) {
        let mut asked = Vec::new();
        while let Some(prompt) = page.prompt() {
            let fields = [("login", login), ("password", "any")];
            let fields = if prompt == "login" { &fields[..] } else { &[] };
            asked.push(prompt.to_owned());
            page = self.submit(&page, fields);
        }
        (page, asked)
    }

    /// The value of a cookie for this URL.
    pub(crate) fn cookie(&self, url: &Url, name: &str) -> Option<String> {
        let jar = self.jars.get(&url.origin().ascii_serialization())?;
        let mut all = jar.get_request_values(url).filter(|(known, _)| *known == name);
        all.next().map(|(_, value)| value.to_owned())
    }

    /// Puts a cookie there, as somebody who has a hand in it would.
    pub(crate) fn plant(&mut self, url: &Url, cookie: &str) {
        let jar = self.jars.entry(url.origin().ascii_serialization()).or_default();
        jar.parse(cookie, url).expect("a cookie");
    }
}
