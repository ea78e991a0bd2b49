//! bedplate installs system containers: infrastructure services shipped as OCI images and run by systemd itself.
pub mod contract;
pub mod exec;
pub mod hint;
pub mod launch;
pub mod name;
pub mod progress;
pub mod render;
pub mod root;
pub mod runtime;
