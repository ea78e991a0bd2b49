//! The registries' passwords that a command finds on the host: `update` and `repair` open images that were installed
//! before, often with nobody there to log in.

use std::path::Path;

use anyhow::{Context, Result, anyhow};

use crate::hint::Hinted;
use crate::image::access::{Access, Login};
use crate::root::{Kind, Root};

/// The permission bits of all but the owner.
const OTHERS: u32 = 0o077;

/// The access with the passwords of `update.authfile`, unless others were given or the file is not there.
pub(crate) fn with_login(root: &Root, file: &Path, access: Access) -> Result<Access> {
    if access.login.is_some() || root.kind(file)?.is_none() {
        return Ok(access);
    }
    let path = file.display();
    let checking = || format!("taking the registries' passwords from `{path}`");
    let private = root.kind(file)? == Some(Kind::File)
        && root.owner(file)?.0 == 0
        && root.mode(file)? & OTHERS == 0;
    if !private {
        return Err(anyhow!("others than root could read or change it"))
            .with_context(checking)
            .hint(format!("`chown root:root {path}; chmod 600 {path}`"));
    }
    Ok(Access {
        login: Some(Login::File(root.outside(file))),
        ..access
    })
}
