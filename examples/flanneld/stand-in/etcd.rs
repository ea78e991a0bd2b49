//! etcd v3 by its JSON gateway (etcd's `grpc_gateway` page): a POST per call, keys and values in base64, 64-bit
//! numbers as texts, what is zero or empty left out.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

/// For connecting, and for each read and write: a stop signal waits no longer than this.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The end of an answer that no call here comes near.
const LONGEST_ANSWER: u64 = 16 << 20;

/// A member's client address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    host: String,
    port: u16,
}

impl FromStr for Endpoint {
    type Err = anyhow::Error;

    fn from_str(url: &str) -> Result<Self> {
        let Some(rest) = url.strip_prefix("http://") else {
            bail!("`{url}`: the stand-in speaks plain http:// only");
        };
        let authority = rest.trim_end_matches('/');
        let parts = authority
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = parts.with_context(|| format!("`{url}` is no http://HOST:PORT"))?;
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The whole key.
    pub(crate) key: String,
    /// Its value.
    pub(crate) value: String,
    /// Of its last change.
    pub(crate) revision: i64,
}

/// A cluster.
pub(crate) struct Etcd {
    endpoints: Vec<Endpoint>,
}

impl Etcd {
    /// A cluster by its members.
    pub(crate) fn new(endpoints: Vec<Endpoint>) -> Self {
        Self { endpoints }
    }

    /// The key's entry, if there is one.
    ///
    /// # Errors
    /// No member answers as it should; so for all calls here.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Entry>> {
        let answer = self.call("/v3/kv/range", &json!({ "key": encode(key) }))?;
        Ok(entries(&answer)?.pop())
    }

    /// All entries whose key begins so.
    pub(crate) fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        // The end of a range is the first key that does not begin so.
        let mut end = prefix.as_bytes().to_vec();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        let answer = self.call(
            "/v3/kv/range",
            &json!({ "key": encode(prefix), "range_end": encode_bytes(&end) }),
        )?;
        entries(&answer)
    }

    /// Writes the key under a lease if it is still at this revision; 0: if it is not there. Says whether it was so.
    pub(crate) fn put_if(&self, key: &str, revision: i64, value: &str, lease: i64) -> Result<bool> {
        let compare = json!({
            "target": "MOD", "result": "EQUAL", "key": encode(key), "mod_revision": revision.to_string(),
        });
        let put = json!({ "key": encode(key), "value": encode(value), "lease": lease.to_string() });
        let request = json!({ "compare": [compare], "success": [{ "request_put": put }] });
        let answer = self.call("/v3/kv/txn", &request)?;
        Ok(answer["succeeded"] == json!(true))
    }

    /// A new lease of so many seconds.
    pub(crate) fn grant(&self, seconds: u64) -> Result<i64> {
        let answer = self.call("/v3/lease/grant", &json!({ "TTL": seconds.to_string() }))?;
        let id = number(&answer["ID"]);
        ensure!(id != 0, "asking etcd for a lease: the answer has no ID");
        Ok(id)
    }

    /// Gives a lease up, and what hangs on it.
    pub(crate) fn revoke(&self, lease: i64) -> Result<()> {
        self.call("/v3/lease/revoke", &json!({ "ID": lease.to_string() }))
            .map(drop)
    }

    /// Renews a lease; says whether etcd still has it.
    pub(crate) fn keep_alive(&self, lease: i64) -> Result<bool> {
        let answer = self.call("/v3/lease/keepalive", &json!({ "ID": lease.to_string() }))?;
        ensure!(
            answer["result"].is_object(),
            "renewing a lease: etcd answered `{answer}`"
        );
        Ok(number(&answer["result"]["TTL"]) > 0)
    }

    /// Asks one member after the other until one answers.
    fn call(&self, path: &str, request: &Value) -> Result<Value> {
        let mut problem = anyhow::anyhow!("no members given");
        for endpoint in &self.endpoints {
            match post(endpoint, path, &request.to_string()) {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    problem = error.context(format!("asking etcd at `{endpoint}` for `{path}`"));
                }
            }
        }
        Err(problem)
    }
}

/// HTTP/1.0, so that the answer comes in one piece that ends with the connection.
fn post(endpoint: &Endpoint, path: &str, body: &str) -> Result<Value> {
    let mut addresses = (endpoint.host.as_str(), endpoint.port)
        .to_socket_addrs()
        .context("finding its address")?;
    let address = addresses.next().context("finding its address")?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).context("connecting")?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.0\r\nHost: {endpoint}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .context("sending")?;
    let mut answer = Vec::new();
    stream
        .take(LONGEST_ANSWER)
        .read_to_end(&mut answer)
        .context("receiving")?;
    parse_answer(&String::from_utf8(answer).context("receiving")?)
}

fn parse_answer(answer: &str) -> Result<Value> {
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("receiving: the answer ends within its header")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(
        status.split(' ').nth(1) == Some("200"),
        "it answered `{status}`: {}",
        body.trim()
    );
    serde_json::from_str(body).context("reading its answer")
}

fn entries(answer: &Value) -> Result<Vec<Entry>> {
    let text = |value: &Value| decode(value.as_str().unwrap_or_default());
    let listed = answer["kvs"].as_array().map_or(&[][..], Vec::as_slice);
    listed
        .iter()
        .map(|kv| {
            Ok(Entry {
                key: text(&kv["key"])?,
                value: text(&kv["value"])?,
                revision: number(&kv["mod_revision"]),
            })
        })
        .collect()
}

fn number(value: &Value) -> i64 {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .or_else(|| value.as_i64())
        .unwrap_or(0)
}

/// The alphabet of RFC 4648, section 4.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(text: &str) -> String {
    encode_bytes(text.as_bytes())
}

fn encode_bytes(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = (0..3).fold(0_usize, |sum, index| {
            sum << 8 | usize::from(chunk.get(index).copied().unwrap_or(0))
        });
        for index in 0..4 {
            let letter = char::from(ALPHABET[group >> (18 - 6 * index) & 63]);
            text.push(if index <= chunk.len() { letter } else { '=' });
        }
    }
    text
}

fn decode(text: &str) -> Result<String> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let place = ALPHABET
            .iter()
            .position(|known| *known == letter)
            .context("reading base64")?;
        bits = bits << 6 | u32::try_from(place)?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 255)?);
        }
    }
    String::from_utf8(bytes).context("reading base64")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("/coreos", "L2NvcmVvcw=="),
        ] {
            assert_eq!(encode(plain), coded);
            assert_eq!(decode(coded).unwrap(), plain);
        }
        assert_eq!(decode("Z g=").unwrap_err().to_string(), "reading base64");
    }

    #[test]
    fn answers() {
        let ok = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"kvs\":[{\"key\":\"Zg==\",\"mod_revision\":\"7\"}]}";
        let entry = Entry {
            key: "f".to_owned(),
            value: String::new(),
            revision: 7,
        };
        assert_eq!(entries(&parse_answer(ok).unwrap()).unwrap(), [entry]);
        let refused = "HTTP/1.0 503 Service Unavailable\r\n\r\n{\"error\":\"no leader\"}\n";
        assert_eq!(
            parse_answer(refused).unwrap_err().to_string(),
            "it answered `HTTP/1.0 503 Service Unavailable`: {\"error\":\"no leader\"}"
        );
        assert_eq!(
            parse_answer("HTTP/1.0 200").unwrap_err().to_string(),
            "receiving: the answer ends within its header"
        );
    }

    #[test]
    fn endpoints() {
        assert_eq!(
            "http://[::1]:2379/"
                .parse::<Endpoint>()
                .unwrap()
                .to_string(),
            "[::1]:2379"
        );
        assert_eq!(
            "http://etcd".parse::<Endpoint>().unwrap_err().to_string(),
            "`http://etcd` is no http://HOST:PORT"
        );
    }
}
