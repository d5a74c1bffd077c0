//! ROUTE-REFRESH (RFC 2918), with beginning and end (RFC 7313).

use super::error::Malformed;
use super::reader::Reader;
use crate::prefix::AfiSafi;
use serde::{Deserialize, Serialize};

/// Asks for all routes of a family again, or stands around the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Refresh {
    /// 0: send all again.
    Request,
    /// 1: all come again now (BoRR).
    Begin,
    /// 2: all have come again (EoRR); what has not is gone.
    End,
}

pub(crate) fn parse(body: &[u8]) -> Result<(AfiSafi, Option<Refresh>), Malformed> {
    let mut r = Reader(body);
    match (r.u16(), r.u8(), r.u8()) {
        (Ok(afi), Ok(subtype), Ok(safi)) if r.is_empty() => {
            let subtypes = [Refresh::Request, Refresh::Begin, Refresh::End];
            Ok((AfiSafi { afi, safi }, subtypes.get(usize::from(subtype)).copied()))
        }
        _ => Err(Malformed::RouteRefresh(super::framed(super::Kind::RouteRefresh, body))),
    }
}

pub(crate) fn emit(family: AfiSafi, refresh: Refresh, out: &mut Vec<u8>) {
    let subtype = match refresh {
        Refresh::Request => 0,
        Refresh::Begin => 1,
        Refresh::End => 2,
    };
    let [a, b] = family.afi.to_be_bytes();
    out.extend([a, b, subtype, family.safi]);
}
