//! Every annotation, label, finalizer and well-known name (compat §2.1, §13).

/// Annotation on a Service: the opt-in, with the value [`OPT_IN_VALUE`].
pub const OPT_IN: &str = "lb.kubesphere.io/v1alpha1";
/// The one value of [`OPT_IN`] that counts.
pub const OPT_IN_VALUE: &str = "openelb";
/// Annotation on a Service: the pool that the user wants. Label on a Service: the pool that it has.
pub const POOL: &str = "eip.openelb.kubesphere.io/v1alpha2";
/// Annotation on a Service: the address that the user wants; before `spec.loadBalancerIP`.
pub const ADDRESS: &str = "eip.openelb.kubesphere.io/v1alpha1";
/// Annotation on a Service: protocol, read by OpenELB before 0.6 only. The pool decides.
pub const PROTOCOL: &str = "protocol.openelb.kubesphere.io/v1alpha1";
/// Annotation on an Eip: the cluster's default pool, with the value `true`.
pub const DEFAULT_POOL: &str = "eip.openelb.kubesphere.io/is-default-eip";
/// Annotation on an Eip: delete it although Services use it, with the value `true`.
pub const FORCE_DELETE: &str = "openelb.io/force-delete";
/// `spec.loadBalancerClass` of Services that are ours without an annotation.
pub const CLASS: &str = "openelb.io/oxelb";
/// Annotation on a Service: NodeProxy mode, which bypasses addresses and speakers (compat §7).
pub const NODE_PROXY: &str = "node-proxy.openelb.kubesphere.io/type";

/// Finalizer that OpenELB put on Services; we only remove it.
pub const LEGACY_SERVICE_FINALIZER: &str = "finalizer.lb.kubesphere.io/v1alpha1";
/// Finalizer that OpenELB put on Eips; we only remove it.
pub const LEGACY_POOL_FINALIZER: &str = "finalizer.ipam.kubesphere.io/v1alpha1";
/// OpenELB's finalizer on BgpConfs and BgpPeers.
pub const LEGACY_BGP_FINALIZER: &str = "finalizer.lb.kubesphere.io/v1alpha1";

/// Label on a Node: keep load balancers off it.
pub const EXCLUDE_NODE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// Annotation on a Node: with the value `true` its addresses are handed over to other nodes, while there are any.
pub const DRAIN: &str = "oxelb.io/drain";
/// Annotation on a Node: how many addresses it is to own in relation to others, 1 to 1000; 100 where nothing is said.
pub const WEIGHT: &str = "oxelb.io/weight";
/// Label on a Node: its rack, by which BgpConf gives AS numbers.
pub const RACK: &str = "openelb.kubesphere.io/rack";
/// The one BgpConf that counts.
pub const BGP_CONF: &str = "default";
/// Label on an EndpointSlice: the name of its Service.
pub const SLICE_SERVICE: &str = "kubernetes.io/service-name";

/// Condition on a Service: it has the addresses that it asked for, or why not.
pub const ADDRESS_ASSIGNED: &str = "openelb.io/AddressAssigned";
/// Condition on a Service: some node announces its addresses, or why none does.
pub const ANNOUNCED: &str = "openelb.io/Announced";

/// The namespace of everything that oxelb runs, unless `OPENELB_NAMESPACE` says otherwise.
pub const NAMESPACE: &str = "openelb-system";
/// The Secret, and its key, that authenticates speakers to each other.
pub const MEMBERLIST_SECRET: &str = "memberlist";
/// The key in [`MEMBERLIST_SECRET`].
pub const MEMBERLIST_KEY: &str = "key";
/// The ConfigMap that names the acceptors, whose grants make an owner, and what an operator wants moved.
pub const OWNERSHIP: &str = "oxelb-ownership";
/// The Lease that the leading controller holds.
pub const CONTROLLER_LEASE: &str = "openelb-controller";

/// The Secret with passwords of BGP sessions, each under the name of its BgpPeer.
pub const BGP_PASSWORDS: &str = "bgp-passwords";
/// What follows the name of a BgpPeer there for its key of BFD.
pub const BFD_KEY: &str = ".bfd";

/// The key of a ConfigMap that has a policy for BGP (compat §5.6).
pub const POLICY_FILE: &str = "gobgp.conf";
