//! The resources and keys of oxelb and OpenELB: as users write them ([`eip`], [`bgp_conf`], [`bgp_peer`], [`speaker`])
//! and as the rest of oxelb reads them ([`pool`], [`service`], [`node`], [`endpoints`]): small, parsed once, unable to
//! be wrong.

pub mod address;
pub mod condition;
pub mod eip;
pub mod endpoints;
pub mod keys;
pub mod node;
pub mod pool;
pub mod selector;
pub mod service;
pub mod speaker;

pub use address::{AddressSet, Family, InvalidAddresses, Range};
pub use condition::Condition;
pub use eip::{Eip, EipSpec, EipStatus};
pub use endpoints::{EndpointSlice, SliceKey};
pub use node::Node;
pub use pool::{InvalidPool, Pool, Protocol, Sharing};
pub use selector::Selector;
pub use service::{Scope, Service, ServiceKey};
pub use speaker::{Speaker, SpeakerSpec, SpeakerStatus};
