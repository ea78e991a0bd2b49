//! Secrets as they are given: content that nothing shows.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::contract::values::Origin;

/// The largest secret, bytes. systemd 252 reads no sealed one that is much larger.
pub const LARGEST: usize = 768 * 1024;

/// What `--secret` gives.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    content: Vec<u8>,
    from: Option<PathBuf>,
}

impl Secret {
    /// The content of this file, or of standard input.
    pub fn new(content: Vec<u8>, from: Option<PathBuf>) -> Result<Self> {
        if content.is_empty() {
            bail!("it is empty");
        }
        if content.len() > LARGEST {
            bail!("it is larger than 768 KiB, about the most that systemd reads of a sealed one");
        }
        Ok(Self { content, from })
    }

    /// What stands for one that is not known.
    pub fn unknown() -> Self {
        Self {
            content: Vec::new(),
            from: None,
        }
    }

    /// The secret itself.
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// Where it comes from.
    pub fn origin(&self) -> Origin {
        match &self.from {
            Some(path) => Origin::SecretFile(path.clone()),
            None => Origin::SecretInput,
        }
    }
}

/// Where it comes from, and nothing of what it is.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.origin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_not_shown() {
        let secret = Secret::new(b"hidden".to_vec(), Some("/root/token".into())).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(/root/token)");
        let secret = Secret::new(b"hidden".to_vec(), None).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(standard input)");
    }

    #[test]
    fn its_size_is_bounded() {
        let of = |size| Secret::new(vec![0; size], None).map(|secret| secret.content().len());
        assert_eq!(of(0).unwrap_err().to_string(), "it is empty");
        assert_eq!(of(LARGEST).unwrap(), LARGEST);
        assert_eq!(
            of(LARGEST + 1).unwrap_err().to_string(),
            "it is larger than 768 KiB, about the most that systemd reads of a sealed one"
        );
    }
}
