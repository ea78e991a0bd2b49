//! The contract: what an image ships in `/exports`.

pub mod manifest;
