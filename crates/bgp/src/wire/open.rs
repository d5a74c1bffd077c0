//! OPEN (RFC 4271 §4.2) and capabilities (RFC 5492).

use super::error::Malformed;
use super::reader::{Reader, Short, with_length_8, with_length_16};
use crate::prefix::AfiSafi;
use crate::types::{Asn, HoldTime, RouterId};
use serde::{Deserialize, Serialize};

/// The first message on a connection: who speaks, and what it can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The AS number in two octets; [`Asn::TRANS`] where only [`Capability::FourOctetAs`] can say it.
    pub my_as: Asn,
    /// Proposed; the smaller of both sides counts.
    pub hold_time: HoldTime,
    /// Who speaks.
    pub router_id: RouterId,
    /// In the order in which they stood.
    pub capabilities: Vec<Capability>,
}

/// What a speaker can do. A capability with a length that its RFC does not allow is kept as unknown and so not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Capability {
    /// 1: routes of this family (RFC 4760).
    Multiprotocol(AfiSafi),
    /// 2: ROUTE-REFRESH (RFC 2918).
    RouteRefresh,
    /// 5: next hops of another family than the prefix: family of the prefix, AFI of the next hop (RFC 8950).
    ExtendedNextHop(Vec<(AfiSafi, u16)>),
    /// 6: messages up to 65535 octets (RFC 8654).
    ExtendedMessage,
    /// 64: graceful restart (RFC 4724, 8538).
    GracefulRestart(GracefulRestart),
    /// 65: the AS number in four octets (RFC 6793).
    FourOctetAs(Asn),
    /// 69: several paths to a prefix (RFC 7911).
    AddPath(Vec<(AfiSafi, AddPath)>),
    /// 70: ROUTE-REFRESH with beginning and end (RFC 7313).
    EnhancedRouteRefresh,
    /// 71: long-lived graceful restart (RFC 9494).
    LongLived(Vec<LongLived>),
    /// What has no name here.
    Unknown {
        /// Its code.
        code: u8,
        /// Its value.
        data: Vec<u8>,
    },
}

/// The value of the capability of RFC 4724.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GracefulRestart {
    /// It has just restarted (R bit).
    pub restarting: bool,
    /// Also NOTIFICATIONs and the hold timer lead to a graceful restart (N bit, RFC 8538).
    pub notification: bool,
    /// Within how many seconds it expects to be back, 0 to 4095.
    pub restart_time: u16,
    /// For each family: whether it went on forwarding during the restart (F bit).
    pub families: Vec<(AfiSafi, bool)>,
}

/// Which way several paths to a prefix go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AddPath {
    /// 1: the speaker can receive them.
    Receive,
    /// 2: it can send them.
    Send,
    /// 3: both.
    Both,
}

/// One family of the capability of RFC 9494.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongLived {
    /// Which.
    pub family: AfiSafi,
    /// It went on forwarding (F bit).
    pub forwarding: bool,
    /// For how many seconds its routes may be kept after the restart time, 0 to 16777215.
    pub stale_time: u32,
}

impl AddPath {
    /// Whether the speaker can receive several paths.
    pub fn receives(self) -> bool {
        matches!(self, AddPath::Receive | AddPath::Both)
    }

    /// Whether the speaker can send several paths.
    pub fn sends(self) -> bool {
        matches!(self, AddPath::Send | AddPath::Both)
    }
}

const MAX_RESTART_TIME: u16 = 0x0fff;
const MAX_STALE_TIME: u32 = 0x00ff_ffff;

impl Capability {
    /// The code of IANA.
    pub fn code(&self) -> u8 {
        match self {
            Capability::Multiprotocol(_) => 1,
            Capability::RouteRefresh => 2,
            Capability::ExtendedNextHop(_) => 5,
            Capability::ExtendedMessage => 6,
            Capability::GracefulRestart(_) => 64,
            Capability::FourOctetAs(_) => 65,
            Capability::AddPath(_) => 69,
            Capability::EnhancedRouteRefresh => 70,
            Capability::LongLived(_) => 71,
            Capability::Unknown { code, .. } => *code,
        }
    }

    /// Appends code, length and value.
    pub(crate) fn emit(&self, out: &mut Vec<u8>) {
        out.push(self.code());
        with_length_8(out, |out| self.emit_value(out));
    }

    fn emit_value(&self, out: &mut Vec<u8>) {
        match self {
            Capability::Multiprotocol(family) => {
                let [a, b] = family.afi.to_be_bytes();
                out.extend([a, b, 0, family.safi]);
            }
            Capability::RouteRefresh | Capability::ExtendedMessage | Capability::EnhancedRouteRefresh => {}
            Capability::ExtendedNextHop(families) => {
                for (family, next_hop) in families {
                    let [a, b] = family.afi.to_be_bytes();
                    let [c, d] = next_hop.to_be_bytes();
                    out.extend([a, b, 0, family.safi, c, d]);
                }
            }
            Capability::GracefulRestart(restart) => {
                let flags = u16::from(restart.restarting) << 15 | u16::from(restart.notification) << 14;
                out.extend((flags | restart.restart_time.min(MAX_RESTART_TIME)).to_be_bytes());
                for (family, forwarding) in &restart.families {
                    emit_family(*family, out);
                    out.push(u8::from(*forwarding) << 7);
                }
            }
            Capability::FourOctetAs(asn) => out.extend(asn.get().to_be_bytes()),
            Capability::AddPath(families) => {
                for (family, way) in families {
                    emit_family(*family, out);
                    out.push(match way {
                        AddPath::Receive => 1,
                        AddPath::Send => 2,
                        AddPath::Both => 3,
                    });
                }
            }
            Capability::LongLived(families) => {
                for f in families {
                    emit_family(f.family, out);
                    let time = f.stale_time.min(MAX_STALE_TIME);
                    out.extend((u32::from(f.forwarding) << 31 | time).to_be_bytes().iter().take(1));
                    out.extend(time.to_be_bytes().iter().skip(1));
                }
            }
            Capability::Unknown { data, .. } => out.extend(data),
        }
    }

    fn parse(code: u8, data: &[u8]) -> Capability {
        Capability::parse_known(code, Reader(data))
            .ok()
            .flatten()
            .unwrap_or_else(|| Capability::Unknown { code, data: data.to_vec() })
    }

    /// `None` for a code or value that is not known.
    fn parse_known(code: u8, mut r: Reader<'_>) -> Result<Option<Capability>, Short> {
        let capability = match code {
            1 => {
                let [a, b, _, safi] = r.take()?;
                Capability::Multiprotocol(AfiSafi { afi: u16::from_be_bytes([a, b]), safi })
            }
            2 => Capability::RouteRefresh,
            5 => Capability::ExtendedNextHop(each(&mut r, |r| {
                let [a, b, _, safi] = r.take()?;
                Ok((AfiSafi { afi: u16::from_be_bytes([a, b]), safi }, r.u16()?))
            })?),
            6 => Capability::ExtendedMessage,
            64 => {
                let flags = r.u16()?;
                Capability::GracefulRestart(GracefulRestart {
                    restarting: flags & 0x8000 != 0,
                    notification: flags & 0x4000 != 0,
                    restart_time: flags & MAX_RESTART_TIME,
                    families: each(&mut r, |r| Ok((r.afi_safi()?, r.u8()? & 0x80 != 0)))?,
                })
            }
            65 => match Asn::new(r.u32()?) {
                Some(asn) => Capability::FourOctetAs(asn),
                None => return Ok(None),
            },
            69 => {
                let pairs = each(&mut r, |r| Ok((r.afi_safi()?, r.u8()?)))?;
                // RFC 7911 §4: a pair with another value is ignored.
                let way =
                    |n| [AddPath::Receive, AddPath::Send, AddPath::Both].get(usize::from(n).checked_sub(1)?).copied();
                Capability::AddPath(pairs.into_iter().filter_map(|(f, n)| Some((f, way(n)?))).collect())
            }
            70 => Capability::EnhancedRouteRefresh,
            71 => Capability::LongLived(each(&mut r, |r| {
                let family = r.afi_safi()?;
                let [flags, a, b, c] = r.take()?;
                Ok(LongLived { family, forwarding: flags & 0x80 != 0, stale_time: u32::from_be_bytes([0, a, b, c]) })
            })?),
            _ => return Ok(None),
        };
        Ok(r.is_empty().then_some(capability))
    }
}

fn each<T>(r: &mut Reader<'_>, mut parse: impl FnMut(&mut Reader<'_>) -> Result<T, Short>) -> Result<Vec<T>, Short> {
    let mut all = Vec::new();
    while !r.is_empty() {
        all.push(parse(r)?);
    }
    Ok(all)
}

fn emit_family(family: AfiSafi, out: &mut Vec<u8>) {
    out.extend(family.afi.to_be_bytes());
    out.push(family.safi);
}

impl Open {
    /// The AS number of the speaker: the one in four octets, where it says that.
    pub fn asn(&self) -> Asn {
        let four = |c: &Capability| if let Capability::FourOctetAs(asn) = c { Some(*asn) } else { None };
        self.capabilities.iter().find_map(four).unwrap_or(self.my_as)
    }

    pub(crate) fn parse(body: &[u8]) -> Result<Open, Malformed> {
        let mut r = Reader(body);
        let (version, my_as, hold_time, id, length) = (|| {
            let fixed = (r.u8()?, r.u16()?, r.u16()?, r.ipv4()?, r.u8()?);
            Ok::<_, Short>(fixed)
        })()
        .map_err(|_| Malformed::Open)?;
        if version != 4 {
            return Err(Malformed::Version(version));
        }
        let capabilities = parse_parameters(r, length)?;
        let four = |c: &Capability| matches!(c, Capability::Unknown { code: 65, data } if data.len() == 4);
        if capabilities.iter().any(four) {
            return Err(Malformed::PeerAs);
        }
        Ok(Open {
            my_as: Asn::new(my_as.into()).ok_or(Malformed::PeerAs)?,
            hold_time: HoldTime::new(hold_time).ok_or(Malformed::HoldTime(hold_time))?,
            router_id: RouterId::new(id).ok_or(Malformed::RouterId)?,
            capabilities,
        })
    }

    pub(crate) fn emit(&self, out: &mut Vec<u8>) {
        out.push(4);
        out.extend(self.my_as.two_octets().to_be_bytes());
        out.extend(self.hold_time.seconds().to_be_bytes());
        out.extend(self.router_id.address().octets());
        let mut capabilities = Vec::new();
        self.capabilities.iter().for_each(|c| c.emit(&mut capabilities));
        if capabilities.is_empty() {
            out.push(0);
        } else if capabilities.len() <= 253 {
            with_length_8(out, |out| {
                out.push(2);
                with_length_8(out, |out| out.extend(capabilities));
            });
        } else {
            // RFC 9072: lengths of two octets.
            out.extend([255, 255]);
            with_length_16(out, |out| {
                out.push(2);
                with_length_16(out, |out| out.extend(capabilities));
            });
        }
    }
}

fn parse_parameters(mut r: Reader<'_>, length: u8) -> Result<Vec<Capability>, Malformed> {
    let short = |_: Short| Malformed::Open;
    // RFC 9072 §2: the first parameter type says whether lengths have two octets.
    let extended = length != 0 && r.0.first() == Some(&255);
    let length = if extended {
        r.u8().map_err(short)?;
        r.u16().map_err(short)?.into()
    } else {
        usize::from(length)
    };
    if r.len() != length {
        return Err(Malformed::Open);
    }
    let mut capabilities = Vec::new();
    while !r.is_empty() {
        let kind = r.u8().map_err(short)?;
        let length = if extended { r.u16().map_err(short)?.into() } else { usize::from(r.u8().map_err(short)?) };
        let mut value = r.sub(length).map_err(short)?;
        if kind != 2 {
            return Err(Malformed::OptionalParameter(kind));
        }
        while !value.is_empty() {
            let code = value.u8().map_err(short)?;
            let length = value.u8().map_err(short)?;
            let data = value.bytes(length.into()).map_err(short)?;
            capabilities.push(Capability::parse(code, data));
        }
    }
    Ok(capabilities)
}
