//! A bad network: a server in front of a registry that counts what passes and spoils it when told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::host::Host;
use crate::process::DEADLINE;
use crate::registry::{allow, registry};

/// What happens to an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The connection is reset after so many bytes of the body.
    Reset(u64),
    /// The connection is closed after so many bytes of the body.
    Close(u64),
    /// Nothing more comes after so many bytes of the body, and the connection stays open.
    Stall(u64),
    /// Another status, with this header line.
    Status(u16, &'static str),
    /// One bit of the body is another.
    Flip,
}

/// A request that was answered, or was to be.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) at: Instant,
    /// Bytes of the body that were passed on.
    pub(crate) bytes: u64,
}

struct Rule {
    part: String,
    fault: Fault,
    times: usize,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    requests: Vec<Request>,
}

/// What becomes of a client to which nothing more comes.
#[derive(Debug, PartialEq, Eq)]
enum Stalled {
    Waits,
    Gone,
}

/// The server. It listens as long as the tests run.
pub(crate) struct Wire {
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    state: Arc<Mutex<State>>,
    stalled: mpsc::Receiver<Stalled>,
}

impl Wire {
    /// A server in front of the registry of the tests, which this host may use.
    pub(crate) fn new(host: &Host) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let (tell, stalled) = mpsc::channel();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&shared);
                // A client that goes away ends its thread.
                let tell = tell.clone();
                thread::spawn(move || serve(client, &state, &tell));
            }
        });
        allow(host, &address);
        Self {
            address,
            state,
            stalled,
        }
    }

    /// A reference to the registry's image through this server.
    pub(crate) fn reference(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.address)
    }

    /// Spoils the next answers, so many, to requests whose path holds `part`.
    pub(crate) fn spoil(&self, part: &str, fault: Fault, times: usize) {
        let part = part.to_owned();
        let rule = Rule { part, fault, times };
        self.state.lock().unwrap().rules.push(rule);
    }

    /// Nothing is spoilt any more, and counting begins anew.
    pub(crate) fn mend(&self) {
        *self.state.lock().unwrap() = State::default();
    }

    /// Waits until a client gets nothing more.
    pub(crate) fn wait_until_stalled(&self) {
        assert_eq!(self.stalled.recv_timeout(DEADLINE), Ok(Stalled::Waits));
    }

    /// Waits until that client has gone.
    pub(crate) fn wait_until_gone(&self) {
        assert_eq!(self.stalled.recv_timeout(DEADLINE), Ok(Stalled::Gone));
    }

    /// The requests whose path holds `part`.
    pub(crate) fn requests(&self, part: &str) -> Vec<Request> {
        let state = self.state.lock().unwrap();
        let requests = state.requests.iter();
        requests
            .filter(|r| r.path.contains(part))
            .cloned()
            .collect()
    }

    /// The bytes that were passed on in answer to such requests.
    pub(crate) fn bytes(&self, part: &str) -> u64 {
        self.requests(part).iter().map(|r| r.bytes).sum()
    }
}

/// An HTTP head: its lines, the last of them empty; none at the end of the connection.
fn head(stream: &mut impl BufRead) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        lines.push(line.trim_end().to_owned());
        if lines.last().is_some_and(String::is_empty) {
            return Some(lines);
        }
    }
}

fn serve(mut client: TcpStream, state: &Mutex<State>, tell: &mpsc::Sender<Stalled>) -> Option<()> {
    // skopeo tries TLS first, where plain HTTP is allowed too.
    let mut first = [0];
    if client.peek(&mut first).ok()? == 1 && first[0] == 0x16 {
        return None;
    }
    let mut requests = BufReader::new(client.try_clone().ok()?);
    while let Some(request) = head(&mut requests) {
        let path = request[0].split(' ').nth(1)?.to_owned();
        let mut locked = state.lock().unwrap();
        let rule = locked
            .rules
            .iter_mut()
            .find(|rule| rule.times > 0 && path.contains(&rule.part));
        let fault = rule.map(|rule| {
            rule.times -= 1;
            rule.fault
        });
        let index = locked.requests.len();
        locked.requests.push(Request {
            path,
            at: Instant::now(),
            bytes: 0,
        });
        drop(locked);
        let passed = |bytes| {
            // After `mend` it is another list.
            if let Some(request) = state.lock().unwrap().requests.get_mut(index) {
                request.bytes += bytes;
            }
        };
        if let Some(Fault::Status(code, header)) = fault {
            let text = format!("HTTP/1.1 {code} Spoilt\r\n{header}Content-Length: 0\r\n\r\n");
            client.write_all(text.as_bytes()).ok()?;
            continue;
        }
        let whole = answer(&mut client, &request, fault, passed);
        if matches!(fault, Some(Fault::Stall(_))) {
            let _nobody_listens = tell.send(Stalled::Waits);
            // Until the client gives up.
            let _gone = client.read(&mut first);
            let _nobody_listens = tell.send(Stalled::Gone);
        }
        whole?;
    }
    None
}

/// Passes the registry's answer on; `None` when the connection is at its end.
fn answer(
    client: &mut TcpStream,
    request: &[String],
    fault: Option<Fault>,
    passed: impl Fn(u64),
) -> Option<()> {
    let mut upstream = TcpStream::connect(&registry().address).ok()?;
    let mut sent = request.join("\r\n");
    sent.push_str("\r\n");
    upstream.write_all(sent.as_bytes()).ok()?;
    let mut upstream = BufReader::new(upstream);
    let reply = head(&mut upstream)?;
    let length = reply.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.eq_ignore_ascii_case("content-length")).then(|| value.trim().parse::<u64>())
    });
    let length = match length {
        Some(length) if !request[0].starts_with("HEAD") => length.ok()?,
        _ => 0,
    };
    client.write_all(reply.join("\r\n").as_bytes()).ok()?;
    client.write_all(b"\r\n").ok()?;
    let until = match fault {
        Some(Fault::Reset(bytes) | Fault::Close(bytes) | Fault::Stall(bytes)) => bytes.min(length),
        _ => length,
    };
    let mut buffer = vec![0; 16 * 1024];
    let mut done = 0;
    while done < until {
        let wanted = usize::try_from(until - done)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = upstream.read(&mut buffer[..wanted]).ok()?;
        if done == 0 && matches!(fault, Some(Fault::Flip)) {
            buffer[read / 2] ^= 1;
        }
        client.write_all(&buffer[..read]).ok()?;
        done += read as u64;
        passed(read as u64);
    }
    match fault {
        Some(Fault::Reset(_)) => {
            let now = Some(Duration::ZERO);
            rustix::net::sockopt::set_socket_linger(&*client, now).unwrap();
            None
        }
        Some(Fault::Close(_) | Fault::Stall(_)) => None,
        _ => Some(()),
    }
}
