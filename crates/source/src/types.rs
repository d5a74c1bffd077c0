//! What is read and what is written.

use api::bgp_conf::NodeConfStatus;
use api::bgp_peer::NodePeerStatus;
use api::{
    BgpConf, BgpPeer, Condition, Eip, EipStatus, EndpointSlice, Node, Ownership, Scope, Service, ServiceKey, SliceKey,
    Speaker, SpeakerStatus,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Which objects a reader wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interest {
    /// Which Services are ours.
    pub scope: Scope,
    /// Where oxelb itself runs: the namespace of the Secret `memberlist`.
    pub namespace: String,
    /// Namespaces with their labels.
    pub namespaces: bool,
    /// Nodes.
    pub nodes: bool,
    /// EndpointSlices of the Services that the reader names as it goes.
    pub slices: bool,
    /// What the speakers say.
    pub speakers: bool,
    /// The key that authenticates speakers.
    pub memberlist: bool,
    /// The acceptors, and what an operator wants moved.
    pub ownership: bool,
    /// How BGP runs, and with whom.
    pub bgp: bool,
    /// What may be said by BGP, and the passwords for it.
    pub policies: bool,
}

/// What was read.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// An object appeared, changed or went away.
    Change(Change),
    /// Everything that there was at the start has been read. Comes once.
    Synced,
    /// Whether the place where objects come from can be read now; with the reason when not.
    Reachable(Result<(), String>),
    /// All EndpointSlices of this Service, which the reader needs, have been read: those that came before this are all
    /// that it has. Comes again after it was not needed for a while.
    SlicesRead(ServiceKey),
    /// A file of the folder cannot be understood; what it last said well stays. Never comes from a cluster.
    Broken {
        /// Its name in the folder.
        file: String,
        /// What is wrong, with the line where it is known; `None` when the file is good again or gone.
        message: Option<String>,
    },
}

/// A change of one object. What is gone while a watch was interrupted comes as `Delete` too.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It is new or different.
    Apply(Object),
    /// It is gone, or not of interest any more.
    Delete(ObjectRef),
}

/// An object, reduced to what oxelb reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Object {
    /// A pool as written, without managed fields and resource version; it may be invalid.
    Pool(Box<Eip>),
    /// A Service that is or was ours.
    Service(Arc<Service>),
    /// A Node.
    Node(Node),
    /// An EndpointSlice.
    Slice(EndpointSlice),
    /// A Namespace.
    Namespace(Namespace),
    /// A Speaker, without managed fields and resource version.
    Speaker(Box<Speaker>),
    /// The keys that authenticate speakers, the current one first. Never empty.
    Memberlist(Vec<Vec<u8>>),
    /// The ConfigMap `oxelb-ownership`, or why it cannot be understood.
    Ownership(Result<Ownership, String>),
    /// The BgpConf that counts, without managed fields, resource version and status; it may be invalid.
    BgpConf(Box<BgpConf>),
    /// A BgpPeer, likewise.
    BgpPeer(Box<BgpPeer>),
    /// A ConfigMap with a policy for BGP.
    Policy(Policy),
    /// The passwords of the Secret `bgp-passwords`, by BgpPeer.
    Passwords(BTreeMap<String, String>),
}

/// A ConfigMap with a policy for BGP, as written; it may be invalid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// What its key `gobgp.conf` says.
    pub text: String,
}

/// A Namespace and its labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectRef {
    /// An Eip.
    Pool(String),
    /// A Service.
    Service(ServiceKey),
    /// A Node.
    Node(String),
    /// An EndpointSlice.
    Slice(SliceKey),
    /// A Namespace.
    Namespace(String),
    /// A Speaker.
    Speaker(String),
    /// The Secret `memberlist`.
    Memberlist,
    /// The ConfigMap `oxelb-ownership`.
    Ownership,
    /// A BgpConf.
    BgpConf(String),
    /// A BgpPeer.
    BgpPeer(String),
    /// A ConfigMap with a policy for BGP.
    Policy(String),
    /// The Secret `bgp-passwords`.
    Passwords,
}

impl Object {
    /// Whether OpenELB left a finalizer on a pool, a BgpConf or a BgpPeer, without whose removal it cannot be deleted.
    pub fn has_legacy_finalizer(&self) -> bool {
        let (metadata, ours) = match self {
            Object::Pool(eip) => (&eip.metadata, api::keys::LEGACY_POOL_FINALIZER),
            Object::BgpConf(conf) => (&conf.metadata, api::keys::LEGACY_BGP_FINALIZER),
            Object::BgpPeer(peer) => (&peer.metadata, api::keys::LEGACY_BGP_FINALIZER),
            _ => return false,
        };
        metadata.finalizers.iter().flatten().any(|f| f == ours)
    }

    /// Whether a BgpConf or a BgpPeer is deleted, and kept only by a finalizer of OpenELB: it says nothing any more.
    pub fn being_deleted(&self) -> bool {
        match self {
            Object::BgpConf(conf) => conf.metadata.deletion_timestamp.is_some(),
            Object::BgpPeer(peer) => peer.metadata.deletion_timestamp.is_some(),
            _ => false,
        }
    }

    /// Which object this is.
    pub fn reference(&self) -> ObjectRef {
        match self {
            Object::Pool(o) => ObjectRef::Pool(o.metadata.name.clone().unwrap_or_default()),
            Object::Service(o) => ObjectRef::Service(o.key.clone()),
            Object::Node(o) => ObjectRef::Node(o.name.clone()),
            Object::Slice(o) => ObjectRef::Slice(o.key.clone()),
            Object::Namespace(o) => ObjectRef::Namespace(o.name.clone()),
            Object::Speaker(o) => ObjectRef::Speaker(o.metadata.name.clone().unwrap_or_default()),
            Object::Memberlist(_) => ObjectRef::Memberlist,
            Object::Ownership(_) => ObjectRef::Ownership,
            Object::BgpConf(o) => ObjectRef::BgpConf(o.metadata.name.clone().unwrap_or_default()),
            Object::BgpPeer(o) => ObjectRef::BgpPeer(o.metadata.name.clone().unwrap_or_default()),
            Object::Policy(o) => ObjectRef::Policy(o.name.clone()),
            Object::Passwords(_) => ObjectRef::Passwords,
        }
    }
}

/// A write. Each is one request, and changes only what is named.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Addresses, label and conditions of a Service.
    Service(ServicePatch),
    /// The whole status of a pool. Conditions without a transition time change now.
    PoolStatus {
        /// The Eip's name.
        name: String,
        /// Its new status.
        status: Box<EipStatus>,
    },
    /// Remove the finalizer that OpenELB left on a pool, a BgpConf or a BgpPeer.
    Finalizer {
        /// On which; nothing happens to others.
        of: ObjectRef,
    },
    /// Make the Secret `memberlist` with this key, unless there is one.
    Memberlist {
        /// The key.
        key: Vec<u8>,
    },
    /// The ConfigMap `oxelb-ownership`, which is made when it is missing; [`WriteError::Conflict`] when it is not what
    /// was read any more.
    Ownership {
        /// What was read; `None` when there was none.
        read: Option<Box<Ownership>>,
        /// What it is to say.
        write: Box<Ownership>,
    },
    /// Whether a node's speaker is alive, said by others. The node itself replaces it with its next word.
    SpeakerAlive {
        /// The node.
        node: String,
        /// The condition `Alive`.
        condition: Box<Condition>,
    },
    /// A node is gone for good: delete its Speaker.
    SpeakerGone {
        /// The node.
        node: String,
    },
    /// The status of this node's Speaker, which is made when it is missing. Conditions without a transition time change
    /// now.
    Speaker {
        /// The node's name.
        node: String,
        /// Its new status.
        status: Box<SpeakerStatus>,
    },
    /// What a node uses of the BgpConf: its entry in the status, which is its own; `None` removes it.
    BgpConfStatus {
        /// The node's name.
        node: String,
        /// What it says.
        status: Option<Box<NodeConfStatus>>,
    },
    /// What a node says of a BgpPeer: its entry in the status, which is its own; `None` removes it.
    BgpPeerStatus {
        /// The BgpPeer's name.
        peer: String,
        /// The node's name.
        node: String,
        /// What it says.
        status: Option<Box<NodePeerStatus>>,
    },
    /// A node is gone for good: remove what it said of a BgpConf or a BgpPeer, whoever wrote that.
    BgpEntryGone {
        /// Of which; nothing happens to others.
        of: ObjectRef,
        /// The node's name.
        node: String,
    },
    /// An event that users see in `kubectl describe`. In a folder it is only logged.
    Event {
        /// About which object: an Eip or a Service.
        about: ObjectRef,
        /// Its UID, when known.
        uid: String,
        /// `OpenELBController`, …: who says so (compat §2.6).
        component: &'static str,
        /// Something went wrong.
        warning: bool,
        /// As OpenELB had it (compat §2.6).
        reason: &'static str,
        /// In plain words.
        message: String,
    },
}

/// What is to be changed on one Service, in one atomic request. It fails with [`WriteError::Conflict`] when the
/// Service is not the version that was read any more, so that no write rests on a stale view.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ServicePatch {
    /// Which Service.
    pub key: ServiceKey,
    /// The version that was read.
    pub resource_version: String,
    /// The whole of `status.loadBalancer.ingress`, with `ipMode: VIP`; `None` leaves it alone.
    pub ingress: Option<Vec<IpAddr>>,
    /// The pool label: `Some(None)` removes it; `None` leaves it alone.
    pub pool_label: Option<Option<String>>,
    /// Conditions to set, by type; others stay. One without a transition time changes now
    /// ([`ServicePatch::set_condition`]).
    pub conditions: Vec<Condition>,
    /// Types of conditions to remove.
    pub remove_conditions: Vec<String>,
    /// Remove OpenELB's finalizer.
    pub remove_finalizer: bool,
}

impl ServicePatch {
    /// A patch of the Service as it was read, that changes nothing yet.
    pub fn of(service: &Service) -> ServicePatch {
        let resource_version = service.resource_version.clone();
        ServicePatch { key: service.key.clone(), resource_version, ..ServicePatch::default() }
    }

    /// Sets a condition; while its status stays what `service` has, it keeps its transition time.
    pub fn set_condition(&mut self, service: &Service, condition: Condition) {
        let before = service.condition(&condition.type_);
        self.conditions.push(condition.stamped(before, ""));
    }
}

/// Why a write did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The object has changed since it was read; the change is on its way.
    #[error("it has changed since it was read")]
    Conflict,
    /// The object is gone.
    #[error("it is gone")]
    Gone,
    /// Not now: the API server cannot be reached, is overloaded, or an answer did not come. Try again.
    #[error("the API server did not take it: {0}")]
    Unavailable(String),
    /// Not so: forbidden or invalid. Trying again does not help until somebody changes something.
    #[error("the API server refused it: {0}")]
    Refused(String),
}

impl fmt::Display for ObjectRef {
    /// The kind, and the name as `kubectl` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObjectRef::Pool(name) => write!(f, "Eip {name}"),
            ObjectRef::Service(key) => write!(f, "Service {key}"),
            ObjectRef::Node(name) => write!(f, "Node {name}"),
            ObjectRef::Slice(key) => write!(f, "EndpointSlice {key}"),
            ObjectRef::Namespace(name) => write!(f, "Namespace {name}"),
            ObjectRef::Speaker(name) => write!(f, "Speaker {name}"),
            ObjectRef::Memberlist => f.write_str("Secret memberlist"),
            ObjectRef::Ownership => f.write_str("ConfigMap oxelb-ownership"),
            ObjectRef::BgpConf(name) => write!(f, "BgpConf {name}"),
            ObjectRef::BgpPeer(name) => write!(f, "BgpPeer {name}"),
            ObjectRef::Policy(name) => write!(f, "ConfigMap {name}"),
            ObjectRef::Passwords => f.write_str("Secret bgp-passwords"),
        }
    }
}
