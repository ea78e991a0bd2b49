//! Reads what a generation says about its start: launch.json.
#![expect(
    clippy::disallowed_methods,
    reason = "the launcher is a program of its own, without the library's root handle"
)]

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::hint::Hinted;
use crate::launch::{FORMAT, LaunchPlan, Notify, ServiceType};

/// The plan's file in a generation.
const FILE: &str = "launch.json";

/// The part of launch.json that every format has.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

/// Reads and checks the plan of `generation`.
pub(crate) fn read(generation: &Path) -> Result<LaunchPlan> {
    let path = generation.join(FILE);
    fs::read(&path)
        .map_err(anyhow::Error::from)
        .and_then(|bytes| parse(&bytes))
        .with_context(|| format!("reading `{}`", path.display()))
}

/// The plan in `bytes`.
fn parse(bytes: &[u8]) -> Result<LaunchPlan> {
    // The format comes first: a newer plan may lack or add anything, and that is what should be said then.
    let head: Head = serde_json::from_slice(bytes)?;
    if head.format > FORMAT {
        return Err(anyhow::anyhow!("format {} is newer than {FORMAT}", head.format))
            .hint("this launcher is older than the bedplate that installed the container: update the package");
    }
    let plan: LaunchPlan = serde_json::from_slice(bytes)?;
    if plan.name.is_empty() || plan.name.starts_with('.') || plan.name.contains('/') {
        bail!("`{}` is no container name", plan.name);
    }
    let speaks = matches!(
        plan.service_type,
        ServiceType::Notify | ServiceType::NotifyReload
    );
    if speaks && plan.notify == Notify::None {
        bail!("the service announces its readiness, but has no notify socket");
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, notify: &str, format: u32) -> String {
        format!(
            r#"{{"format":{format},"name":"{name}","runtime":"/usr/bin/crun","service_type":"notify","notify":"{notify}",
               "host_run":false,"own":["/var/lib/etcd"],"optional_mounts":["/etc/hosts"]}}"#
        )
    }

    #[test]
    fn a_plan_is_read() {
        let plan = parse(text("etcd", "socket", 1).as_bytes()).unwrap();
        assert_eq!(
            plan,
            LaunchPlan {
                format: 1,
                name: "etcd".into(),
                runtime: "/usr/bin/crun".into(),
                service_type: ServiceType::Notify,
                notify: Notify::Socket,
                host_run: false,
                own: vec!["/var/lib/etcd".into()],
                optional_mounts: vec!["/etc/hosts".into()],
            }
        );
    }

    #[test]
    fn plans_that_cannot_be_started_are_refused() {
        let cases = [
            (text("../x", "socket", 1), "`../x` is no container name"),
            (text("..", "socket", 1), "`..` is no container name"),
            (text("", "socket", 1), "`` is no container name"),
            (
                text("etcd", "none", 1),
                "the service announces its readiness, but has no notify socket",
            ),
            (text("etcd", "socket", 2), "format 2 is newer than 1"),
            (r#"{"format":7}"#.into(), "format 7 is newer than 1"),
            (
                r#"{"format":1}"#.into(),
                "missing field `name` at line 1 column 12",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(
                format!("{:#}", parse(text.as_bytes()).unwrap_err()),
                message
            );
        }
    }
}
