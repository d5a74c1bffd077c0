use super::*;
use crate::wire::{AsPath, Attributes};
use proptest::prelude::*;

/// As OpenELB's documents and issues have them.
const SETS: &str = r#"
[[defined-sets.prefix-sets]]
prefix-set-name = "ps1"
[[defined-sets.prefix-sets.prefix-list]]
ip-prefix = "172.22.0.0/24"
masklength-range = "24..32"
[[defined-sets.neighbor-sets]]
neighbor-set-name = "ns1"
neighbor-info-list = ["192.168.0.5", "fd00::/64"]
[[defined-sets.bgp-defined-sets.community-sets]]
community-set-name = "cs1"
community-list = ["65000:1", "65000:2"]
[[defined-sets.bgp-defined-sets.as-path-sets]]
as-path-set-name = "as1"
as-path-list = ["^65000_"]
"#;

fn file(statement: &str, default: &str) -> String {
    format!(
        "{SETS}\n[global.apply-policy.config]\nexport-policy-list = [\"p\"]\ndefault-export-policy = \"{default}\"\n\
         [[policy-definitions]]\nname = \"p\"\n[[policy-definitions.statements]]\nname = \"s\"\n{statement}"
    )
}

fn policy(statement: &str, default: &str) -> Policy {
    file(statement, default).parse().unwrap()
}

const TO: To =
    To { neighbor: IpAddr::V4(Ipv4Addr::new(192, 168, 0, 5)), next_hops: (Some(Ipv4Addr::new(10, 0, 0, 1)), None) };

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn told(policy: &Policy, to: &str, of: &str, path: &Path) -> Option<Path> {
    policy.export(To { neighbor: to.parse().unwrap(), ..TO }, prefix(of), path)
}

fn with(communities: &[&str], as_path: &[u32]) -> Path {
    let attributes = Attributes {
        communities: communities.iter().map(|c| c.parse().unwrap()).collect(),
        as_path: AsPath::sequence(as_path.iter().map(|n| Asn::new(*n).unwrap())),
        ..Attributes::default()
    };
    Path { attributes, next_hop: None }
}

#[test]
fn without_statements_the_default_decides() {
    let path = Path::default();
    let decides = |text: &str| text.parse::<Policy>().unwrap().export(TO, prefix("172.22.0.2/32"), &path).is_some();
    assert!(decides(""));
    assert!(!decides("[global.apply-policy.config]\ndefault-export-policy = \"reject-route\""));
}

#[test]
fn a_prefix_for_one_router_only() {
    let only = policy(
        "[policy-definitions.statements.conditions.match-prefix-set]\nprefix-set = \"ps1\"\n\
         [policy-definitions.statements.conditions.match-neighbor-set]\nneighbor-set = \"ns1\"\n\
         [policy-definitions.statements.actions]\nroute-disposition = \"accept-route\"\n",
        "reject-route",
    );
    let goes = |to, of| told(&only, to, of, &Path::default()).is_some();
    assert!(goes("192.168.0.5", "172.22.0.2/32") && goes("fd00::9", "172.22.0.0/24"));
    assert!(!goes("192.168.0.6", "172.22.0.2/32"), "another router");
    assert!(!goes("192.168.0.5", "172.22.1.2/32") && !goes("192.168.0.5", "172.22.0.0/16"), "another prefix");
}

#[test]
fn sets_match_any_all_or_none() {
    let by = |options: &str| {
        policy(
            &format!(
                "[policy-definitions.statements.conditions.bgp-conditions.match-community-set]\ncommunity-set = \"cs1\"\n\
                 match-set-options = \"{options}\"\n[policy-definitions.statements.actions]\nroute-disposition = \"accept-route\"\n"
            ),
            "reject-route",
        )
    };
    let goes = |options: &str, communities: &[&str]| {
        told(&by(options), "10.0.0.9", "10.9.0.1/32", &with(communities, &[])).is_some()
    };
    let (one, both, none): (&[&str], &[&str], &[&str]) = (&["65000:1"], &["65000:1", "65000:2"], &["65000:3"]);
    assert_eq!([one, both, none].map(|c| goes("any", c)), [true, true, false]);
    assert_eq!([one, both, none].map(|c| goes("all", c)), [false, true, false]);
    assert_eq!([one, both, none].map(|c| goes("invert", c)), [false, false, true]);
}

#[test]
fn actions_change_what_is_said_and_without_a_verdict_the_default_still_decides() {
    let statement = "[policy-definitions.statements.actions.bgp-actions]\nset-med = \"+5\"\nset-local-pref = 300\nset-next-hop = \"10.0.0.99\"\n\
         [policy-definitions.statements.actions.bgp-actions.set-as-path-prepend]\nas = \"65005\"\nrepeat-n = 2\n\
         [policy-definitions.statements.actions.bgp-actions.set-community]\noptions = \"ADD\"\n\
         [policy-definitions.statements.actions.bgp-actions.set-community.set-community-method]\ncommunities-list = [\"65000:9\", \"no-export\"]\n";
    let path = Path { attributes: Attributes { med: Some(10), ..with(&["65000:1"], &[]).attributes }, next_hop: None };
    let said = told(&policy(statement, "accept-route"), "10.0.0.9", "10.9.0.1/32", &path).unwrap();
    let a = &said.attributes;
    assert_eq!((a.med, a.local_pref, a.as_path.hops(), a.communities.len()), (Some(15), Some(300), 2, 3));
    assert_eq!(said.next_hop, Some(NextHop::V4(Ipv4Addr::new(10, 0, 0, 99))));
    assert_eq!(told(&policy(statement, "reject-route"), "10.0.0.9", "10.9.0.1/32", &path), None);
}

#[test]
fn communities_are_removed_and_replaced() {
    let set = |options: &str| {
        format!(
            "[policy-definitions.statements.actions.bgp-actions.set-community]\noptions = \"{options}\"\n\
             [policy-definitions.statements.actions.bgp-actions.set-community.set-community-method]\ncommunities-list = [\"65000:1\"]\n"
        )
    };
    let left = |options: &str| {
        let policy = policy(&set(options), "accept-route");
        let said = told(&policy, "10.0.0.9", "10.9.0.1/32", &with(&["65000:1", "65000:2"], &[])).unwrap();
        said.attributes.communities.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(left("remove"), ["65000:2"]);
    assert_eq!(left("replace"), ["65000:1"]);
}

#[test]
fn paths_are_known_by_their_first_as_and_their_length() {
    let condition = |text: &str| {
        policy(
            &format!(
                "[policy-definitions.statements.conditions.bgp-conditions{text}\n[policy-definitions.statements.actions]\nroute-disposition = \"accept-route\"\n"
            ),
            "reject-route",
        )
    };
    let goes = |policy: &Policy, path: &[u32]| told(policy, "10.0.0.9", "10.9.0.1/32", &with(&[], path)).is_some();
    let first = condition(".match-as-path-set]\nas-path-set = \"as1\"");
    assert!(goes(&first, &[65000, 1]) && !goes(&first, &[1, 65000]) && !goes(&first, &[]));
    let long = condition(".as-path-length]\noperator = \"ge\"\nvalue = 2");
    assert!(goes(&long, &[1, 2]) && !goes(&long, &[1]));
    assert!(
        goes(&condition("]\nroute-type = \"local\""), &[]) && !goes(&condition("]\nroute-type = \"external\""), &[])
    );
    let family = condition("]\nafi-safi-in-list = [\"ipv6-unicast\"]");
    assert!(!goes(&family, &[]) && told(&family, "10.0.0.9", "fd00::1/128", &Path::default()).is_some());
    let hop = condition("]\nnext-hop-in-list = [\"10.0.0.0/24\"]");
    assert!(goes(&hop, &[]));
}

#[test]
fn what_is_wrong_is_named() {
    let error = |text: &str| text.parse::<Policy>().unwrap_err().to_string();
    assert!(error("nonsense").contains("TOML") || error("nonsense").contains("expected"), "{}", error("nonsense"));
    assert!(error("[global]\nsurprise = 1").contains("surprise"));
    assert!(
        error(&file(
            "[policy-definitions.statements.conditions.match-prefix-set]\nprefix-set = \"gone\"",
            "accept-route"
        ))
        .contains("\"gone\"")
    );
    assert!(error("[global.apply-policy.config]\nexport-policy-list = [\"gone\"]").contains("\"gone\""));
    assert!(
        error(&file("[policy-definitions.statements.conditions.bgp-conditions]\nmed-eq = 5", "accept-route"))
            .contains("med-eq")
    );
    assert!(
        error(&file("[policy-definitions.statements.actions]\nroute-disposition = \"maybe\"", "accept-route"))
            .contains("maybe")
    );
    assert!(error(&SETS.replace("^65000_", "^65.*")).contains("^65.*"));
    assert!(error(&SETS.replace("24..32", "24..33")).contains("24..33"));
    assert!(error(&SETS.replace("65000:2", "65000:.*")).contains("65000:.*"));
}

proptest! {
    #[test]
    fn any_text_is_a_policy_or_none(text in "[\\[\\]a-z.=\"\n 0-9-]{0,200}") {
        let _ = text.parse::<Policy>();
    }
}
