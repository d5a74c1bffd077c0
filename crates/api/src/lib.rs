//! The resources and keys of oxelb and OpenELB: as users write them ([`eip`], [`bgp_conf`], [`bgp_peer`], [`speaker`])
//! and as the rest of oxelb reads them ([`pool`], [`bgp`], [`peer`], [`service`], [`node`], [`endpoints`]): small, parsed once, unable to
//! be wrong. What may be written at all is in [`admission`].

pub mod address;
pub mod admission;
pub mod bgp;
pub mod bgp_conf;
pub mod bgp_peer;
pub mod condition;
pub mod crd;
pub mod eip;
pub mod endpoints;
pub mod keys;
mod namespaced;
pub mod node;
pub mod ownership;
pub mod peer;
pub mod pool;
pub mod routes;
mod rules;
pub mod selector;
pub mod service;
pub mod speaker;
pub mod v1alpha1;
pub mod vrrp;

pub use address::{AddressSet, Family, InvalidAddresses, Range};
pub use bgp::{Bgp, Restart};
pub use bgp_conf::{BgpConf, BgpConfSpec};
pub use bgp_peer::{BgpPeer, BgpPeerSpec};
pub use condition::Condition;
pub use eip::{Eip, EipSpec, EipStatus};
pub use endpoints::{EndpointSlice, SliceKey};
pub use node::Node;
pub use ownership::{InvalidOwnership, Moves, Ownership};
pub use peer::{InvalidBgp, Peer};
pub use pool::{InvalidPool, Pool, Protocol, Sharing};
pub use routes::RouteOptions;
pub use selector::Selector;
pub use service::{Scope, Service, ServiceKey};
pub use speaker::{Speaker, SpeakerSpec, SpeakerStatus};
pub use vrrp::{VirtualRouter, Vrrp};
