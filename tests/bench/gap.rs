//! For how long etcd does not answer while a command runs.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::{DEADLINE, cpu};

/// For how long at most nobody answers at the port while a command runs, and until somebody does again.
pub(crate) fn measure(port: u16, command: &[String]) -> Result<()> {
    let cpu_before = cpu()?;
    let (program, arguments) = command.split_first().context("COMMAND")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let (began, mut longest) = (Instant::now(), Duration::ZERO);
    let mut silent: Option<Instant> = None;
    let mut ended = None;
    loop {
        if answers(port) {
            longest = longest.max(
                silent
                    .take()
                    .map_or(Duration::ZERO, |since| since.elapsed()),
            );
            if ended.is_some() {
                break;
            }
        } else {
            silent.get_or_insert_with(Instant::now);
        }
        if ended.is_none() {
            ended = child.try_wait()?;
        }
        ensure!(
            began.elapsed() < 4 * DEADLINE,
            "nobody answers at port {port}"
        );
        thread::sleep(Duration::from_millis(2));
    }
    let status = ended.context("it has ended")?;
    ensure!(status.success(), "{command:?}: {status}");
    let cpu = cpu()?.saturating_sub(cpu_before);
    println!(
        "{}",
        json!({"gap_s": longest.as_secs_f64(), "command_s": began.elapsed().as_secs_f64(), "cpu_s": cpu.as_secs_f64()})
    );
    Ok(())
}

/// Whether etcd says at this port that it is healthy.
fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains(r#""health":"true""#))
}
