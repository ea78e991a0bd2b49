//! What is installed, for those who take no lock: as the last committed transaction has it.
//!
//! A transaction of several containers points their `current` one after the other. From its commit on until it is
//! finished the journal says how that ends, so that nobody sees a part of a set.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::deployment;
use crate::name::{ContainerName, Generation};
use crate::root::Root;
use crate::state::journal::{Finish, Unfinished};

/// The live generation of each installed container.
pub(crate) type Live = BTreeMap<ContainerName, Generation>;

/// Looks at links and journal in one moment: until the links were the same before the journal was read and after.
pub(crate) fn live(root: &Root) -> Result<Live> {
    let mut links = links(root)?;
    loop {
        // A journal that cannot be read is for a writer to report; a reader shows what the links say.
        let unfinished = Unfinished::find(root).ok().flatten();
        let again = self::links(root)?;
        if links != again {
            links = again;
            continue;
        }
        for item in unfinished
            .and_then(|found| found.finish)
            .unwrap_or_default()
        {
            match item {
                Finish::Current { name, generation } => {
                    links.insert(name, generation);
                }
                Finish::Lived { .. } => {}
                Finish::Forget { name } => {
                    links.remove(&name);
                }
            }
        }
        return Ok(links);
    }
}

fn links(root: &Root) -> Result<Live> {
    let mut found = Live::new();
    for name in deployment::containers(root)? {
        if let Some(generation) = deployment::current(root, &name)? {
            found.insert(name, generation);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_committed_is_shown_as_finished() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        for name in ["a", "b", "c"] {
            let dir = Path::new(deployment::CONTAINERS).join(name);
            root.create_dir_all(&dir, 0o700).unwrap();
            root.point(dir.join("current"), Path::new("1")).unwrap();
        }
        let shown = |root: &Root| -> Vec<String> {
            let live = live(root).unwrap();
            live.iter().map(|(name, g)| format!("{name} {g}")).collect()
        };
        let journal = Path::new(crate::state::TRANSACTION);
        root.create_dir_all(crate::state::JOURNAL, 0o700).unwrap();
        root.append(journal, b"{\"begin\":{\"format\":1,\"verb\":\"x\"}}\n")
            .unwrap();
        assert_eq!(shown(&root), ["a 1", "b 1", "c 1"]);
        let commit = r#"{"commit":{"finish":[{"current":{"name":"b","generation":2}},{"forget":{"name":"c"}}]}}"#;
        root.append(journal, commit.as_bytes()).unwrap();
        // Without its newline it is not committed.
        assert_eq!(shown(&root), ["a 1", "b 1", "c 1"]);
        root.append(journal, b"\n").unwrap();
        assert_eq!(shown(&root), ["a 1", "b 2"]);
    }
}
