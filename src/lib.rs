//! bedplate installs system containers: infrastructure services shipped as OCI images and run by systemd itself.
pub mod contract;
pub mod exec;
pub mod hint;
pub mod host;
pub mod image;
pub mod launch;
pub mod name;
pub mod order;
pub mod progress;
pub mod render;
pub mod root;
pub mod runtime;
pub mod store;
pub mod systemd;
