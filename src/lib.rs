//! bedplate installs **system containers**: infrastructure services shipped as OCI images and run by systemd itself.
//!
//! # The path of the data
//!
//! `ops::install` is this list; each value is a type, taken by value, and a later one cannot exist without the
//! one before it.
//!
//! | # | value | made by | true of it | host touched |
//! |---|---|---|---|---|
//! | 1 | `Request` | `cli::install` | all names valid | no |
//! | 2 | `RemoteImage` | `image::remote` | digest pinned, policy passed | no |
//! | 3 | `StoredImage` | `store` | every layer is a commit | the store alone |
//! | 4 | `Checkout` | `store` | merged tree in a private directory | private directory |
//! | 5 | `Contract` | `contract` | `/exports` read and checked | no |
//! | 6 | `Values` | `contract::values` | nothing missing, each with its origin | no |
//! | 7 | `Rendered` | `render` | unit, config.json, host files; pure | no |
//! |   | `Plan` | `ops::install` | order, clashes, what systemd says | no |
//! | 8 | `Staged` | `deployment` | complete, on disk, not live | staging directory |
//! | 9 | `Transaction` | `state` | each step undoable, then committed | yes |
//! | 10 | the running unit | `systemd` | ready | systemd |
//!
//! # Modules
//!
//! What may use what is a table in `tests/layers.rs`. From the top:
//! `cli` parses and shows; `ops` has a file per verb; `state` is what is installed, the lock and the journal;
//! `config` is the operator's settings; `deployment` puts generations together; `render` turns contract and values into texts; `order` is the graph;
//! `host`, `systemd`, `store`, `contract`, `runtime`, `image` are each one part of the world. `name`, `root`,
//! `exec`, `progress`, `hint`, `hash` and `launch` stand below all.
//!
//! The launcher that a unit's `ExecStart=` calls is a program of its own, `src/bin/bedplate-launch`; `launch` is
//! the file format that the two share.
//!
//! # On disk
//!
//! ```text
//! /var/lib/bedplate/              mode 0700
//!   repo/                         the store: an OSTree repository, mode bare
//!   containers/NAME/1/            a generation: rootfs/ config.json launch.json units/ secrets/ record.toml;
//!                                 with an image of its tree also tree.erofs and tree/
//!   containers/NAME/current       the live generation, pointed last
//!   containers/NAME/replaced/     what a repair moved out of the way
//!   journal/ staging/ lock        the running transaction
//! /etc/systemd/system.attached/   NAME.service, NAME.service.d/50-bedplate-order.conf
//! /etc/tmpfiles.d/bedplate-NAME.conf
//! /run/bedplate/NAME/             what one start needs: config.json, the runtime's state
//! ```
pub mod cli;
pub mod config;
pub mod contract;
pub mod deployment;
pub mod exec;
pub mod hash;
pub mod hint;
pub mod host;
pub mod image;
pub mod launch;
pub mod name;
pub mod ops;
pub mod order;
pub mod progress;
pub mod render;
pub mod root;
pub mod runtime;
pub mod state;
pub mod store;
pub mod systemd;
