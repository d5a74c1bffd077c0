//! BGP-4 (RFC 4271 and its family): codec, session, routes out.

mod community;
mod prefix;
mod types;
pub mod wire;

pub use community::{Community, ExtendedCommunity, InvalidCommunity, LargeCommunity};
pub use prefix::{AfiSafi, Family, InvalidPrefix, Nlri, Prefix};
pub use types::{Asn, HoldTime, InvalidNumber, RouterId};
