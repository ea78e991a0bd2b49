//! Whether skopeo goes through a proxy to a registry, as Go's HTTP client decides that.

use std::net::IpAddr;

use crate::image::knock::split;

/// What the environment says of proxies.
pub(crate) struct Proxies {
    /// There is one for connections with TLS, and one for those without.
    secure: bool,
    plain: bool,
    /// To whom connections are direct: `NO_PROXY`.
    direct: String,
}

impl Proxies {
    /// Those of this process, which skopeo inherits.
    pub(crate) fn of_environment() -> Self {
        let set = |name: &str| {
            let names = [name.to_owned(), name.to_lowercase()];
            let values = names.iter().filter_map(|name| std::env::var(name).ok());
            values.into_iter().find(|value| !value.is_empty())
        };
        Self {
            secure: set("HTTPS_PROXY").is_some(),
            plain: set("HTTP_PROXY").is_some(),
            direct: set("NO_PROXY").unwrap_or_default(),
        }
    }

    /// Whether a connection to this location may go through one.
    pub(crate) fn serve(&self, location: &str, insecure: bool) -> bool {
        let host = location.split('/').next().unwrap_or_default();
        (self.secure || insecure && self.plain) && !self.spare(&host.to_lowercase())
    }

    fn spare(&self, host: &str) -> bool {
        let (name, port) = split(host);
        let address = name.parse::<IpAddr>().ok();
        let own = name == "localhost" || address.is_some_and(|address| address.is_loopback());
        let mut rules = self
            .direct
            .split(',')
            .map(|rule| rule.trim().to_lowercase());
        own || rules.any(|rule| {
            let (of, only) = split(&rule);
            let here = only.is_none_or(|only| only == port.unwrap_or(443));
            match address {
                _ if of == "*" => true,
                Some(address) => {
                    let same = |text: &str| text.parse() == Ok(address);
                    same(&rule) || covers(&rule, address) || here && same(of)
                }
                None => here && ends(name, of),
            }
        })
    }
}

/// Whether a network, `ADDRESS/BITS`, has the address.
fn covers(network: &str, address: IpAddr) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (address.to_bits().into(), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let parsed = network
        .split_once('/')
        .and_then(|(start, length)| Some((start.parse().ok()?, length.parse::<u32>().ok()?)));
    let Some((start, length)) = parsed else {
        return false;
    };
    let ((start, all), (address, width)): ((u128, u32), _) = (bits(start), bits(address));
    let rest = all.checked_sub(length);
    all == width && rest.is_some_and(|rest| (start ^ address).checked_shr(rest).unwrap_or(0) == 0)
}

/// Whether a name is the domain's or below it; below it alone if that begins with a dot.
fn ends(name: &str, domain: &str) -> bool {
    let domain = domain
        .strip_prefix('*')
        .filter(|d| d.starts_with('.'))
        .unwrap_or(domain);
    let bare = domain.strip_prefix('.').unwrap_or(domain);
    let below = name
        .strip_suffix(bare)
        .is_some_and(|start| start.ends_with('.'));
    !bare.is_empty() && (below || name == domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_direct_as_go_has_it() {
        let proxies = Proxies {
            secure: true,
            plain: false,
            direct: "corp.example, .sub.example,*.star.example,port.example:5000,10.0.0.0/8,192.0.2.7,fd00::/8,[2001:db8::1]:5000,2001:db8::2".to_owned(),
        };
        for (location, through) in [
            ("r.example/path", true),
            ("localhost:5000", false),
            ("127.0.0.2:5000/path", false),
            ("[::1]:5000", false),
            ("corp.example", false),
            ("R.Corp.Example:5000/path", false),
            ("notcorp.example", true),
            ("sub.example", true),
            ("r.sub.example", false),
            ("star.example", true),
            ("r.star.example", false),
            ("port.example:5000", false),
            ("port.example", true),
            ("10.255.0.1:5000", false),
            ("11.0.0.1", true),
            ("192.0.2.7:5000", false),
            ("192.0.2.8", true),
            ("[fd12::1]", false),
            ("[2001:db8::1]:5000", false),
            ("[2001:db8::1]:5001", true),
            ("[2001:db8::2]:5001", false),
        ] {
            assert_eq!(proxies.serve(location, false), through, "{location}");
        }
    }

    #[test]
    fn each_kind_of_connection_has_its_proxy() {
        let proxies = |secure, plain, direct: &str| Proxies {
            secure,
            plain,
            direct: direct.to_owned(),
        };
        assert!(!proxies(false, false, "").serve("r.example", true));
        assert!(!proxies(false, true, "").serve("r.example", false));
        assert!(proxies(false, true, "").serve("r.example", true));
        assert!(proxies(true, false, "").serve("r.example", true));
        assert!(!proxies(true, true, "x.example, *").serve("r.example", true));
        assert!(!proxies(true, true, "0.0.0.0/0").serve("192.0.2.1", true));
    }
}
