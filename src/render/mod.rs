//! Rendering: contract and values in, texts out. Nothing here reads or writes the disk.

pub mod directories;
pub mod files;
mod names;
pub mod template;
