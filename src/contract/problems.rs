//! Several problems of one kind as one error, and the name that was probably meant.

use std::fmt;

use anyhow::Result;

/// What is wrong, a line each; as an error it lists all of them, sorted.
#[derive(Debug, Default)]
pub struct Problems(Vec<String>);

impl Problems {
    /// Adds one.
    pub fn add(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    /// Adds the error of `checked`, if it is one, below the key `key`.
    pub fn check<T>(&mut self, key: &str, checked: Result<T, impl fmt::Display>) -> Option<T> {
        match checked {
            Ok(value) => Some(value),
            Err(problem) => {
                self.add(format!("{key}: {problem}"));
                None
            }
        }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them as one error; none is no error.
    pub fn into_result(mut self) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.sort();
        self.0.dedup();
        Err(self.into())
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0.as_slice() {
            return f.write_str(only);
        }
        write!(f, "{} problems", self.0.len())?;
        self.0
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}

/// `; did you mean …?` with the candidate nearest to `name`; nothing where none is near.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, candidates).map_or_else(String::new, |found| format!("; did you mean `{found}`?"))
}

/// The candidate at the least distance, if no more than a third of the name is wrong.
fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&lower, &c.to_lowercase()), c))
        .filter(|(distance, _)| *distance <= name.chars().count().div_ceil(3))
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_a_line_and_several_are_a_list() {
        let mut problems = Problems::default();
        assert!(problems.is_empty());
        problems.add("b is wrong");
        assert_eq!(problems.to_string(), "b is wrong");
        problems.check::<()>("a", Err("is wrong"));
        let error = problems.into_result().unwrap_err();
        assert_eq!(error.to_string(), "2 problems\n  a: is wrong\n  b is wrong");
        Problems::default().into_result().unwrap();
    }

    #[test]
    fn the_nearest_name_is_named() {
        let names = ["ETCD_NAME", "ETCD_PORT", "name"];
        for (name, text) in [
            ("ETCD_NAEM", "; did you mean `ETCD_NAME`?"),
            ("etcd_port", "; did you mean `ETCD_PORT`?"),
            ("nam", "; did you mean `name`?"),
            ("CLUSTER", ""),
            ("", ""),
        ] {
            assert_eq!(did_you_mean(name, names), text);
        }
    }
}
