//! Which of the given values are meant for which image of a set.
//!
//! `KEY=VALUE` is for every image that declares KEY, `NAME.KEY=VALUE` for the container NAME; in a values file a
//! table `[NAME]` holds what is for NAME alone.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::contract::manifest::Manifest;
use crate::contract::parse;
use crate::contract::secret::Secret;
use crate::contract::values::Given;
use crate::name::ContainerName;

/// What the operator gave for the whole set.
#[derive(Debug)]
pub(crate) struct SetGiven {
    set: Vec<(String, String)>,
    file: Option<(PathBuf, toml::Table)>,
    secrets: Vec<(String, Secret)>,
}

impl SetGiven {
    /// Reads the values file's text.
    pub(crate) fn new(
        set: &[(String, String)],
        file: Option<&(PathBuf, String)>,
        secrets: &[(String, Secret)],
    ) -> Result<Self> {
        let file = file
            .map(|(path, text)| {
                let table: toml::Table = parse::document(text)
                    .with_context(|| format!("reading `{}`", path.display()))?;
                Ok::<_, anyhow::Error>((path.clone(), table))
            })
            .transpose()?;
        Ok(Self {
            set: set.to_vec(),
            file,
            secrets: secrets.to_vec(),
        })
    }

    /// Leaves out what is for others that are seen to by themselves.
    pub(crate) fn without(mut self, others: &[&ContainerName]) -> Self {
        let other = |name: &str| others.iter().any(|other| other.as_str() == name);
        let mine = |key: &str| {
            let to = key.rsplit_once('.').map(|(name, _)| name);
            !to.is_some_and(other)
        };
        self.set.retain(|(key, _)| mine(key));
        self.secrets.retain(|(key, _)| mine(key));
        if let Some((_, table)) = &mut self.file {
            table.retain(|key, value| !(value.is_table() && other(key)));
        }
        self
    }

    /// Refuses values that no image of the set takes; a lone image's own check says it better.
    pub(crate) fn check(&self, images: &[(&ContainerName, &Manifest)]) -> Result<()> {
        if images.len() < 2 {
            return Ok(());
        }
        let declared: BTreeSet<&str> = images
            .iter()
            .flat_map(|(_, manifest)| manifest.values.keys().map(String::as_str))
            .collect();
        let named = |name: &str| images.iter().any(|(n, _)| n.as_str() == name);
        let mut stray: Vec<String> = Vec::new();
        let set = self.set.iter().map(|(key, _)| key);
        for key in set.chain(self.secrets.iter().map(|(key, _)| key)) {
            match key.rsplit_once('.') {
                Some((name, _)) if named(name) => {}
                None if declared.contains(key.as_str()) => {}
                _ => stray.push(format!("`{key}`")),
            }
        }
        if let Some((path, table)) = &self.file {
            for (key, value) in table {
                if !(declared.contains(key.as_str()) || value.is_table() && named(key)) {
                    stray.push(format!("`{key}` of `{}`", path.display()));
                }
            }
        }
        if stray.is_empty() {
            return Ok(());
        }
        bail!(
            "no image of the set declares {}, and no container of it is called so",
            stray.join(", ")
        )
    }

    /// What is meant for one image, `alone` in its set or not.
    pub(crate) fn of(&self, name: &ContainerName, manifest: &Manifest, alone: bool) -> Given {
        let mine = |key: &str| -> Option<String> {
            match key.rsplit_once('.') {
                Some((to, key)) if to == name.as_str() => Some(key.to_owned()),
                Some(_) if !alone => None,
                _ if alone || manifest.values.contains_key(key) => Some(key.to_owned()),
                _ => None,
            }
        };
        let set = self
            .set
            .iter()
            .filter_map(|(key, value)| Some((mine(key)?, value.clone())))
            .collect();
        let secrets = self
            .secrets
            .iter()
            .filter_map(|(key, secret)| Some((mine(key)?, secret.clone())))
            .collect();
        let file = self.file.as_ref().map(|(path, table)| {
            let mut values = toml::Table::new();
            for (key, value) in table {
                match value {
                    toml::Value::Table(own) if key == name.as_str() => {
                        values.extend(own.clone());
                    }
                    toml::Value::Table(_) if !alone => {}
                    _ if alone || manifest.values.contains_key(key) => {
                        values.entry(key.clone()).or_insert_with(|| value.clone());
                    }
                    _ => {}
                }
            }
            (path.clone(), values.to_string())
        });
        Given { set, file, secrets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(keys: &[&str]) -> Manifest {
        let declared: Vec<String> = keys
            .iter()
            .map(|key| format!("[values.{key}]\ntype = \"string\"\nhelp = \"h\"\n"))
            .collect();
        toml::from_str(&format!("contract = 1\n{}", declared.concat())).unwrap()
    }

    fn pairs(set: &[(&str, &str)]) -> Vec<(String, String)> {
        set.iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn a_set_shares_what_is_declared_and_addresses_the_rest() {
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        let (of_a, of_b) = (manifest(&["X", "Y"]), manifest(&["X"]));
        let given = SetGiven::new(
            &pairs(&[("X", "1"), ("a.Y", "2"), ("b.X", "3")]),
            Some(&("f".into(), "X = \"f\"\n[a]\nY = \"g\"\n".to_owned())),
            &[("a.X".to_owned(), Secret::unknown())],
        )
        .unwrap();
        given.check(&[(&a, &of_a), (&b, &of_b)]).unwrap();
        assert_eq!(
            given.of(&a, &of_a, false).set,
            pairs(&[("X", "1"), ("Y", "2")])
        );
        assert_eq!(
            given.of(&b, &of_b, false).set,
            pairs(&[("X", "1"), ("X", "3")])
        );
        assert_eq!(given.of(&a, &of_a, false).secrets[0].0, "X");
        assert!(given.of(&b, &of_b, false).secrets.is_empty());
        assert_eq!(given.of(&b, &of_b, false).file.unwrap().1, "X = \"f\"\n");
    }

    #[test]
    fn what_is_for_others_is_left_to_them() {
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        let file = ("f".into(), "[a]\nX = \"4\"\n[b]\nX = \"5\"\n".to_owned());
        let given = pairs(&[("X", "1"), ("a.Y", "2"), ("b.X", "3"), ("c.X", "6")]);
        let given = SetGiven::new(&given, Some(&file), &[])
            .unwrap()
            .without(&[&b]);
        let of_a = given.of(&a, &manifest(&["X", "Y"]), true);
        assert_eq!(of_a.set, pairs(&[("X", "1"), ("Y", "2"), ("c.X", "6")]));
        assert_eq!(of_a.file.unwrap().1, "X = \"4\"\n");
    }

    #[test]
    fn what_nobody_takes_is_refused() {
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        let (of_a, of_b) = (manifest(&["X"]), manifest(&[]));
        let given = SetGiven::new(&pairs(&[("Z", "1"), ("c.X", "2")]), None, &[]).unwrap();
        assert_eq!(
            given
                .check(&[(&a, &of_a), (&b, &of_b)])
                .unwrap_err()
                .to_string(),
            "no image of the set declares `Z`, `c.X`, and no container of it is called so"
        );
        // Alone, the image's own check names what it declares.
        given.check(&[(&a, &of_a)]).unwrap();
        assert_eq!(
            given.of(&a, &of_a, true).set,
            pairs(&[("Z", "1"), ("c.X", "2")])
        );
    }
}
