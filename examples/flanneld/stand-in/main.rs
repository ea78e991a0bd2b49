//! A stand-in for flanneld, for the example image when its builder gives no real one. It keeps flanneld's contract
//! for real: flags and environment, the network configuration and a leased subnet in etcd v3, the vxlan link with its
//! address and route, `subnet.env`, READY=1. It carries nothing to the links of other hosts, and says what it is.

mod config;
mod etcd;
mod flags;
mod lease;
mod link;
mod network;
mod notify;
mod stop;
mod subnet_file;

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::config::Config;
use crate::etcd::Etcd;
use crate::flags::{Request, Settings};
use crate::lease::{Claim, Lease};
use crate::link::{Uplink, Vtep};
use crate::stop::Stop;

/// What it calls itself wherever it shows.
const WHAT: &str = concat!(
    "flanneld stand-in ",
    env!("CARGO_PKG_VERSION"),
    " (not flannel: it keeps flanneld's contract and carries no traffic to other hosts)"
);

/// Between two tries of what depends on etcd.
const RETRY: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let request = flags::parse(std::env::args().skip(1), |name| std::env::var(name).ok());
    let settings = match request {
        Ok(Request::Run(settings)) => *settings,
        Ok(Request::Version) => {
            // Nobody is left to tell when standard output is closed.
            let _ = writeln!(std::io::stdout(), "{WHAT}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            log(format_args!("error: {error:#}"));
            return ExitCode::from(2);
        }
    };
    log(WHAT);
    match run(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// A line for the journal. That it cannot be written is no reason to leave the network.
pub(crate) fn log(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Runs until a stop signal; the link and `subnet.env` stay, as flanneld leaves them.
fn run(settings: &Settings) -> Result<()> {
    let stop = Stop::listen()?;
    for note in &settings.notes {
        log(note);
    }
    let etcd = Etcd::new(settings.endpoints.clone());
    let uplink = Uplink::find(&settings.interfaces)?;
    log(format_args!(
        "using interface {} with address {}",
        uplink.name, uplink.address
    ));
    notify::send("STATUS=stand-in for flanneld: waiting for the network configuration in etcd");
    let Some(config) = wait_for_config(&etcd, settings, &stop) else {
        return Ok(());
    };
    let vtep = Vtep::ensure(&uplink, &config)?;
    let claim = Claim {
        prefix: &settings.prefix,
        public_ip: settings.public_ip.unwrap_or(uplink.address),
        vni: config.vni,
        mac: &vtep.mac,
        previous: subnet_file::read_subnet(&settings.subnet_file),
        seconds: settings.lease_seconds,
    };
    let Some(lease) = wait_for_lease(&etcd, &config, &claim, &stop)? else {
        return Ok(());
    };
    vtep.assign(lease.subnet, config.network)?;
    subnet_file::write(
        &settings.subnet_file,
        config.network,
        lease.subnet,
        vtep.mtu,
    )?;
    log(format_args!(
        "leased {}, wrote {}",
        lease.subnet,
        settings.subnet_file.display()
    ));
    notify::send(&format!(
        "READY=1\nSTATUS=stand-in for flanneld: subnet {} of {}",
        lease.subnet, config.network
    ));
    keep(&etcd, &lease, &stop)
}

/// The network configuration, as soon as etcd answers and has one; none: told to stop before that.
fn wait_for_config(etcd: &Etcd, settings: &Settings, stop: &Stop) -> Option<Config> {
    let key = format!("{}/config", settings.prefix);
    let mut said = String::new();
    loop {
        let problem = match etcd.get(&key).and_then(|entry| {
            let entry =
                entry.with_context(|| format!("waiting for somebody to put `{key}` into etcd"))?;
            Config::parse(&entry.value).with_context(|| format!("reading `{key}` of etcd"))
        }) {
            Ok(config) => return Some(config),
            Err(error) => format!("{error:#}"),
        };
        // It may last long: one line for each reason, not for each try.
        if problem != said {
            log(&problem);
            said = problem;
        }
        if stop.within(RETRY) {
            return None;
        }
    }
}

/// The lease of a subnet; etcd may be away meanwhile. None: told to stop before that.
///
/// # Errors
/// Every subnet of the network is taken.
fn wait_for_lease(
    etcd: &Etcd,
    config: &Config,
    claim: &Claim<'_>,
    stop: &Stop,
) -> Result<Option<Lease>> {
    loop {
        match lease::acquire(etcd, config, claim) {
            Ok(lease) => return Ok(Some(lease)),
            Err(error) if error.is::<lease::Exhausted>() => return Err(error),
            Err(error) => log(format_args!("{error:#}")),
        }
        if stop.within(RETRY) {
            return Ok(None);
        }
    }
}

/// Renews the lease until told to stop.
///
/// # Errors
/// The lease is gone, so that another host may take the subnet: the service's restart leases anew.
fn keep(etcd: &Etcd, lease: &Lease, stop: &Stop) -> Result<()> {
    while !stop.within(lease.renew_every()) {
        match etcd.keep_alive(lease.id) {
            Ok(true) => {}
            Ok(false) => anyhow::bail!(
                "renewing the lease of `{}`: etcd no longer knows it",
                lease.subnet
            ),
            Err(error) => log(format_args!(
                "renewing the lease of `{}`: {error:#}",
                lease.subnet
            )),
        }
    }
    log("told to stop: the link and the subnet stay");
    Ok(())
}
