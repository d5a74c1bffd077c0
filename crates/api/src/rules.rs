//! What the API server refuses by itself, without webhook or controller (D22): limits and CEL rules in the CRDs, for
//! everything about an object that needs no other object. [`crate::admission`] checks all of it again, and more.
//!
//! The API server estimates the cost of a rule before it accepts the CRD, as if every text were as long as `maxLength`
//! allows, and knows nothing of the length of what `split` and `findAll` return. So only O(1) functions (`size`, `int`,
//! an index) are used on parts of a text, and one that must be looked at again is cut out of the whole text anew.

use serde_json::{Map, Value, json};

/// The longest `address` and `exclude`, in characters: some 150 ranges.
const LONGEST: u32 = 4096;
/// So many parts are looked at one by one; what comes after them is left to the webhook.
const PARTS: u32 = 128;
/// The highest AS number (RFC 6793).
const HIGHEST_ASN: u32 = u32::MAX;

/// Adds limits and rules to the schema of the stored version of a kind.
pub(crate) fn add(kind: &str, schema: &mut Value) {
    match kind {
        "Eip" => pool(schema),
        "BgpConf" => bgp_conf(schema),
        "BgpPeer" => bgp_peer(schema),
        _ => {}
    }
}

fn pool(schema: &mut Value) {
    // compat §1: the schema does not require `spec`; OpenELB's webhook refused a pool without address.
    rule(schema, "", "has(self.spec)", "spec is missing; write the addresses of the pool to spec.address");
    for field in ["spec/address", "spec/exclude"] {
        limit(schema, field, "maxLength", LONGEST);
        for (check, message) in addresses(field == "spec/exclude") {
            rule(schema, field, &check, &format!("invalid eip address format: {message}"));
        }
    }
    limit(schema, "spec/interface", "maxLength", 256);
    rule(
        schema,
        "spec/interface",
        r"self.trim() == '' || self.matches(r'^\s*[^\s/,:]{1,15}(\s*,\s*[^\s/,:]{1,15})*\s*$') || (self.trim().startsWith('can_reach:') && isIP(self.trim().substring(10).trim()))",
        "must be interface names joined by commas, or can_reach:<address> (now only support can_reach)",
    );
    rule(
        schema,
        "spec",
        "!has(self.protocol) || self.protocol == 'bgp' || (has(self.interface) && self.interface.trim() != '')",
        "spec.interface: if protocol is layer2 or vip, interface should not be empty; name the NIC that faces the network, or write can_reach:<address of the gateway>",
    );
    selector(schema, "spec/nodeSelector");
    for (field, least, highest) in [
        ("bgp/localPref", 0, u32::MAX),
        ("bgp/med", 0, u32::MAX),
        ("bgp/asPathPrepend", 0, 10),
        ("bgp/aggregationLength", 1, 32),
        ("bgp/aggregationLengthV6", 1, 128),
        ("vrrp/version", 2, 3),
        ("vrrp/advertisementInterval", 10, 40_950),
        ("vrrp/priority", 1, 254),
    ] {
        within(schema, &format!("spec/{field}"), least, highest);
    }
}

fn bgp_conf(schema: &mut Value) {
    for field in ["spec/as", "spec/asPerRack/*"] {
        asn(schema, field);
    }
    limit(schema, "spec/listenPort", "maximum", 65535);
    limit(schema, "spec/routerId", "maxLength", 64);
    rule(
        schema,
        "spec/routerId",
        "self == '' || (isIP(self) && ip(self).family() == 4)",
        "must be four numbers such as 192.0.2.1; leave it out to use the node's address",
    );
    limit(schema, "spec/listenAddresses", "maxItems", 64);
    limit(schema, "spec/listenAddresses/*", "maxLength", 64);
    rule(schema, "spec/listenAddresses/*", "isIP(self)", "must be an IP address");
}

fn bgp_peer(schema: &mut Value) {
    for field in ["peerAs", "localAs"] {
        asn(schema, &format!("spec/conf/{field}"));
    }
    for field in ["neighborAddress", "neighborInterface", "neighborRange", "removePrivateAs"] {
        limit(schema, &format!("spec/conf/{field}"), "maxLength", 64);
    }
    rule(schema, "", "has(self.spec)", "spec is missing; write the router's address to spec.conf.neighborAddress");
    // D17: without it every speaker of OpenELB crashes.
    rule(
        schema,
        "spec",
        "has(self.conf) && ((has(self.conf.neighborAddress) && self.conf.neighborAddress != '') || (has(self.conf.neighborInterface) && self.conf.neighborInterface != '') || (has(self.conf.neighborRange) && self.conf.neighborRange != ''))",
        "spec.conf.neighborAddress: the router's address is missing; write neighborAddress, neighborInterface for an unnumbered router, or neighborRange for routers that connect by themselves",
    );
    rule(schema, "spec/conf/neighborAddress", "self == '' || isIP(self)", "must be an IP address");
    rule(schema, "spec/conf/neighborRange", "self == '' || isCIDR(self)", "must be a network such as 192.0.2.0/24");
    rule(schema, "spec/nextHopMode", "self in ['', 'Node', 'OpenELB']", "must be one of Node, OpenELB");
    limit(schema, "spec/nextHopMode", "maxLength", 16);
    rule(
        schema,
        "spec/conf/removePrivateAs",
        "self in ['', 'NONE', 'ALL', 'REPLACE']",
        "must be one of NONE, ALL, REPLACE",
    );
    for field in ["localAddress", "bindInterface"] {
        limit(schema, &format!("spec/transport/{field}"), "maxLength", 64);
    }
    rule(schema, "spec/transport/localAddress", "self == '' || isIP(self)", "must be an IP address");
    rule(
        schema,
        "spec",
        "!(has(self.ttlSecurity) && has(self.ttlSecurity.enabled) && self.ttlSecurity.enabled && has(self.ebgpMultihop) && has(self.ebgpMultihop.enabled) && self.ebgpMultihop.enabled)",
        "spec.ttlSecurity: cannot be used together with ebgpMultihop; lower ttlMin by the hops instead",
    );
    for (field, highest) in
        [("spec/ebgpMultihop/multihopTtl", 255), ("spec/ttlSecurity/ttlMin", 255), ("spec/transport/remotePort", 65535)]
    {
        within(schema, field, 0, highest);
    }
    for (field, least, highest) in [
        ("receiveInterval", 10, 60_000),
        ("transmitInterval", 10, 60_000),
        ("detectMultiplier", 1, 255),
        ("minimumTTL", 1, 255),
        ("keyId", 0, 255),
    ] {
        within(schema, &format!("spec/bfd/{field}"), least, highest);
    }
    limit(schema, "spec/bfd/authentication", "maxLength", 32);
    rule(
        schema,
        "spec/bfd/authentication",
        "self in ['', 'Password', 'KeyedSHA1', 'MeticulousKeyedSHA1']",
        "must be one of Password, KeyedSHA1, MeticulousKeyedSHA1",
    );
    for field in ["connectRetry", "holdTime", "keepaliveInterval", "minimumAdvertisementInterval"] {
        let field = format!("spec/timers/config/{field}");
        limit(schema, &field, "maxLength", 10);
        rule(schema, &field, "self.matches('^[0-9]*$')", "must be a number of seconds as text, such as \"90\"");
    }
    // compat §1.4: the whole selector is one value for server-side apply.
    if let Some(node) = at(schema, "spec/nodeSelector") {
        node.insert("x-kubernetes-map-type".to_owned(), json!("atomic"));
    }
    selector(schema, "spec/nodeSelector");
}

fn asn(schema: &mut Value, field: &str) {
    limit(schema, field, "minimum", 0);
    limit(schema, field, "maximum", HIGHEST_ASN);
}

fn selector(schema: &mut Value, field: &str) {
    let expressions = format!("{field}/matchExpressions");
    limit(schema, &expressions, "maxItems", 64);
    limit(schema, &format!("{expressions}/*/operator"), "maxLength", 16);
    rule(
        schema,
        &format!("{expressions}/*"),
        "self.operator in ['In', 'NotIn', 'Exists', 'DoesNotExist']",
        "operator must be one of In, NotIn, Exists, DoesNotExist",
    );
    rule(
        schema,
        &format!("{expressions}/*"),
        "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
        "operators In and NotIn need values, Exists and DoesNotExist take none",
    );
}

/// Rules for the text that [`crate::AddressSet`] reads. CEL knows no order of IPv6 addresses: that an IPv6 range is
/// reversed is said by the webhook and by the controller.
fn addresses(may_be_empty: bool) -> [(String, &'static str); 4] {
    const OCTET: &str = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
    let v4 = format!(r"{OCTET}(\.{OCTET}){{3}}");
    let v6 = ipv6();
    let part =
        format!(r"{v4}/(3[0-2]|[12]?[0-9])|({v6})/(12[0-8]|1[01][0-9]|[1-9]?[0-9])|({v4}|{v6})(\s*-\s*({v4}|{v6}))?");
    let unless = if may_be_empty { r"self.trim() == '' || " } else { "" };
    // The numbers of an address, as one number, among the eight of a range.
    let number = |first: usize| {
        let octet = |i: usize| format!("int(o[{}])", first + i);
        format!("{} * 16777216 + {} * 65536 + {} * 256 + {}", octet(0), octet(1), octet(2), octet(3))
    };
    const RANGE: &str = r"[0-9]{1,3}(\.[0-9]{1,3}){3}\s*-\s*[0-9]{1,3}(\.[0-9]{1,3}){3}";
    let cut_out = "self.substring(self.indexOf(p), self.indexOf(p) + p.size())";
    [
        (
            format!(r"{unless}!self.matches(r'(^|,)\s*(,|$)')"),
            "an address is missing; write an address, a CIDR, a range first-last, or several joined by commas",
        ),
        (
            format!(r"self.matches(r'(^|,)\s*(,|$)') || self.matches(r'^(\s*({part})\s*(,|$))+$')"),
            "each part must be an address, a CIDR or a range first-last",
        ),
        (
            r"!self.matches(r'(^|,)[^,:]*-[^,]*:') && !self.matches(r':[^,-]*-[^,:]*(,|$)')".to_owned(),
            "a range mixes IPv4 and IPv6; write one range for each",
        ),
        (
            format!(
                r"self.split(',', {PARTS}).all(p, !{cut_out}.matches(r'^\s*{RANGE}\s*$') || [{cut_out}.findAll('[0-9]+')].all(o, {} <= {}))",
                number(0),
                number(4)
            ),
            "a range is reversed; write the lower address first",
        ),
    ]
}

/// IPv6 addresses without dotted ends (RFC 4291 §2.2): eight groups, or fewer around a double colon.
fn ipv6() -> String {
    let group = "[0-9a-fA-F]{1,4}";
    let mut forms = vec![
        format!("({group}:){{7}}{group}"),
        format!("({group}:){{1,7}}:"),
        format!(":(:{group}){{1,7}}"),
        "::".to_owned(),
    ];
    forms.extend((1..=6).map(|before| format!("({group}:){{1,{before}}}(:{group}){{1,{}}}", 7 - before)));
    format!("({})", forms.join("|"))
}

/// The schema of a field; `*` are the elements of a list or the values of a map.
fn at<'a>(schema: &'a mut Value, path: &str) -> Option<&'a mut Map<String, Value>> {
    let step = |schema: &'a mut Value, name: &str| match name {
        "*" if schema.get("items").is_some() => schema.get_mut("items"),
        "*" => schema.get_mut("additionalProperties"),
        name => schema.get_mut("properties")?.get_mut(name),
    };
    path.split('/').filter(|step| !step.is_empty()).try_fold(schema, step)?.as_object_mut()
}

fn limit(schema: &mut Value, path: &str, key: &str, value: u32) {
    if let Some(node) = at(schema, path) {
        node.insert(key.to_owned(), json!(value));
    }
}

fn within(schema: &mut Value, path: &str, least: u32, highest: u32) {
    limit(schema, path, "minimum", least);
    limit(schema, path, "maximum", highest);
}

fn rule(schema: &mut Value, path: &str, check: &str, message: &str) {
    let Some(node) = at(schema, path) else { return };
    if let Some(rules) = node.entry("x-kubernetes-validations").or_insert_with(|| json!([])).as_array_mut() {
        rules.push(json!({"rule": check, "message": message}));
    }
}
