//! What a container's reference names now.

use anyhow::{Context, Result};

use crate::image::reference::ImageRef;
use crate::ops::fetching::{self, Found, Pull};
use crate::ops::login::with_login;
use crate::ops::update::Work;
use crate::state::Record;

/// What was found at the source.
pub(super) struct Newest {
    pub(super) reference: ImageRef,
    pub(super) found: Found,
    /// The manifest's digest.
    pub(super) digest: String,
}

impl Work<'_> {
    /// Asks the source: nothing is fetched that the store has.
    pub(super) fn newest(&self, record: &Record) -> Result<Newest> {
        let reference = match &self.request.rebase {
            Some(image) => image.clone(),
            None => ImageRef::try_from(record.image.clone())
                .with_context(|| format!("reading the record of `{}`", record.name))?,
        };
        let access = match record.platform.parse() {
            Ok(platform) => self.access.with_platform(platform),
            Err(_) => self.access.clone(),
        };
        let access = with_login(self.host.root, &self.config.update.authfile, access)?;
        let found = fetching::find(self.host, &self.store, &access, &reference, Pull::Always)
            .with_context(|| format!("looking for what `{reference}` is now"))?;
        Ok(Newest {
            digest: found.manifest_digest(),
            reference,
            found,
        })
    }
}
