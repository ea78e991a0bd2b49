//! Whole verbs on a temporary `--root`: the program as it is, real images, real skopeo. Needs root.
//!
//! `host`, `layout`, `damage`, `process`, `namespace`, `pieces`, `registry`, `schema`, `store`, `tracer` (with `calls`) and `wire` are the tools; each other file is a theme.
//! Messages are compared as the operator reads them: from `error:` to the last hint.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a panic is a test failure; tests look from outside, and what they print is kept for a failure"
)]

mod calls;
mod damage;
mod host;
mod layout;
mod namespace;
mod pieces;
mod process;
mod registry;
mod schema;
mod store;
mod tracer;
mod wire;

mod check;
mod clashes;
mod composefs;
mod config;
mod contracts;
mod corpus;
mod crash;
mod crash_store;
mod df;
mod doctor;
mod errors;
mod extremes;
mod files;
mod full;
mod hostile;
mod images;
mod images_verb;
mod inside;
mod lint;
mod lock;
mod network;
mod order;
mod pages;
mod prefixes;
mod preflight;
mod progress;
mod prune;
mod readers;
mod room;
mod sources;
mod unpacked;
mod update;
mod values;
mod verbs;
mod verify;
