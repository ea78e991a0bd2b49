//! Users and groups of an image, as its `/etc/passwd` and `/etc/group` name them, passwd(5) and group(5).

use std::path::Path;

use anyhow::{Context, Result, anyhow};

use crate::root::Root;

/// Bytes that each of the two files may have.
const LONGEST: u64 = 4 * 1024 * 1024;

/// The users and groups of a rootfs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    users: Vec<User>,
    groups: Vec<Group>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// A user as the kernel knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// Ids of the supplementary groups, sorted.
    pub groups: Vec<u32>,
}

impl Users {
    /// Reads `/etc/passwd` and `/etc/group` below `rootfs`, links resolved inside it; an absent file is empty.
    pub fn read(rootfs: &Path) -> Result<Self> {
        Self::of(&Root::open(rootfs)?)
    }

    /// The same of a root that is open.
    pub fn of(root: &Root) -> Result<Self> {
        let text = |path: &str| -> Result<String> {
            let content = root
                .read_at_most(path, LONGEST)
                .with_context(|| format!("reading `{path}` of the image"))?;
            // Comment fields may be in any encoding; names and numbers are not touched by the replacement.
            Ok(String::from_utf8_lossy(&content.unwrap_or_default()).into_owned())
        };
        Ok(Self::parse(&text("/etc/passwd")?, &text("/etc/group")?))
    }

    /// Parses the two files' content. A line that is none is skipped, as getpwent(3) does.
    pub fn parse(passwd: &str, group: &str) -> Self {
        let users = passwd.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            Some(User {
                name: (*fields.first()?).to_owned(),
                uid: fields.get(2)?.parse().ok()?,
                gid: fields.get(3)?.parse().ok()?,
            })
        });
        let groups = group.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let members = fields.get(3).copied().unwrap_or_default().split(',');
            Some(Group {
                name: (*fields.first()?).to_owned(),
                gid: fields.get(2)?.parse().ok()?,
                members: members.map(|member| member.trim().to_owned()).collect(),
            })
        });
        Self {
            users: users.collect(),
            groups: groups.collect(),
        }
    }

    /// The ids of `wanted`: empty (root), or a user name or id, with `:` and a group name or id if wanted.
    ///
    /// As in every container engine a named group replaces the user's own groups, and a bare id that
    /// `/etc/passwd` does not know has group 0.
    pub fn identity(&self, wanted: &str) -> Result<Identity> {
        let (user, group) = match wanted.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (wanted, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let known = self.user(user);
        let uid = match (known, user.parse()) {
            (Some(known), _) => known.uid,
            (None, Ok(uid)) => uid,
            (None, Err(_)) => {
                return Err(anyhow!("no user `{user}` in `/etc/passwd` of the image"));
            }
        };
        if let Some(group) = group {
            let gid = self.group(group)?;
            return Ok(Identity {
                uid,
                gid,
                groups: Vec::new(),
            });
        }
        let gid = known.map_or(0, |known| known.gid);
        let mut groups: Vec<u32> = self
            .groups
            .iter()
            .filter(|group| known.is_some_and(|known| group.members.contains(&known.name)))
            .map(|group| group.gid)
            .filter(|&other| other != gid)
            .collect();
        groups.sort_unstable();
        groups.dedup();
        Ok(Identity { uid, gid, groups })
    }

    fn user(&self, wanted: &str) -> Option<&User> {
        let uid = wanted.parse::<u32>().ok();
        let by_name = self.users.iter().find(|user| user.name == wanted);
        by_name.or_else(|| self.users.iter().find(|user| Some(user.uid) == uid))
    }

    fn group(&self, wanted: &str) -> Result<u32> {
        let by_name = self.groups.iter().find(|group| group.name == wanted);
        by_name
            .map(|group| group.gid)
            .or_else(|| wanted.parse().ok())
            .ok_or_else(|| anyhow!("no group `{wanted}` in `/etc/group` of the image"))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests build a rootfs")]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\netcd:x:900:901::/:/bin/false\n";
    const GROUP: &str = "root:x:0:\netcd:x:901:\nssl:x:44:etcd,other\nadm:x:4:etcd\n";

    #[test]
    fn identities() {
        let users = Users::parse(PASSWD, GROUP);
        for (wanted, uid, gid, groups) in [
            ("", 0, 0, &[][..]),
            ("root", 0, 0, &[]),
            ("etcd", 900, 901, &[4, 44]),
            ("900", 900, 901, &[4, 44]),
            ("etcd:ssl", 900, 44, &[]),
            ("etcd:", 900, 901, &[4, 44]),
            ("1234", 1234, 0, &[]),
            ("1234:5678", 1234, 5678, &[]),
        ] {
            let groups = groups.to_vec();
            let expected = Identity { uid, gid, groups };
            assert_eq!(users.identity(wanted).unwrap(), expected, "{wanted}");
        }
        for (wanted, message) in [
            ("nobody", "no user `nobody` in `/etc/passwd` of the image"),
            (
                "etcd:wheel",
                "no group `wheel` in `/etc/group` of the image",
            ),
            ("-1", "no user `-1` in `/etc/passwd` of the image"),
        ] {
            assert_eq!(users.identity(wanted).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn links_stay_in_the_rootfs() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("etc")).unwrap();
        std::fs::create_dir_all(dir.path().join("usr/lib")).unwrap();
        std::fs::write(dir.path().join("usr/lib/passwd"), "app:x:7:7:::\n").unwrap();
        std::os::unix::fs::symlink("/usr/lib/passwd", dir.path().join("etc/passwd")).unwrap();
        std::os::unix::fs::symlink("../../../../etc/group", dir.path().join("etc/group")).unwrap();
        // `/etc/group` of the rootfs is then a link to itself, never the host's.
        let error = Users::read(dir.path()).unwrap_err();
        assert_eq!(error.to_string(), "reading `/etc/group` of the image");
        std::fs::remove_file(dir.path().join("etc/group")).unwrap();
        let users = Users::read(dir.path()).unwrap();
        assert_eq!(users.identity("app").unwrap().uid, 7);
        assert!(users.identity("daemon").is_err());

        let long = vec![b'\n'; 4 * 1024 * 1024 + 1];
        std::fs::write(dir.path().join("etc/group"), long).unwrap();
        let error = Users::read(dir.path()).unwrap_err();
        assert_eq!(
            error.root_cause().to_string(),
            "it has more than 4194304 bytes"
        );
    }
}
