//! The few methods, properties and signals of org.freedesktop.systemd1(5) that bedplate uses.

use std::collections::HashMap;

use zbus::proxy;
use zbus::{OwnedObjectPath, OwnedVariant};

/// A change that enabling or disabling made: what was done, the link, its target.
pub(crate) type LinkChange = (String, String, String);

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub(crate) trait Manager {
    /// Asks for signals.
    fn subscribe(&self) -> zbus::Result<()>;

    /// Reads all unit files again.
    fn reload(&self) -> zbus::Result<()>;

    /// Queues a start; returns its job.
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;

    /// Queues a stop; returns its job.
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;

    /// The object of a unit, loaded if it is not yet.
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;

    /// Forgets that a unit failed and how often it was started.
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;

    /// Makes the links of the units' `[Install]` sections.
    fn enable_unit_files(
        &self,
        files: &[&str],
        runtime: bool,
        force: bool,
    ) -> zbus::Result<(bool, Vec<LinkChange>)>;

    /// Removes the links of the units' `[Install]` sections.
    fn disable_unit_files(&self, files: &[&str], runtime: bool) -> zbus::Result<Vec<LinkChange>>;

    /// A job ended: its number, object, unit and result.
    #[zbus(signal)]
    fn job_removed(
        &self,
        id: u32,
        job: OwnedObjectPath,
        unit: String,
        result: String,
    ) -> zbus::Result<()>;

    /// As `257.9-1`.
    #[zbus(property)]
    fn version(&self) -> zbus::Result<String>;
}

#[proxy(
    interface = "org.freedesktop.DBus.Properties",
    default_service = "org.freedesktop.systemd1"
)]
pub(crate) trait Properties {
    /// All properties of an interface; the empty name is every interface's.
    fn get_all(&self, interface: &str) -> zbus::Result<HashMap<String, OwnedVariant>>;
}
