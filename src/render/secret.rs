//! Sealed secrets as credentials of the unit.

use crate::contract::values::Values;
use crate::render::Subject;

/// Name and file of each, as `LoadCredentialEncrypted=` has them.
pub(crate) fn credentials(values: &Values, subject: &Subject<'_>) -> Vec<String> {
    let directory = subject.generation_dir.display();
    let names = values.secrets().keys();
    names
        .map(|name| format!("{name}:{directory}/secrets/{name}"))
        .collect()
}

/// What a service unit of the image's own is given, so that its payload has them.
pub(crate) fn requirement(credentials: &[String]) -> String {
    if credentials.is_empty() {
        return String::new();
    }
    let mut text = "\n# Added by bedplate: the secrets.\n[Service]\n".to_owned();
    for credential in credentials {
        text.extend(["LoadCredentialEncrypted=", credential, "\n"]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_of_the_images_own_is_given_them() {
        assert_eq!(requirement(&[]), "");
        let names = ["A:/g/secrets/A".to_owned(), "B:/g/secrets/B".to_owned()];
        assert_eq!(
            requirement(&names),
            "\n# Added by bedplate: the secrets.\n[Service]\n\
             LoadCredentialEncrypted=A:/g/secrets/A\nLoadCredentialEncrypted=B:/g/secrets/B\n"
        );
    }
}
