//! A fault as the operator is told of it: what, where, whom it concerns.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use crate::name::{ContainerName, Generation};
use crate::store::verify::defect::{Defect, Finding};

/// What is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Thing {
    /// A container's record.
    Record,
    /// The link to a container's live generation.
    Current,
    /// A ref of the store.
    Ref,
    /// An object of the store.
    Object,
    /// A path in a generation's rootfs.
    Rootfs,
    /// A file of a generation beside its rootfs.
    Generation,
    /// A unit.
    Unit,
    /// An order drop-in.
    Order,
    /// A file that the image brought to the host.
    HostFile,
}

/// As people call it.
impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Record => "record",
            Self::Current => "link",
            Self::Ref => "ref",
            Self::Object => "object",
            Self::Rootfs | Self::Generation => "file",
            Self::Unit => "unit",
            Self::Order => "order drop-in",
            Self::HostFile => "host file",
        })
    }
}

/// Where a damaged thing is used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Place {
    /// The container, if it is one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerName>,
    /// Its generation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// The image.
    pub image: String,
    /// The path in the image; of something that only a layer has, with the layer before it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
}

/// Something that is not as it was installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Fault {
    /// What it is.
    pub thing: Thing,
    /// The object, or the path on the host.
    pub name: String,
    /// What is wrong with it.
    pub defects: Vec<Defect>,
    /// The same for people.
    pub detail: String,
    /// Where it is used, all of them.
    pub places: Vec<Place>,
}

impl Fault {
    pub(crate) fn new(
        thing: Thing,
        name: impl Into<String>,
        finding: &Finding,
        places: Vec<Place>,
    ) -> Self {
        Self {
            thing,
            name: name.into(),
            defects: finding.defects.clone(),
            detail: finding.detail.join("; "),
            places,
        }
    }
}
