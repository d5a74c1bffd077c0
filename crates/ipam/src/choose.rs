//! What a Service should have, given what it has: the selection of compat §2.3, except that nothing moves without a
//! reason that the user gave (D4, D5).

use crate::claims::{SHARING_CONFLICT, families};
use crate::decision::Verdict;
use crate::ipam::{Ipam, PoolState};
use crate::refusal::{Refusal, clip};
use crate::sharing::{clash, forbidden};
use crate::table::Entry;
use api::service::FamilyPolicy;
use api::{Family, Service, keys};
use std::fmt::Write;
use std::net::IpAddr;

/// What a Service should have from now on.
pub(crate) struct Choice {
    pub(crate) target: Vec<IpAddr>,
    pub(crate) pool: Option<String>,
    /// What it has to give away, and why.
    pub(crate) lost: Vec<(IpAddr, String)>,
    /// It cannot share its address with another, whether that is tolerated or not.
    pub(crate) clashes: bool,
    /// Look at it again when something becomes free.
    pub(crate) waits: bool,
    pub(crate) verdict: Verdict,
}

/// What the user asks for in one family.
struct Goal<'a> {
    family: Family,
    address: Option<IpAddr>,
    pools: &'a [&'a str],
}

enum Finding<'a> {
    /// What it has is what it asks for; perhaps there is something to say about it.
    Keep(IpAddr, Option<Note>),
    New(IpAddr, &'a str),
    /// It keeps what it has.
    Miss(Option<IpAddr>, Refusal),
}

struct Note {
    reason: &'static str,
    message: String,
}

impl Ipam {
    pub(crate) fn choose(&self, entry: &Entry) -> Choice {
        let service = &entry.service;
        let pools: Vec<&str> = service.wanted_pool.iter().flat_map(|p| p.split(',')).map(str::trim).collect();
        let pools: Vec<&str> = pools.into_iter().filter(|p| !p.is_empty()).collect();

        let mut lost = Vec::new();
        let mut conflict = None;
        for ip in &entry.target {
            match self.clash_at(entry, *ip) {
                Some((other, why)) if entry.tolerated => {
                    let message = format!("{ip} is in use by Service {other} too, and {why}; OpenELB allowed it");
                    conflict = Some(Note { reason: SHARING_CONFLICT, message });
                }
                Some((other, why)) => lost.push((*ip, format!("Service {other} has it too, and {why}"))),
                None => {}
            }
        }
        let has = |family| {
            let mut has = entry.target.iter().filter(|ip| Family::of(**ip) == family);
            has.find(|ip| lost.iter().all(|(l, _)| l != *ip)).copied()
        };

        let wanted = families(service);
        let invalid = invalid_request(service, wanted);
        let findings: Vec<(Family, Finding<'_>)> = wanted
            .iter()
            .map(|&family| {
                let mut requested = service.wanted_addresses.iter().flatten();
                let address = requested.find(|ip| Family::of(**ip) == family).copied();
                let goal = Goal { family, address, pools: &pools };
                let finding = match &invalid {
                    Some(refusal) => Finding::Miss(has(family), refusal.clone()),
                    None => self.find(entry, &goal, has(family)),
                };
                (family, finding)
            })
            .collect();

        // RequireDualStack takes nothing new until everything can be had.
        let require = service.family_policy == FamilyPolicy::RequireDualStack;
        let all_met = findings.iter().all(|(_, f)| !matches!(f, Finding::Miss(..)));
        let target: Vec<IpAddr> = findings
            .iter()
            .filter_map(|(family, finding)| match finding {
                Finding::Keep(ip, _) => Some(*ip),
                Finding::New(..) if require && !all_met => has(*family),
                Finding::New(ip, _) => Some(*ip),
                Finding::Miss(has, _) => *has,
            })
            .collect();
        let given = findings.iter().find_map(|(_, f)| match f {
            Finding::New(ip, pool) if target.first() == Some(ip) => Some((*pool).to_owned()),
            _ => None,
        });
        let pool = given.or_else(|| self.pool_of(entry, *target.first()?, &pools));
        let clashes = conflict.is_some();
        let verdict = verdict(service, &target, pool.as_deref(), &findings, conflict);
        Choice { target, pool, lost, clashes, waits: !all_met, verdict }
    }

    fn find(&self, entry: &Entry, goal: &Goal<'_>, has: Option<IpAddr>) -> Finding<'_> {
        if let Some(ip) = has.filter(|ip| goal.address.is_none_or(|wanted| wanted == *ip)) {
            if let Some(pool) = self.fitting_pool(entry, ip, goal.pools) {
                return Finding::Keep(ip, self.note(ip, pool));
            }
            // A pool that lost the address, not a user who asks for another pool.
            let labelled = entry.pool.as_deref().is_some_and(|label| goal.pools.contains(&label));
            let elsewhere = self.pool_with(ip, None);
            if goal.pools.is_empty() || (labelled && (elsewhere.is_none() || entry.target.first() == Some(&ip))) {
                return Finding::Keep(ip, Some(self.pool_missing(entry, ip, elsewhere)));
            }
        }
        match self.obtain(entry, goal) {
            Ok((ip, pool)) => Finding::New(ip, &pool.pool.name),
            Err(refusal) => Finding::Miss(has, refusal),
        }
    }

    /// The pool from which a Service has an address, as far as it asks for a pool; `None` when no such pool has it.
    fn fitting_pool(&self, entry: &Entry, ip: IpAddr, pools: &[&str]) -> Option<&PoolState> {
        let name = if pools.is_empty() {
            self.pool_with(ip, entry.pool.as_deref())?
        } else {
            let label = entry.pool.as_deref().filter(|label| pools.contains(label));
            let contains = |name: &&str| self.pool(name).is_some_and(|s| s.pool.addresses.contains(ip));
            label.into_iter().chain(pools.iter().copied()).find(contains)?
        };
        self.pool(name)
    }

    fn pool_of(&self, entry: &Entry, ip: IpAddr, pools: &[&str]) -> Option<String> {
        match self.fitting_pool(entry, ip, pools) {
            Some(state) => Some(state.pool.name.clone()),
            None => entry.pool.clone(),
        }
    }

    fn note(&self, ip: IpAddr, state: &PoolState) -> Option<Note> {
        let pool = &state.pool.name;
        if let Some(why) = self.reserved.get(&ip) {
            let message =
                format!("{ip} belongs to something else too: {why}; remove it there, or ask for another address");
            return Some(Note { reason: "AddressReserved", message });
        }
        (!state.pool.allocatable.contains(ip)).then(|| Note {
            reason: "AddressExcluded",
            message: format!(
                "{ip} stays although pool {pool} excludes it by now; to have another, ask for it with the annotation {}",
                keys::ADDRESS
            ),
        })
    }

    fn pool_missing(&self, entry: &Entry, ip: IpAddr, elsewhere: Option<&str>) -> Note {
        let pool = entry.pool.as_deref().map(clip).unwrap_or_default();
        let what = match self.pools.get(&pool) {
            _ if pool.is_empty() => "no pool has it any more".to_owned(),
            None => format!("its pool {pool} does not exist any more"),
            Some(Err(error)) => format!("its pool {pool} is invalid: {}", clip(&error.to_string())),
            Some(Ok(_)) => format!("its pool {pool} does not have it any more"),
        };
        let now = elsewhere.map(|p| format!(" (pool {p} has)")).unwrap_or_default();
        Note {
            reason: "PoolMissing",
            message: format!(
                "{ip} stays although {what}{now}; add the address to a pool again, or ask for another pool or address"
            ),
        }
    }

    /// An address that it does not have yet.
    fn obtain(&self, entry: &Entry, goal: &Goal<'_>) -> Result<(IpAddr, &PoolState), Refusal> {
        let service = &entry.service;
        let Some(ip) = goal.address else {
            let state = if goal.pools.is_empty() { self.automatic(service, goal.family) } else { self.named(goal) }?;
            let full = || Refusal::PoolFull { pools: format!("pool {}", state.pool.name), family: goal.family };
            return Ok((state.free.first(goal.family).ok_or_else(full)?, state));
        };
        let contains = |state: &&PoolState| state.pool.addresses.contains(ip);
        let state = if goal.pools.is_empty() {
            self.valid_pools().find(contains).ok_or(Refusal::OutsideEveryPool(ip))?
        } else {
            match goal.pools.iter().filter_map(|name| self.pool(name)).find(contains) {
                Some(state) => state,
                None => {
                    let pool = &self.named(goal)?.pool;
                    let addresses = clip(&pool.addresses.to_string());
                    return Err(Refusal::OutsidePool { ip, pool: pool.name.clone(), addresses });
                }
            }
        };
        let pool = &usable(state)?.pool;
        if !pool.allocatable.contains(ip) {
            return Err(Refusal::Excluded { ip, pool: pool.name.clone() });
        }
        if let Some(why) = self.reserved.get(&ip) {
            return Err(Refusal::Reserved { ip, why: clip(why) });
        }
        // Only who asks for the address by name shares it (compat §2.4).
        let refusals = self.others(entry.id, ip).filter_map(|other| {
            let other = &other.service;
            let why = forbidden(pool.sharing, service, other).map(str::to_owned).or_else(|| clash(service, other))?;
            Some((other.key.clone(), why))
        });
        match refusals.min() {
            Some((other, why)) => Err(Refusal::InUse { ip, other, why }),
            None => Ok((ip, state)),
        }
    }

    /// The pool that the user named: of several the first that has addresses of the family.
    fn named(&self, goal: &Goal<'_>) -> Result<&PoolState, Refusal> {
        let mut refusal = None;
        for name in goal.pools {
            let refused = match self.pools.get(*name) {
                None => Refusal::PoolNotFound(clip(name)),
                Some(Err(error)) => Refusal::PoolInvalid { pool: clip(name), why: clip(&error.to_string()) },
                Some(Ok(state)) if state.pool.addresses.has_family(goal.family) => return usable(state),
                Some(Ok(_)) => Refusal::PoolFamily { pool: clip(name), family: goal.family },
            };
            // A pool that is not there or not valid may be the one that would have given.
            if refusal.is_none() || matches!(refusal, Some(Refusal::PoolFamily { .. })) {
                refusal = Some(refused);
            }
        }
        Err(refusal.unwrap_or(Refusal::PoolNotFound(String::new())))
    }

    /// The pool of a Service that names neither pool nor address (compat §2.3.4, §2.3.5).
    fn automatic(&self, service: &Service, family: Family) -> Result<&PoolState, Refusal> {
        let namespace = service.key.namespace();
        let labels = self.namespaces.get(namespace);
        let open = || self.valid_pools().filter(|s| usable(s).is_ok());
        let serves = |s: &&PoolState| s.pool.serves_namespace(namespace, labels);
        let has_family = |s: &&PoolState| s.pool.allocatable.has_family(family);

        let own = open().filter(serves).filter(has_family);
        let own = own.min_by_key(|s| (s.free.first(family).is_none(), s.pool.priority));
        if let Some(state) = own.or_else(|| open().filter(has_family).find(|s| s.pool.default)) {
            return Ok(state);
        }
        let namespace = namespace.to_owned();
        match open().any(|s| serves(&s) || s.pool.default) {
            true => Err(Refusal::NoPoolOfFamily { namespace, family }),
            false => Err(Refusal::NoDefaultPool { namespace }),
        }
    }
}

/// A pool that gives out new addresses.
fn usable(state: &PoolState) -> Result<&PoolState, Refusal> {
    let pool = &state.pool;
    match (pool.deleting, pool.disabled) {
        (true, _) => Err(Refusal::PoolDeleting(pool.name.clone())),
        (_, true) => Err(Refusal::PoolDisabled(pool.name.clone())),
        _ => Ok(state),
    }
}

fn invalid_request(service: &Service, families: &[Family]) -> Option<Refusal> {
    let mut seen: Vec<IpAddr> = Vec::new();
    for wanted in &service.wanted_addresses {
        let ip = match wanted {
            Err(text) => return Some(Refusal::NotAnAddress(clip(text))),
            Ok(ip) => *ip,
        };
        let family = Family::of(ip);
        if !families.contains(&family) {
            return Some(Refusal::RequestedFamily(ip));
        }
        if seen.iter().any(|s| Family::of(*s) == family && *s != ip) {
            return Some(Refusal::TwoOfOneFamily(family));
        }
        seen.push(ip);
    }
    None
}

fn verdict(
    service: &Service,
    target: &[IpAddr],
    pool: Option<&str>,
    findings: &[(Family, Finding<'_>)],
    conflict: Option<Note>,
) -> Verdict {
    let misses: Vec<(Family, &Refusal)> = findings
        .iter()
        .filter_map(|(family, f)| match f {
            Finding::Miss(_, refusal) => Some((*family, refusal)),
            _ => None,
        })
        .collect();
    // PreferDualStack takes what there is; but what the user asks for by name is not there to choose from.
    let asked = |family: Family| service.wanted_addresses.iter().flatten().any(|ip| Family::of(*ip) == family);
    let content = service.family_policy == FamilyPolicy::PreferDualStack
        && misses.len() < findings.len()
        && misses.iter().all(|(family, _)| !asked(*family) && !target.iter().any(|ip| Family::of(*ip) == *family));

    if let Some((family, refusal)) = misses.first().filter(|_| !content) {
        let mut message = refusal.to_string();
        if service.family_policy == FamilyPolicy::RequireDualStack {
            message = format!("spec.ipFamilyPolicy is RequireDualStack, and there is no {family} address: {message}");
        }
        if !target.is_empty() {
            message.push_str(". Until then it keeps ");
            list(&mut message, target);
        }
        return Verdict { assigned: false, reason: refusal.reason(), message, event: refusal.event() };
    }
    let notes = findings.iter().filter_map(|(_, f)| match f {
        Finding::Keep(_, Some(note)) => Some((note.reason, note.message.clone())),
        _ => None,
    });
    let mut notes = conflict.map(|n| (n.reason, n.message)).into_iter().chain(notes).peekable();
    let reason = match notes.peek() {
        Some((reason, _)) => reason,
        None if misses.is_empty() => "Assigned",
        None => "AssignedOneFamily",
    };
    let mut message = String::with_capacity(64);
    let known = findings.iter().any(|(_, f)| matches!(f, Finding::New(..) | Finding::Keep(_, None)));
    if known || notes.peek().is_none() {
        message.push_str("has ");
        list(&mut message, target);
        if let Some(pool) = pool.filter(|_| target.len() == 1) {
            message.push_str(" from pool ");
            message.push_str(pool);
        }
    }
    let missing = misses.iter().map(|(family, refusal)| format!("no {family} address yet: {refusal}"));
    for note in notes.map(|(_, message)| message).chain(missing) {
        if !message.is_empty() {
            message.push_str(". ");
        }
        message.push_str(&note);
    }
    Verdict { assigned: true, reason, message, event: "" }
}

fn list(text: &mut String, addresses: &[IpAddr]) {
    for (i, ip) in addresses.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}{ip}", if i == 0 { "" } else { " and " });
    }
}
