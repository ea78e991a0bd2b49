//! The process that a command becomes: as the payload is, but for what was asked to be different.

use anyhow::{Context, Result, anyhow};
use containers_image_proxy::oci_spec::runtime::{
    Capabilities, LinuxCapabilities, Process, Spec, UserBuilder,
};

use crate::ops::exec::Request;
use crate::render::users::Users;
use crate::root::Root;

/// Between systemd and the payload alone; a command is neither.
const PROTOCOLS: [&str; 7] = [
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "FDSTORE",
];

/// The command's process.
pub(super) fn of(payload: &Spec, container: &Root, request: &Request) -> Result<Process> {
    let process = payload.process().clone();
    let mut process = process.ok_or_else(|| anyhow!("its config.json has no `process`"))?;
    let mut env = process.env().clone().unwrap_or_default();
    env.retain(|entry| !PROTOCOLS.contains(&name_of(entry)));
    if let Some(user) = &request.user {
        let identity = Users::of(container)?.identity(user)?;
        let changed = identity.uid != process.user().uid();
        let groups = Some(identity.groups).filter(|groups| !groups.is_empty());
        let mut user = UserBuilder::default().uid(identity.uid).gid(identity.gid);
        if let Some(groups) = groups {
            user = user.additional_gids(groups);
        }
        process.set_user(user.build().context("building the process")?);
        if changed {
            // The runtime finds the new one.
            env.retain(|entry| name_of(entry) != "HOME");
            let held = process.capabilities().as_ref();
            let held = held.map(|held| capabilities(held, identity.uid));
            process.set_capabilities(held);
        }
    }
    let term = request.terminal.iter();
    let term = term.map(|term| ("TERM".to_owned(), term.clone()));
    for (name, value) in term.chain(request.env.iter().cloned()) {
        env.retain(|entry| name_of(entry) != name);
        env.push(format!("{name}={value}"));
    }
    process
        .set_env(Some(env))
        .set_args(Some(request.command.clone()))
        .set_terminal(Some(request.terminal.is_some()))
        .set_console_size(None);
    if let Some(directory) = &request.workdir {
        process.set_cwd(directory.clone());
    }
    Ok(process)
}

fn name_of(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

/// What another user than the payload's may: root all that the container can have, anybody else nothing.
fn capabilities(of_payload: &LinuxCapabilities, uid: u32) -> LinuxCapabilities {
    let bounding = of_payload.bounding().clone().unwrap_or_default();
    let held = if uid == 0 {
        bounding.clone()
    } else {
        Capabilities::new()
    };
    let mut capabilities = LinuxCapabilities::default();
    capabilities
        .set_bounding(Some(bounding))
        .set_effective(Some(held.clone()))
        .set_permitted(Some(held))
        .set_inheritable(Some(Capabilities::new()))
        .set_ambient(Some(Capabilities::new()));
    capabilities
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests build a rootfs")]
mod tests {
    use super::*;

    fn process(request: &Request) -> serde_json::Value {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), "etcd:x:900:901::/:/x\n").unwrap();
        let payload = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": { "uid": 1000, "gid": 1000 },
                "args": ["/payload"],
                "env": ["PATH=/bin", "A=a", "HOME=/home", "NOTIFY_SOCKET=/s", "LISTEN_FDS=1"],
                "cwd": "/data",
                "noNewPrivileges": true,
                "capabilities": {
                    "bounding": ["CAP_NET_ADMIN"],
                    "effective": ["CAP_NET_ADMIN"],
                    "permitted": ["CAP_NET_ADMIN"],
                    "inheritable": ["CAP_NET_ADMIN"],
                    "ambient": ["CAP_NET_ADMIN"],
                },
            },
        }));
        let root = Root::open(dir.path()).unwrap();
        serde_json::to_value(of(&payload.unwrap(), &root, request).unwrap()).unwrap()
    }

    fn request(user: Option<&str>) -> Request {
        Request {
            command: vec!["ls".to_owned()],
            user: user.map(str::to_owned),
            ..Request::default()
        }
    }

    #[test]
    fn it_is_as_the_payload_unless_asked() {
        let same = process(&request(None));
        assert_eq!(same["args"], serde_json::json!(["ls"]));
        assert_eq!(
            same["env"],
            serde_json::json!(["PATH=/bin", "A=a", "HOME=/home"])
        );
        assert_eq!(
            (&same["user"]["uid"], &same["cwd"]),
            (&1000.into(), &"/data".into())
        );
        assert_eq!(same["noNewPrivileges"], true);
        assert_eq!(same["terminal"], false);
        let held = serde_json::json!(["CAP_NET_ADMIN"]);
        assert_eq!(same["capabilities"]["ambient"], held);

        let other = process(&Request {
            env: vec![("A".to_owned(), "b".to_owned())],
            workdir: Some("/".into()),
            terminal: Some("xterm".to_owned()),
            ..request(None)
        });
        let env = serde_json::json!(["PATH=/bin", "HOME=/home", "TERM=xterm", "A=b"]);
        assert_eq!((&other["env"], &other["cwd"]), (&env, &"/".into()));
        assert_eq!(other["terminal"], true);
    }

    #[test]
    fn another_user_has_other_capabilities() {
        let (none, all) = (serde_json::json!([]), serde_json::json!(["CAP_NET_ADMIN"]));
        let root = process(&request(Some("0")));
        assert_eq!(root["env"], serde_json::json!(["PATH=/bin", "A=a"]));
        assert_eq!(root["capabilities"]["effective"], all);
        assert_eq!(root["capabilities"]["ambient"], none);
        let etcd = process(&request(Some("etcd")));
        assert_eq!(
            (&etcd["user"]["uid"], &etcd["user"]["gid"]),
            (&900.into(), &901.into())
        );
        assert_eq!(etcd["capabilities"]["effective"], none);
        assert_eq!(etcd["capabilities"]["bounding"], all);
        let same = process(&request(Some("1000")));
        assert_eq!(same["capabilities"]["effective"], all);
    }
}
