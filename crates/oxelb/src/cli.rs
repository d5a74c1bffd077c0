//! The command line. Flags that OpenELB has keep their names and defaults (compat §3.6).

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// A load balancer for Kubernetes on your own machines; successor to OpenELB.
#[derive(Debug, Parser)]
#[command(name = "oxelb", version, max_term_width = 100)]
pub struct Cli {
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value = "text", env = "OXELB_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one object a line.
    Json,
}

/// How results look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Give addresses to Services. Runs once per cluster; more than one is safe.
    Controller(Controller),
    /// Announce addresses. Runs on every node.
    Speaker(Speaker),
    /// Controller and speaker in one process, on a folder of manifests.
    Standalone(Standalone),
    /// Who owns each address, since when, and what the last moves were and why.
    Owners(Owners),
    /// Give an address to another node. Nothing is lost: the node that has it releases it for the other one.
    Move(Move),
    /// Spread all addresses over the nodes anew, a few at a time. Nothing else does that, but --rebalance-daily of the
    /// controller.
    Rebalance(Rebalance),
    /// Whose grants make an owner, and whether they can.
    Acceptors(Acceptors),
    /// Find what is wrong with manifests, without a cluster. Exit code 3 means that there are errors.
    Check(Check),
    /// Remove what an uninstalled oxelb or OpenELB left on Services and pools.
    Clean(Clean),
    /// Ask the speaker of this machine what gobgp would tell: global, neighbor [ADDRESS], global rib [-a ipv4|ipv6].
    Gobgp(Gobgp),
    /// Which version this is.
    Version {
        /// How the result looks.
        #[arg(long, short, value_enum, default_value = "text")]
        output: Output,
    },
}

/// Where objects come from.
#[derive(Debug, Args)]
pub struct From {
    /// Read manifests from this folder instead of an API server; status goes to its folder `status`.
    #[arg(long, value_name = "DIR", conflicts_with = "kubeconfig", global = true)]
    pub source: Option<PathBuf>,
    /// Connect as this file says; without it as the pod's service account, or as kubectl would.
    #[arg(long, value_name = "FILE", global = true)]
    pub kubeconfig: Option<PathBuf>,
    /// The namespace that oxelb runs in.
    #[arg(long, env = "OPENELB_NAMESPACE", default_value = api::keys::NAMESPACE, global = true)]
    pub namespace: String,
    /// Also serve Services of type LoadBalancer that name no class and do not opt in. Give it to controller and
    /// speakers alike.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = clap::ArgAction::Set)]
    pub default_load_balancer: bool,
}

/// Flags of the controller.
#[derive(Debug, Args)]
pub struct Controller {
    /// Where objects come from.
    #[command(flatten)]
    pub from: From,
    /// Lead only while holding the Lease openelb-controller, so that several controllers are safe.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// How long the others wait for a silent leader.
    #[arg(long, default_value = "15s", value_parser = duration)]
    pub leader_elect_lease_duration: Duration,
    /// How long a leader tries to renew before it stops.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub leader_elect_renew_deadline: Duration,
    /// How often a leader renews, and the others look.
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub leader_elect_retry_period: Duration,
    /// Spread all addresses over the nodes anew each day at this time, as rebalance does. Without it nothing goes back
    /// by itself to a node that was away.
    #[arg(long, value_name = "HH:MM, UTC")]
    pub rebalance_daily: Option<controller::Daily>,
    /// Where metrics and probes are served; 0 serves none.
    #[arg(long, default_value = ":50052", value_parser = listen)]
    pub metrics_addr: Listen,
    /// Where the webhook is served; 0 serves none.
    #[arg(long, default_value_t = 443)]
    pub webhook_port: u16,
    /// Serve the webhook with tls.crt and tls.key from this folder instead of certificates of its own.
    #[arg(long, value_name = "DIR")]
    pub webhook_cert_dir: Option<PathBuf>,
    /// Accepted, as OpenELB does; probes are served with the metrics.
    #[arg(long, hide = true)]
    pub readiness_addr: Option<String>,
}

/// Flags of the speaker.
#[derive(Debug, Args)]
pub struct Speaker {
    /// Where objects come from.
    #[command(flatten)]
    pub from: From,
    /// The name of this node, as its Node object has it.
    #[arg(long, env = "NODE_NAME")]
    pub node_name: String,
    /// Announce pools with protocol layer2.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = clap::ArgAction::Set)]
    pub enable_layer2: bool,
    /// Announce pools with protocol vip, by VRRP of our own: there is no keepalived.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = clap::ArgAction::Set)]
    pub enable_keepalived_vip: bool,
    /// Where heartbeats are received; the default takes IPv4 and IPv6.
    #[arg(long, default_value = "::")]
    pub bind_addr: IpAddr,
    /// The UDP port of heartbeats, the same on every node.
    #[arg(long, default_value_t = 7946)]
    pub bind_port: u16,
    /// The key that speakers share, where there is no Secret memberlist.
    #[arg(long, env = "MEMBER_LIST_SECRET", hide_env_values = true)]
    pub secret: Option<String>,
    /// Where metrics and probes are served; 0 serves none.
    #[arg(long, default_value = ":50053", value_parser = listen)]
    pub metrics_addr: Listen,
    /// Keep the last snapshot here, so that a restart works without the API server.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The port by which `gobgp -p` finds this speaker; 0 answers nobody. Only processes of this machine and user are
    /// answered, and nothing listens on the network.
    #[arg(long, default_value = ":50051", value_parser = listen)]
    pub api_hosts: Listen,
    /// Accepted; there is no keepalived to give them to.
    #[arg(long, hide = true, allow_hyphen_values = true)]
    pub keepalived_args: Option<String>,
    /// Accepted; logs go to standard error.
    #[arg(long, hide = true)]
    pub log_path: Option<String>,
}

/// Flags of the two roles in one process.
#[derive(Debug, Args)]
pub struct Standalone {
    /// The folder of manifests; status goes to its folder `status`.
    #[arg(long, value_name = "DIR")]
    pub source: PathBuf,
    /// The name of this node.
    #[arg(long, env = "NODE_NAME")]
    pub node_name: String,
    /// Where metrics and probes of the speaker are served; 0 serves none.
    #[arg(long, default_value = ":50053", value_parser = listen)]
    pub metrics_addr: Listen,
}

/// Flags of `owners`.
#[derive(Debug, Args)]
pub struct Owners {
    /// Where the speakers' own words are read.
    #[command(flatten)]
    pub from: From,
    /// Ask a speaker itself, at the address of its metrics, instead of the API server: it knows what the others own.
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["source", "kubeconfig"])]
    pub ask: Option<String>,
    /// How the result looks.
    #[arg(long, short, value_enum, default_value = "text")]
    pub output: Output,
}

/// Flags of `move`.
#[derive(Debug, Args)]
pub struct Move {
    /// Where speakers are told.
    #[command(flatten)]
    pub from: From,
    /// The address.
    pub address: IpAddr,
    /// The node that is to have it.
    #[arg(long, value_name = "NODE")]
    pub to: String,
    /// How the result looks.
    #[arg(long, short, value_enum, default_value = "text")]
    pub output: Output,
}

/// Flags of `rebalance`.
#[derive(Debug, Args)]
pub struct Rebalance {
    /// Where speakers are told.
    #[command(flatten)]
    pub from: From,
    /// How the result looks.
    #[arg(long, short, value_enum, default_value = "text")]
    pub output: Output,
}

/// Flags of `acceptors`.
#[derive(Debug, Args)]
pub struct Acceptors {
    /// Where the speakers' own words are read.
    #[command(flatten)]
    pub from: From,
    /// How the result looks.
    #[arg(long, short, value_enum, default_value = "text", global = true)]
    pub output: Output,
    /// What else to do.
    #[command(subcommand)]
    pub action: Option<AcceptorsAction>,
}

/// What to do with acceptors.
#[derive(Debug, Subcommand)]
pub enum AcceptorsAction {
    /// Name other acceptors, when a majority of them is gone for good. Were they alive and only cut off, two nodes could
    /// answer for one address: make sure that they are off.
    Reset {
        /// The nodes, joined by commas; without, speakers that are ready.
        #[arg(long, value_delimiter = ',', value_name = "NODES")]
        members: Vec<String>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Flags of `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Files or folders of manifests, YAML or JSON; - is standard input. They are checked together.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Services of type LoadBalancer need not opt in, as with the controller's flag of this name.
    #[arg(long)]
    pub default_load_balancer: bool,
    /// How the result looks.
    #[arg(long, short, value_enum, default_value = "text")]
    pub output: Output,
}

/// Flags of `gobgp`, as GoBGP spells them.
#[derive(Debug, Args)]
pub struct Gobgp {
    /// The port in --api-hosts of the speaker.
    #[arg(long, short, default_value_t = 50051)]
    pub port: u16,
    /// Accepted; only the speaker of this machine is asked.
    #[arg(long, short = 'u', hide = true)]
    pub host: Option<String>,
    /// Answer for programs.
    #[arg(long, short)]
    pub json: bool,
    /// For which address family.
    #[arg(long, short)]
    pub address_family: Option<String>,
    /// What to ask.
    #[arg(required = true, value_name = "WORD")]
    pub words: Vec<String>,
}

/// Flags of `clean`.
#[derive(Debug, Args)]
pub struct Clean {
    /// Where objects come from.
    #[command(flatten)]
    pub from: From,
    /// How the result looks.
    #[arg(long, short, value_enum, default_value = "text")]
    pub output: Output,
}

/// An address to serve on, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen(pub Option<SocketAddr>);

/// `:50052` (all addresses), `127.0.0.1:50052` or `0` (nowhere).
fn listen(text: &str) -> Result<Listen, String> {
    if text == "0" || text.is_empty() {
        return Ok(Listen(None));
    }
    let whole = if let Some(port) = text.strip_prefix(':') { format!("[::]:{port}") } else { text.to_owned() };
    whole
        .parse()
        .map(|a| Listen(Some(a)))
        .map_err(|_| format!("{text:?} is not an address such as :50052 or 127.0.0.1:50052"))
}

/// `15s`, `500ms`, `2m`, as Go programs write durations.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{text:?} is not a duration such as 15s or 500ms")),
    };
    let number = digits.parse::<f64>().map_err(|_| format!("{text:?} is not a duration such as 15s or 500ms"))?;
    Duration::try_from_secs_f64(number * unit).map_err(|e| format!("{text:?}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_reset_takes_its_flags_where_people_type_them() {
        for line in ["acceptors --source d -o json reset --yes", "acceptors reset --yes --source d -o json"] {
            let words = ["oxelb"].into_iter().chain(line.split(' '));
            let Command::Acceptors(read) = Cli::try_parse_from(words).unwrap().command else { panic!("{line}") };
            assert_eq!((read.from.source, read.output), (Some("d".into()), Output::Json), "{line}");
        }
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(duration("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        for bad in ["", "s", "15", "-1s", "1d", "1e400s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn listen_addresses_are_read_as_openelb_writes_them() {
        assert_eq!(listen("0"), Ok(Listen(None)));
        assert_eq!(listen(":50052"), Ok(Listen(Some("[::]:50052".parse().unwrap()))));
        assert_eq!(listen("127.0.0.1:1"), Ok(Listen(Some("127.0.0.1:1".parse().unwrap()))));
        assert!(listen("localhost").is_err());
    }

    #[test]
    fn booleans_are_taken_alone_and_with_a_value() {
        let layer2 = |flags: &[&str]| {
            let line = ["oxelb", "speaker", "--node-name=n"].iter().chain(flags);
            match Cli::try_parse_from(line).unwrap().command {
                Command::Speaker(s) => s.enable_layer2,
                other => panic!("{other:?}"),
            }
        };
        assert!(!layer2(&[]));
        assert!(layer2(&["--enable-layer2"]));
        assert!(layer2(&["--enable-layer2=true"]));
        assert!(!layer2(&["--enable-layer2=false"]));
    }
}
