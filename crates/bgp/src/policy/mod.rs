//! What routers are told, by the policies of a file `gobgp.conf` as OpenELB takes it (compat §5.6).
//!
//! ```text
//!  a route ──► policy 1: statement 1, 2, … ──► policy 2: … ──► default-export-policy
//!                 all conditions match: the actions are done; accept-route or reject-route ends it
//! ```
//!
//! Import policies are read and checked, and decide nothing: routes that routers send are counted and never used.

mod file;
mod matching;

use crate::community::{Community, ExtendedCommunity, LargeCommunity};
use crate::prefix::Prefix;
use crate::routes_out::Path;
use crate::types::Asn;
use crate::wire::NextHop;
use file::{File, unsupported};
use matching::{Condition, Sets};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The export policies of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    statements: Vec<Statement>,
    /// What becomes of a route that no statement decides on.
    accept: bool,
}

/// To whom a route is said, and what is known of it besides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct To {
    /// The router.
    pub neighbor: IpAddr,
    /// The addresses that are next hops of our routes.
    pub next_hops: (Option<Ipv4Addr>, Option<Ipv6Addr>),
}

/// Why a file is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// No TOML, or words that are not known.
    #[error("{0}")]
    File(String),
    /// It is known, and not supported.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// A name that nothing has.
    #[error("there is no {kind} {name:?}")]
    Missing {
        /// Of what.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A value that cannot be understood.
    #[error("{field}: {value:?} is not {expected}")]
    Value {
        /// Where.
        field: &'static str,
        /// What was written.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
}

fn invalid(field: &'static str, value: impl ToString, expected: &'static str) -> InvalidPolicy {
    InvalidPolicy::Value { field, value: value.to_string(), expected }
}

#[derive(Debug, Clone, PartialEq)]
struct Statement {
    conditions: Vec<Condition>,
    actions: Vec<Action>,
    /// Accepts or rejects, or leaves it to the next one.
    verdict: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Add,
    Remove,
    Replace,
}

#[derive(Debug, Clone, PartialEq)]
enum Action {
    Communities(How, BTreeSet<Community>),
    Extended(How, BTreeSet<ExtendedCommunity>),
    Large(How, BTreeSet<LargeCommunity>),
    /// Add so much, or set to it.
    Med(bool, i64),
    /// This AS, or the first one in the path.
    Prepend(Option<Asn>, u8),
    /// This one; `None`: ourselves.
    NextHop(Option<NextHop>),
    LocalPref(u32),
}

impl FromStr for Policy {
    type Err = InvalidPolicy;

    fn from_str(text: &str) -> Result<Policy, InvalidPolicy> {
        let file: File = toml::from_str(text).map_err(|e| InvalidPolicy::File(e.to_string().trim().to_owned()))?;
        unsupported(&file)?;
        let sets = Sets::new(&file.defined_sets)?;
        let apply = &file.global.apply_policy.config;
        let definition = |name: &String| {
            let found = file.policy_definitions.iter().find(|d| d.name == *name);
            found.ok_or_else(|| InvalidPolicy::Missing { kind: "policy-definition", name: name.clone() })
        };
        // All that is written is checked, also what no list names.
        for statement in file.policy_definitions.iter().flat_map(|d| &d.statements) {
            Statement::new(statement, &sets)?;
        }
        apply.import_policy_list.iter().try_for_each(|name| definition(name).map(drop))?;
        default(apply.default_import_policy.as_deref(), "default-import-policy")?;
        let mut statements = Vec::new();
        for name in &apply.export_policy_list {
            let all = definition(name)?.statements.iter().map(|s| Statement::new(s, &sets));
            statements.extend(all.collect::<Result<Vec<_>, _>>()?);
        }
        let accept = default(apply.default_export_policy.as_deref(), "default-export-policy")?;
        Ok(Policy { statements, accept })
    }
}

fn default(text: Option<&str>, field: &'static str) -> Result<bool, InvalidPolicy> {
    match text {
        None | Some("accept-route") => Ok(true),
        Some("reject-route") => Ok(false),
        Some(other) => Err(invalid(field, other, "accept-route or reject-route")),
    }
}

impl Policy {
    /// What a router is told of a route; `None`: nothing.
    pub fn export(&self, to: To, prefix: Prefix, path: &Path) -> Option<Path> {
        let mut path = path.clone();
        for statement in &self.statements {
            if !statement.conditions.iter().all(|c| c.holds(to, prefix, &path)) {
                continue;
            }
            match statement.verdict {
                Some(false) => return None,
                verdict => {
                    statement.actions.iter().for_each(|action| action.apply(&mut path));
                    if verdict == Some(true) {
                        return Some(path);
                    }
                }
            }
        }
        self.accept.then_some(path)
    }
}

impl Statement {
    fn new(written: &file::Statement, sets: &Sets) -> Result<Statement, InvalidPolicy> {
        let verdict = match written.actions.route_disposition.as_deref() {
            None | Some("none") => None,
            Some("accept-route") => Some(true),
            Some("reject-route") => Some(false),
            Some(other) => return Err(invalid("route-disposition", other, "accept-route, reject-route or none")),
        };
        let conditions = sets.conditions(&written.conditions)?;
        Ok(Statement { conditions, actions: actions(&written.actions.bgp_actions)?, verdict })
    }
}

fn actions(written: &file::BgpActions) -> Result<Vec<Action>, InvalidPolicy> {
    let mut actions = Vec::new();
    if let Some(set) = &written.set_community {
        let list = &set.set_community_method.communities_list;
        actions.push(Action::Communities(how(&set.options)?, all("set-community", list, "a community")?));
    }
    if let Some(set) = &written.set_ext_community {
        let list = lower(&set.set_ext_community_method.communities_list);
        actions.push(Action::Extended(how(&set.options)?, all("set-ext-community", &list, "an extended community")?));
    }
    if let Some(set) = &written.set_large_community {
        let list = &set.set_large_community_method.communities_list;
        actions.push(Action::Large(how(&set.options)?, all("set-large-community", list, "a large community")?));
    }
    if let Some(text) = &written.set_med {
        let relative = text.starts_with(['+', '-']);
        let number = text.parse().map_err(|_| invalid("set-med", text, "a number, +number or -number"))?;
        actions.push(Action::Med(relative, number));
    }
    if let Some(prepend) = &written.set_as_path_prepend {
        let asn = match prepend.r#as.as_str() {
            "last-as" => None,
            text => {
                let asn = text.parse::<u32>().ok().and_then(Asn::new);
                Some(asn.ok_or_else(|| invalid("set-as-path-prepend", text, "an AS number or last-as"))?)
            }
        };
        actions.push(Action::Prepend(asn, prepend.repeat_n));
    }
    if let Some(text) = &written.set_next_hop {
        let hop = match text.as_str() {
            "self" => None,
            text => {
                let hop = text.parse::<IpAddr>().map_err(|_| invalid("set-next-hop", text, "an address or self"))?;
                Some(NextHop::from(hop))
            }
        };
        actions.push(Action::NextHop(hop));
    }
    actions.extend(written.set_local_pref.map(Action::LocalPref));
    Ok(actions)
}

fn how(text: &str) -> Result<How, InvalidPolicy> {
    match text.to_ascii_lowercase().as_str() {
        "add" => Ok(How::Add),
        "remove" => Ok(How::Remove),
        "replace" => Ok(How::Replace),
        _ => Err(invalid("options", text, "add, remove or replace")),
    }
}

/// GoBGP writes kinds of extended communities in any case.
fn lower(list: &[String]) -> Vec<String> {
    list.iter().map(|text| text.to_ascii_lowercase()).collect()
}

fn all<T: FromStr + Ord>(
    field: &'static str,
    list: &[String],
    expected: &'static str,
) -> Result<BTreeSet<T>, InvalidPolicy> {
    list.iter().map(|text| text.parse().map_err(|_| invalid(field, text, expected))).collect()
}

impl Action {
    fn apply(&self, path: &mut Path) {
        let a = &mut path.attributes;
        match self {
            Action::Communities(how, set) => change(&mut a.communities, *how, set),
            Action::Extended(how, set) => change(&mut a.extended_communities, *how, set),
            Action::Large(how, set) => change(&mut a.large_communities, *how, set),
            Action::Med(relative, number) => {
                let before = if *relative { i64::from(a.med.unwrap_or(0)) } else { 0 };
                a.med = Some(u32::try_from(before.saturating_add(*number).max(0)).unwrap_or(u32::MAX));
            }
            Action::Prepend(asn, times) => {
                if let Some(asn) = asn.or_else(|| a.as_path.first()) {
                    a.as_path.prepend(asn, (*times).into());
                }
            }
            Action::NextHop(hop) => path.next_hop = *hop,
            Action::LocalPref(preference) => a.local_pref = Some(*preference),
        }
    }
}

fn change<T: Ord + Clone>(set: &mut BTreeSet<T>, how: How, by: &BTreeSet<T>) {
    match how {
        How::Add => set.extend(by.iter().cloned()),
        How::Remove => set.retain(|c| !by.contains(c)),
        How::Replace => set.clone_from(by),
    }
}

#[cfg(test)]
mod tests;
