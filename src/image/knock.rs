//! Whether something listens, or at least says that nothing does.

use std::collections::{BTreeMap, HashMap};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How long a mirror may take to accept a connection.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// Whether each mirror lets one know within the time: that it is there, or that it is not. One that has been knocked
/// at is remembered: a pull of many images waits once.
pub(crate) fn knock(mirrors: &[(String, bool)]) -> Vec<(String, bool)> {
    static KNOWN: Mutex<BTreeMap<String, bool>> = Mutex::new(BTreeMap::new());
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let (tell, told) = mpsc::channel();
    let mut waiting = HashMap::new();
    for (location, insecure) in mirrors {
        if known().contains_key(location) {
            continue;
        }
        waiting.insert(location.clone(), false);
        let (tell, location, insecure) = (tell.clone(), location.clone(), *insecure);
        // Left behind when it takes too long: a resolver cannot be interrupted.
        thread::spawn(move || {
            let answers = answers(&location, insecure);
            let _too_late = tell.send((location, answers));
        });
    }
    let until = Instant::now() + PATIENCE + Duration::from_millis(200);
    let mut missing = waiting.len();
    while missing > 0 {
        let Ok((location, answers)) =
            told.recv_timeout(until.saturating_duration_since(Instant::now()))
        else {
            break;
        };
        missing -= 1;
        waiting.insert(location, answers);
    }
    known().extend(waiting);
    let known = known();
    let mirrors = mirrors.iter().map(|(location, _)| location);
    mirrors
        .map(|location| {
            (
                location.clone(),
                known.get(location).copied().unwrap_or(true),
            )
        })
        .collect()
}

/// Whether no connection to it hangs, or one succeeds.
fn answers(location: &str, insecure: bool) -> bool {
    let host = location.split('/').next().unwrap_or_default();
    let ports: &[u16] = if insecure { &[443, 80] } else { &[443] };
    let addresses: Vec<_> = match host.to_socket_addrs() {
        Ok(with_port) => with_port.collect(),
        Err(_) => ports
            .iter()
            .filter_map(|port| (host, *port).to_socket_addrs().ok())
            .flatten()
            .collect(),
    };
    let (tell, told) = mpsc::channel();
    for address in addresses {
        let tell = tell.clone();
        thread::spawn(move || {
            let tried = TcpStream::connect_timeout(&address, PATIENCE);
            let _too_late = tell.send(tried.map(|_| ()));
        });
    }
    drop(tell);
    let mut hangs = false;
    for tried in told {
        match tried {
            Ok(()) => return true,
            Err(error) => hangs |= error.kind() == std::io::ErrorKind::TimedOut,
        }
    }
    !hangs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_that_refuses_answers() {
        // Nothing listens on the discard port of any machine that builds this.
        assert!(answers("127.0.0.1:9", false));
        assert!(answers("[::1]:9/path", false));
    }
}
