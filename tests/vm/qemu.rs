//! A whole machine: a kernel of its own under qemu, for what no container can have, such as fs-verity.
//!
//! It is emulated (TCG), so that it is the same on every host, and slow: half a minute to boot. `tests/vm/disk` makes
//! its disk; a story works on a copy, and may change that behind the machine's back while it is off.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::guest::Suite;
use crate::story::Story;
use crate::{host, images};

/// What runs containers in a machine: its own kernel lets Debian 12's crun work too.
pub(crate) const RUNTIMES: [&str; 2] = ["crun", "runc"];

/// What a boot takes at most where nothing much is to be started.
const BOOT: Duration = Duration::from_mins(4);

/// Within which a command must have ended; the agent gives up a minute before.
const COMMAND: Duration = Duration::from_mins(5);

/// What the emulated machine is. Its CPU has no more than what every x86-64-v2 has, its clock is not the host's.
const MACHINE: &[&str] = &[
    "-machine",
    "q35",
    "-accel",
    "tcg,thread=multi,tb-size=512",
    "-smp",
    "2",
    "-cpu",
    "qemu64,+cx16,+ssse3,+sse4.1,+sse4.2,+popcnt",
    "-nodefaults",
    "-nographic",
    "-no-reboot",
    "-kernel",
    "vmlinuz",
    "-serial",
    "file:console",
    "-drive",
    "file=disk.img,if=none,id=disk,format=raw,cache=unsafe",
    "-device",
    "nvme,drive=disk,serial=disk",
    "-drive",
    "file=host.img,if=none,id=host,format=raw,cache=unsafe",
    "-device",
    "virtio-blk-pci,drive=host",
    "-device",
    "virtio-serial",
    "-device",
    "virtserialport,chardev=agent,name=agent",
];

/// What its kernel is told.
const KERNEL: &str = "root=/dev/nvme0n1 console=ttyS0 quiet systemd.show_status=0 net.ifnames=0 mitigations=off audit=0 panic=-1 \
     random.trust_cpu=on";

/// A machine of a story, up or off.
#[derive(Debug)]
pub(crate) struct Computer {
    dir: PathBuf,
    /// Disks beside its own, by serial number.
    logged: Vec<&'static str>,
    /// The same, of which nothing is written down.
    plain: Vec<&'static str>,
    /// How the kernel mounts its root.
    root: &'static str,
    /// Its memory, in MiB.
    memory: &'static str,
    /// Within which it must answer after its start, and be off after it was told so.
    boot: Duration,
    up: Option<Up>,
}

#[derive(Debug)]
struct Up {
    qemu: Child,
    agent: UnixStream,
    /// What the agent has sent beyond what was asked for.
    read: Vec<u8>,
}

impl Computer {
    /// A machine of this Debian that is off, with bedplate and the small images.
    pub(crate) fn new(story: &Story, suite: Suite) -> Result<Self> {
        let dir = story.dir().join("machine");
        let share = dir.join("host");
        fs::create_dir_all(&share)?;
        let made = host::output(host::project("tests/vm/disk"), &[suite.name()], None)?;
        let made = Path::new(made.trim_end());
        for file in ["disk.img", "vmlinuz"] {
            let [from, to] = [made, &dir].map(|d| d.join(file).display().to_string());
            let argv = ["--reflink=auto", "--sparse=always", &from, &to];
            host::output("cp", &argv, None)?;
        }
        fs::copy(host::BEDPLATE, share.join("bedplate"))?;
        fs::copy(host::launcher()?, share.join("launch"))?;
        let images = images::small()?.display().to_string();
        let inside = share.join("images").display().to_string();
        host::output("cp", &["--archive", &images, &inside], None)?;
        let share = share.display().to_string();
        // Sparse: what it holds is what it takes.
        let argv = ["-q", "-O", "^has_journal", "-d", &share, "host.img", "1G"];
        host::output_in(&dir, "mkfs.ext4", &argv)?;
        Ok(Self {
            dir,
            logged: Vec::new(),
            plain: Vec::new(),
            root: "rw",
            memory: "1024",
            boot: BOOT,
            up: None,
        })
    }

    /// Its directory on the host.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Gives it another disk with the files of a directory; `NAME.base` is what it is before the first write,
    /// `NAME.log` has all that is written to it.
    pub(crate) fn add_logged_disk(&mut self, name: &'static str, tree: &Path) -> Result<()> {
        let [image, base] = ["img", "base"].map(|kind| format!("{name}.{kind}"));
        let tree = tree.display().to_string();
        // A small journal: the log holds it as often as it is written.
        let argv = ["-q", "-J", "size=4", "-d", &tree, &base, "128M"];
        host::output_in(&self.dir, "mkfs.ext4", &argv)?;
        host::output_in(&self.dir, "cp", &["--sparse=always", &base, &image])?;
        File::create(self.dir.join(format!("{name}.log")))?;
        self.logged.push(name);
        Ok(())
    }

    /// Gives it another disk, with an empty file system.
    pub(crate) fn add_disk(&mut self, name: &'static str, size: &str) -> Result<()> {
        let image = format!("{name}.img");
        host::output_in(&self.dir, "mkfs.ext4", &["-q", &image, size])?;
        self.plain.push(name);
        Ok(())
    }

    /// Runs lines of shell on the host while the machine is off: `$root` is where its disk is mounted for them,
    /// `$images` where the images lie, and `bedplate` works on the one. They take a fraction of what they would inside.
    pub(crate) fn prepare(&self, script: &str) -> Result<()> {
        ensure!(self.up.is_none(), "the machine is up");
        let head = r#"bedplate() { "$BEDPLATE" --root="$root" "$@"; }
            mkdir -p root
            root=$PWD/root
            mount -o loop disk.img "$root""#;
        let mut command = Command::new("timeout");
        command
            .args(["240", "unshare", "--mount", "--propagation", "private"])
            .args(["bash", "-euo", "pipefail", "-c"])
            .arg(format!("{head}\n{script}\numount --recursive \"$root\""))
            .current_dir(&self.dir)
            .env("BEDPLATE", host::BEDPLATE)
            .env("images", images::small()?)
            .stdin(Stdio::null());
        let output = command.output().context("preparing the disk")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {said}", output.status);
        Ok(())
    }

    /// Has its root mounted read-only from its next start on.
    pub(crate) fn read_only(&mut self) {
        self.root = "ro";
    }

    /// Makes it one that can start many things at once: with more memory, and with more time for that.
    pub(crate) fn enlarge(&mut self) {
        self.memory = "3072";
        self.boot = 3 * BOOT;
    }

    /// qemu's options for a disk.
    fn plain_disk(name: &str) -> [String; 4] {
        let drive = format!("file={name}.img,if=none,id={name},format=raw,cache=unsafe");
        let device = format!("virtio-blk-pci,drive={name},serial={name}");
        ["-drive".into(), drive, "-device".into(), device]
    }

    /// The same for one whose writes are written down.
    fn logged_disk(name: &str) -> [String; 4] {
        let node = format!(
            "driver=blklogwrites,node-name={name},log-super-update-interval=1,\
             file.driver=file,file.filename={name}.img,log.driver=file,log.filename={name}.log"
        );
        let device = format!("virtio-blk-pci,drive={name},serial={name}");
        ["-blockdev".into(), node, "-device".into(), device]
    }

    /// Boots it and waits until it answers.
    pub(crate) fn start(&mut self) -> Result<()> {
        ensure!(self.up.is_none(), "the machine is up");
        // Several machines may be up at once, a story's each.
        let story = self.dir.parent().and_then(Path::file_name);
        let story = story.unwrap_or_default().display();
        let name = format!("bedplate-{story}-{}", std::process::id());
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        let began = Instant::now();
        let mut qemu = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"])
            .args(MACHINE)
            .args(["-m", self.memory])
            .arg("-append")
            .arg(format!("{KERNEL} {}", self.root))
            .args(self.logged.iter().flat_map(|name| Self::logged_disk(name)))
            .args(self.plain.iter().flat_map(|name| Self::plain_disk(name)))
            .arg("-chardev")
            .arg(format!(
                "socket,id=agent,path={name},abstract=on,server=off"
            ))
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(self.dir.join("qemu"))?)
            .spawn()
            .context("running qemu")?;
        let agent = wait(&qemu, &listener, began + self.boot)
            .and_then(|()| Ok(listener.accept()?.0))
            .inspect_err(|_| end(&mut qemu))
            .with_context(|| self.evidence())?;
        let read = Vec::new();
        self.up = Some(Up { qemu, agent, read });
        let said = self.answer(began + self.boot)?;
        ensure!(said == "ready", "the agent said `{said}`");
        let took = began.elapsed().as_secs();
        host::say(&format!("machine: booted in {took} s"));
        Ok(())
    }

    /// Runs lines of shell as root; their status, and all that they wrote.
    pub(crate) fn run(&mut self, script: &str) -> Result<(i32, String)> {
        let up = self.up.as_mut().context("the machine is off")?;
        up.agent.write_all(script.as_bytes())?;
        up.agent.write_all(&[0])?;
        let deadline = Instant::now() + COMMAND;
        let running = || format!("running `{script}`");
        let said = self.answer(deadline).with_context(running)?;
        let status = self.answer(deadline).with_context(running)?;
        Ok((status.parse()?, said.trim_end().to_owned()))
    }

    /// Runs lines of shell that must all succeed; what they wrote.
    pub(crate) fn ok(&mut self, script: &str) -> Result<String> {
        let (status, said) = self.run(script)?;
        ensure!(status == 0, "`{script}`: status {status}: {said}");
        Ok(said)
    }

    /// A property of a unit.
    pub(crate) fn property(&mut self, unit: &str, property: &str) -> Result<String> {
        self.ok(&format!(
            "systemctl show --value --property={property} {unit}"
        ))
    }

    /// The processor time of the host's that it has taken since its start.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        let up = self.up.as_ref().context("the machine is off")?;
        let stat = fs::read_to_string(format!("/proc/{}/stat", up.qemu.id()))?;
        // Behind the name, which may hold spaces; in hundredths of a second.
        let (_, fields) = stat.rsplit_once(')').context(stat.clone())?;
        let times = fields.split_whitespace().skip(11).take(2);
        let ticks: Result<Vec<u64>, _> = times.map(str::parse).collect();
        Ok(Duration::from_millis(10 * ticks?.iter().sum::<u64>()))
    }

    /// Waits until a property of a unit has a value.
    pub(crate) fn until(&mut self, unit: &str, property: &str, value: &str) -> Result<()> {
        let (status, is) = self.run(&format!(
            "for tick in {{1..150}}; do
                is=$(systemctl show --value --property={property} {unit})
                [[ $is != {value} ]] || exit 0
                sleep 0.4
            done
            echo \"$is\"
            exit 1"
        ))?;
        ensure!(status == 0, "{unit} has {property}={is}, not {value}");
        Ok(())
    }

    /// Shuts it down in order.
    pub(crate) fn poweroff(&mut self) -> Result<()> {
        let mut up = self.up.take().context("the machine is off")?;
        // It may be off before the agent has answered.
        up.agent.write_all(b"systemctl poweroff\0")?;
        let deadline = Instant::now() + self.boot;
        let ended = loop {
            let mut rest = [0; 256];
            // The port closes when qemu ends.
            match read_until(&mut up.agent, &mut rest, deadline) {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        if ended.is_err() {
            end(&mut up.qemu);
        }
        ended.with_context(|| self.evidence())?;
        up.qemu.wait()?;
        Ok(())
    }

    /// Changes a file of the disk while the machine is off, without its file system's knowledge: in the block where
    /// its content begins, `old` becomes `new`.
    pub(crate) fn change(&self, path: &str, old: &str, new: &str) -> Result<()> {
        ensure!(self.up.is_none() && old.len() == new.len(), "it is up");
        let request = format!("blocks {path}");
        let blocks = host::output_in(&self.dir, "debugfs", &["-R", &request, "disk.img"])?;
        let first = blocks.split_whitespace().next();
        let block: u64 = first.context("the file has no block")?.parse()?;
        let disk = File::options()
            .read(true)
            .write(true)
            .open(self.dir.join("disk.img"))?;
        let mut content = vec![0; 4096];
        disk.read_exact_at(&mut content, block * 4096)?;
        let found = content
            .windows(old.len())
            .position(|window| window == old.as_bytes());
        let at = found.with_context(|| format!("`{path}` does not hold `{old}` on the disk"))?;
        disk.write_all_at(new.as_bytes(), block * 4096 + at as u64)?;
        Ok(())
    }

    /// The agent's next word.
    fn answer(&mut self, deadline: Instant) -> Result<String> {
        let evidence = self.evidence();
        let up = self.up.as_mut().context("the machine is off")?;
        loop {
            if let Some(end) = up.read.iter().position(|byte| *byte == 0) {
                let rest = up.read.split_off(end + 1);
                let mut word = std::mem::replace(&mut up.read, rest);
                word.pop();
                return Ok(String::from_utf8_lossy(&word).into_owned());
            }
            let mut buffer = [0; 16 * 1024];
            let read =
                read_until(&mut up.agent, &mut buffer, deadline).context(evidence.clone())?;
            ensure!(read > 0, "the machine is gone; {evidence}");
            up.read.extend_from_slice(&buffer[..read]);
        }
    }

    fn evidence(&self) -> String {
        format!("see `{}/{{console,qemu}}`", self.dir.display())
    }
}

impl Drop for Computer {
    fn drop(&mut self) {
        if let Some(mut up) = self.up.take() {
            end(&mut up.qemu);
        }
    }
}

fn end(qemu: &mut Child) {
    let _gone = qemu.kill();
    let _status = qemu.wait();
}

/// Waits until qemu has connected, or has ended.
fn wait(qemu: &Child, listener: &UnixListener, deadline: Instant) -> Result<()> {
    let pidfd = pidfd_open(Pid::from_child(qemu), PidfdFlags::empty())?;
    let mut polled = [
        PollFd::new(listener, PollFlags::IN),
        PollFd::new(&pidfd, PollFlags::IN),
    ];
    loop {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now()))?;
        match poll(&mut polled, Some(&left)) {
            Ok(0) => bail!("qemu does not connect"),
            Ok(_) if polled[0].revents().is_empty() => bail!("qemu ended"),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads what is there, waiting until a deadline for it.
fn read_until(agent: &mut UnixStream, buffer: &mut [u8], deadline: Instant) -> Result<usize> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        ensure!(!left.is_zero(), "no answer in time");
        agent.set_read_timeout(Some(left))?;
        match agent.read(buffer) {
            Ok(read) => return Ok(read),
            Err(error) => match error.kind() {
                ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => {}
                ErrorKind::ConnectionReset => return Ok(0),
                _ => return Err(error.into()),
            },
        }
    }
}
