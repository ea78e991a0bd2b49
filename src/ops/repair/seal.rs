//! Generations whose tree is an image: the image made anew, and seals put on what was brought back.

use anyhow::{Result, anyhow};

use crate::deployment::{self, Rootfs, TREE};
use crate::hint::Hinted;
use crate::ops::repair::Work;
use crate::ops::verify::Thing;
use crate::ops::verify::files::{BadFile, Which};
use crate::ops::verify::subject::{Subject, mount_targets};
use crate::ops::verify::survey::Survey;
use crate::store::composefs::{self, Protection};
use crate::store::object::Object;

impl Work<'_> {
    /// Seals the files of every generation that has it: overlayfs opens no others for it.
    pub(super) fn seal(&mut self, survey: &Survey) {
        let Some(store) = &survey.store else {
            return;
        };
        for (at, subject) in survey.subjects.iter().enumerate() {
            let record = &subject.record;
            if record.integrity != Protection::Verity {
                continue;
            }
            let digest = record.manifest_digest.parse();
            let image = digest
                .ok()
                .and_then(|digest| survey.inventory.images.get(&digest));
            let Some((Some(image), _)) = image else {
                continue;
            };
            let sealed = if self.dry() {
                Ok(())
            } else {
                store.seal(&image.commit)
            };
            if let Err(error) = &sealed {
                self.reason(record.name.as_str(), format!("{error:#}"));
            }
            // Each is told of once.
            let first =
                |uses: &[(usize, String)]| uses.first().is_some_and(|(user, _)| *user == at);
            for (sum, _) in survey.unsealed.iter().filter(|(_, uses)| first(uses)) {
                let name = Object::file(*sum).to_string();
                match &sealed {
                    Ok(()) => self.repaired(Thing::Object, name, "its own content, sealed"),
                    Err(error) => self.reason(name, format!("{error:#}")),
                }
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
