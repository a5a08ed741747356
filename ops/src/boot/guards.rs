//! What guards a node beside its tokens: the limits, the audit log with its thread, the watches
//! over revoked tokens and the certificate, the thread that sends spans.

use super::kept::Kept;
use crate::audit::{AuditFiles, AuditWriter};
use crate::config::Config;
use crate::error::Result;
use crate::spans::{Exporter, SpanCounts, Tap};
use crate::tls::{TlsHealth, TlsWatch};
use no_auth::{Ledger, LedgerWatch};
use no_net::audit::{self, AuditLink};
use no_net::gate::Limits;
use no_net::tls::TlsSource;
use std::sync::Arc;

/// Every so many looks the limits forget who is at rest: ten seconds.
const TIDY_LOOKS: u32 = 40;

/// They, as the watch over the node holds them.
pub struct Guards {
    pub(super) limits: Arc<Limits>,
    pub(super) audit: Option<AuditLink>,
    pub(super) ledger: LedgerWatch,
    /// What net cores serve TLS with.
    pub(super) tls: Option<TlsSource>,
    /// How the certificate is.
    pub(super) tls_health: Option<TlsHealth>,
    tls_watch: Option<TlsWatch>,
    writer: Option<AuditWriter>,
    /// What became of spans.
    pub(super) spans: Arc<SpanCounts>,
    exporter: Option<Exporter>,
    looks: u32,
    is_ledger_readable: bool,
}

impl Guards {
    /// Starts them; the data folder must be ours, and the admin's token written.
    ///
    /// # Errors
    /// When the audit log or the ledger of tokens cannot be used.
    pub(super) fn start(config: &Config) -> Result<Guards> {
        let (guarding, data_dir) = (&config.security.guarding, &config.engine.data_dir);
        if config.service.is_tls_terminated_upstream && guarding.proxies.is_empty() {
            let so = "behind a proxy all clients count as one address: name it in \
                      security.trustedProxies";
            tracing::warn!(target: "auth", so, "no proxy is trusted");
        }
        let limits = Arc::new(Limits::new(guarding.rates, guarding.proxies.clone()));
        let ledger = LedgerWatch::start(Ledger::of(data_dir))?;
        let (mut audit, mut writer) = (None, None);
        if let Some(bounds) = guarding.audit {
            let files = AuditFiles::open(data_dir, bounds)?;
            let (link, inbox) = audit::link();
            (audit, writer) = (Some(link), Some(AuditWriter::start(files, inbox)?));
        }
        let (tls_watch, tls) = config.service.tls.clone().map(TlsWatch::start).transpose()?.unzip();
        let tls_health = tls_watch.as_ref().map(TlsWatch::health);
        let (looks, is_ledger_readable) = (0, true);
        Ok(Guards {
            limits,
            audit,
            ledger,
            tls,
            tls_health,
            tls_watch,
            writer,
            spans: Arc::default(),
            exporter: None,
            looks,
            is_ledger_readable,
        })
    }

    /// Starts what sends spans, if that is configured; what journals hand facts to.
    ///
    /// # Errors
    /// When the store cannot be read, or TLS has no roots.
    pub(super) fn trace(&mut self, config: &Config, store: &Kept) -> Result<Option<Tap>> {
        let started = Exporter::start(config, &self.spans, || store.reader())?;
        let (exporter, tap) = started.unzip();
        self.exporter = exporter;
        Ok(tap)
    }

    /// Looks for tokens revoked since and for a new certificate, and tidies from time to time.
    /// Called by the watch loop.
    pub fn look(&mut self) {
        self.looks = self.looks.wrapping_add(1);
        if self.looks.is_multiple_of(TIDY_LOOKS) {
            self.limits.tidy();
        }
        self.tls_watch.iter_mut().for_each(TlsWatch::look);
        let looked = self.ledger.look();
        if let Err(error) = &looked
            && self.is_ledger_readable
        {
            tracing::error!(target: "auth", %error, "revoked tokens cannot be read");
        }
        self.is_ledger_readable = looked.is_ok();
        if let Ok(true) = looked {
            tracing::info!(target: "auth", "tokens were revoked");
        }
    }

    /// Ends the threads, once the net cores and the journals are gone.
    pub fn stop(self) {
        drop(self.audit);
        self.writer.into_iter().for_each(AuditWriter::join);
        self.exporter.into_iter().for_each(Exporter::stop);
    }
}
