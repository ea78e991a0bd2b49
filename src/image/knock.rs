//! Whether a registry answers, or at least says at once that it does not.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use openssl::ssl::{HandshakeError, Ssl, SslContext, SslMethod, SslStream};

/// How long a mirror may take to be found, to accept a connection and to answer.
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
            let answers = answers(&location, insecure, PATIENCE);
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

/// A host's name or address without brackets, and its port if it has one.
pub(crate) fn split(host: &str) -> (&str, Option<u16>) {
    let found = host
        .rsplit_once(':')
        .and_then(|(name, port)| Some((name, port.parse().ok()?)));
    let (name, port) = found.map_or((host, None), |(name, port)| (name, Some(port)));
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    (bare.unwrap_or(name), port)
}

/// Whether nothing hangs there, or one of its addresses answers.
fn answers(location: &str, insecure: bool, patience: Duration) -> bool {
    let host = location.split('/').next().unwrap_or_default();
    let (name, port) = split(host);
    let door = Door {
        host: host.to_owned(),
        name: name.to_owned(),
        plain: insecure.then_some(port.unwrap_or(80)),
        until: Instant::now() + patience,
    };
    let found = (name, port.unwrap_or(443)).to_socket_addrs();
    let (tell, told) = mpsc::channel();
    for address in found.into_iter().flatten() {
        let (tell, door) = (tell.clone(), door.clone());
        thread::spawn(move || {
            let _too_late = tell.send(door.reply(address));
        });
    }
    drop(tell);
    let mut hangs = false;
    for reply in told {
        match reply {
            Reply::Answer => return true,
            Reply::Refusal => {}
            Reply::Silence => hangs = true,
        }
    }
    !hangs
}

/// What comes of knocking.
enum Reply {
    /// Something.
    Answer,
    /// The end, at once: skopeo loses no time there either.
    Refusal,
    /// Nothing.
    Silence,
}

/// Where somebody knocks.
#[derive(Clone)]
struct Door {
    /// As it is written, with its port.
    host: String,
    name: String,
    /// The port for plain HTTP, where that is allowed.
    plain: Option<u16>,
    until: Instant,
}

impl Door {
    /// Asks as skopeo does: with TLS, and without where that is allowed and TLS fails.
    fn reply(&self, address: SocketAddr) -> Reply {
        let secure = self.connect(address);
        let secure = secure.and_then(|stream| self.ask(self.greet(stream)?));
        match (self.plain, told(&secure)) {
            (Some(port), Reply::Refusal) => {
                let plain = self.connect(SocketAddr::new(address.ip(), port));
                told(&plain.and_then(|stream| self.ask(stream)))
            }
            (_, reply) => reply,
        }
    }

    /// The time that is left; none at all would be for ever.
    fn left(&self) -> Duration {
        let left = self.until.saturating_duration_since(Instant::now());
        left.max(Duration::from_millis(1))
    }

    fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&address, self.left())?;
        stream.set_read_timeout(Some(self.left()))?;
        stream.set_write_timeout(Some(self.left()))?;
        Ok(stream)
    }

    /// Any certificate will do: nothing that is heard here is believed.
    fn greet(&self, stream: TcpStream) -> io::Result<SslStream<TcpStream>> {
        let context = SslContext::builder(SslMethod::tls_client())?.build();
        let mut tls = Ssl::new(&context)?;
        if self.name.parse::<IpAddr>().is_err() {
            tls.set_hostname(&self.name)?;
        }
        tls.connect(stream).map_err(|error| match error {
            HandshakeError::WouldBlock(_) => ErrorKind::TimedOut.into(),
            error => io::Error::other(error.to_string()),
        })
    }

    /// The first byte of whatever is the answer.
    fn ask(&self, mut stream: impl Read + Write) -> io::Result<()> {
        let host = &self.host;
        let request = format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        stream.read_exact(&mut [0])
    }
}

fn told(asked: &io::Result<()>) -> Reply {
    match asked {
        Ok(()) => Reply::Answer,
        Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
            Reply::Silence
        }
        Err(_) => Reply::Refusal,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use openssl::asn1::Asn1Time;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::pkey::PKey;
    use openssl::x509::X509;

    use super::*;

    /// More than a busy machine takes, and enough to be sure of a silence.
    const LONG: Duration = Duration::from_mins(1);
    const SHORT: Duration = Duration::from_millis(300);

    /// A server that does this with each connection; its address.
    fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serve = std::sync::Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let serve = std::sync::Arc::clone(&serve);
                thread::spawn(move || serve(stream));
            }
        });
        address
    }

    /// What a server with TLS has; nobody vouches for it.
    fn tls() -> SslContext {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut cert = X509::builder().unwrap();
        cert.set_version(2).unwrap();
        cert.set_not_before(&Asn1Time::from_unix(0).unwrap())
            .unwrap();
        cert.set_not_after(&Asn1Time::days_from_now(1).unwrap())
            .unwrap();
        cert.set_pubkey(&key).unwrap();
        cert.sign(&key, MessageDigest::sha256()).unwrap();
        let mut context = SslContext::builder(SslMethod::tls_server()).unwrap();
        context.set_certificate(&cert.build()).unwrap();
        context.set_private_key(&key).unwrap();
        context.build()
    }

    /// Reads until the client goes away.
    fn listen(mut stream: impl Read) {
        let _gone = io::copy(&mut stream, &mut io::sink());
    }

    #[test]
    fn a_mirror_that_refuses_answers() {
        // Nothing listens on the discard port of any machine that builds this.
        assert!(answers("127.0.0.1:9", false, LONG));
        assert!(answers("[::1]:9/path", true, LONG));
    }

    #[test]
    fn a_mirror_that_only_listens_does_not_answer() {
        // Connections are accepted by the kernel alone.
        let mute = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = mute.local_addr().unwrap().to_string();
        assert!(!answers(&address, false, SHORT));
        assert!(!answers(&address, true, SHORT));
        // One that ends a connection with TLS and is silent on one without.
        let deaf = server(|stream| {
            let mut first = [0];
            if stream.peek(&mut first).is_ok() && first[0] != 0x16 {
                listen(stream);
            }
        });
        assert!(!answers(&deaf, true, SHORT));
        // Such is no use without plain HTTP, but costs no time.
        assert!(answers(&deaf, false, LONG));
    }

    #[test]
    fn tls_alone_is_no_answer() {
        let context = tls();
        let greets = server(move |stream| {
            let tls = Ssl::new(&context).unwrap();
            if let Ok(stream) = tls.accept(stream) {
                listen(stream);
            }
        });
        assert!(!answers(&greets, false, SHORT));
    }

    #[test]
    fn any_byte_is_an_answer() {
        let context = tls();
        let secure = server(move |stream| {
            let mut stream = Ssl::new(&context).unwrap().accept(stream).unwrap();
            stream.write_all(b"H").unwrap();
            listen(stream);
        });
        assert!(answers(&secure, false, LONG));
        let plain = server(|mut stream| {
            let mut first = [0];
            // To a hello it is the end, to a request a byte; that connection stays open.
            if stream.read_exact(&mut first).is_ok() && first == *b"G" {
                stream.write_all(b"H").unwrap();
                listen(stream);
            }
        });
        assert!(answers(&format!("{plain}/path"), true, LONG));
    }

    #[test]
    fn a_port_is_told_from_an_address() {
        for (host, name, port) in [
            ("r.example", "r.example", None),
            ("r.example:5000", "r.example", Some(5000)),
            ("[::1]", "::1", None),
            ("[::1]:5000", "::1", Some(5000)),
        ] {
            assert_eq!(split(host), (name, port));
        }
    }
}
