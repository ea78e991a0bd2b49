//! Generations whose tree is an image: the image made anew, and seals put on what was brought back.

use anyhow::{Result, anyhow};

use crate::deployment::{self, Rootfs, TREE};
use crate::hint::Hinted;
use crate::ops::repair::Work;
use crate::ops::verify::files::{BadFile, Which};
use crate::ops::verify::subject::{Subject, mount_targets};
use crate::ops::verify::survey::Survey;
use crate::store::composefs::{self, Protection};

impl Work<'_> {
    /// Seals the files of every generation that has it: overlayfs opens no others for it.
    pub(super) fn seal(&mut self, survey: &Survey) {
        let Some(store) = survey.store.as_ref().filter(|_| !self.dry()) else {
            return;
        };
        for subject in &survey.subjects {
            let record = &subject.record;
            let digest = record.manifest_digest.parse();
            let image = digest
                .ok()
                .and_then(|digest| survey.inventory.images.get(&digest));
            let Some((Some(image), _)) = image else {
                continue;
            };
            if record.integrity == Protection::Verity
                && let Err(error) = store.seal(&image.commit)
            {
                self.reason(record.name.as_str(), format!("{error:#}"));
            }
        }
    }

    /// The image of a generation's tree, made again: equal trees are equal images.
    pub(super) fn tree(&self, survey: &Survey, subject: &Subject) -> Result<Vec<u8>> {
        let record = &subject.record;
        let digest = record.manifest_digest.parse()?;
        let image = survey.inventory.images.get(&digest);
        let image = image.and_then(|(image, _)| image.as_ref());
        let (Some(store), Some(image)) = (&survey.store, image) else {
            return Err(anyhow!("the image is not in the store"));
        };
        let root = self.host.root;
        root.create_dir_all(deployment::STAGING, 0o700)?;
        let checkout = store.checkout(image, &root.outside(deployment::STAGING))?;
        let targets = mount_targets(root, subject)?;
        let made = deployment::rootfs((store, image), checkout, &targets, record.integrity)?;
        match made {
            Rootfs::Image(made) if record.rendered.get(TREE) == Some(&made.checksum()) => {
                Ok(made.image)
            }
            _ => Err(anyhow!(
                "made again it is another, for the host has changed since"
            ))
            .hint("uninstall the container and install it again, its data stays"),
        }
    }

    /// Seals an image of a tree that was put back, if it is to be.
    pub(super) fn seal_tree(&self, subject: &Subject, bad: &BadFile) -> Result<()> {
        let is_tree = matches!(&bad.which, Which::Generation(file) if file == TREE);
        if !is_tree || subject.record.integrity != Protection::Verity {
            return Ok(());
        }
        composefs::seal(&self.host.root.outside(&bad.path))
    }
}
