//! The Services, each under a number that is its own while it is there: looked up by name once, by number from then on.

use api::{Service, ServiceKey};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The number of a Service. Says nothing about order: wherever order shows, names decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id(u32);

/// Who holds an address, in the order in which they came. Nearly always it is one, so that one takes no list.
#[derive(Debug)]
pub(crate) struct Holders {
    first: Id,
    rest: Vec<Id>,
}

impl Holders {
    pub(crate) fn new(first: Id) -> Holders {
        Holders { first, rest: vec![] }
    }

    pub(crate) fn push(&mut self, id: Id) {
        self.rest.push(id);
    }

    /// `None` when nobody is left.
    pub(crate) fn without(mut self, id: Id) -> Option<Holders> {
        self.rest.retain(|holder| *holder != id);
        if self.first == id {
            if self.rest.is_empty() {
                return None;
            }
            self.first = self.rest.remove(0);
        }
        Some(self)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Id> {
        std::iter::once(self.first).chain(self.rest.iter().copied())
    }
}

/// A Service and what is known of it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: Id,
    /// As last read.
    pub(crate) service: Service,
    /// What it should have, at most one address of a family.
    pub(crate) target: Vec<IpAddr>,
    /// What nobody else may be given: its target, and what of ours its status still shows.
    pub(crate) held: Vec<IpAddr>,
    /// The pool that the first address of its target was given from.
    pub(crate) pool: Option<String>,
    /// What it does not get back although its status may still show it, and why.
    pub(crate) lost: Vec<(IpAddr, String)>,
    /// What was decided on the version as last read. Its write may have landed already, so nobody else gets any of it
    /// before a newer version has shown what came of it.
    pub(crate) offered: Vec<IpAddr>,
    /// With whom it can share has changed since it was last decided about: a clash is its own doing.
    pub(crate) edited: bool,
    /// It clashes with another Service at its address since OpenELB's days, at the user's word, and keeps it.
    pub(crate) tolerated: bool,
}

impl Entry {
    pub(crate) fn new(id: Id, service: Service) -> Entry {
        let (target, held, lost, offered) = (vec![], vec![], vec![], vec![]);
        Entry { id, service, target, held, pool: None, lost, offered, edited: false, tolerated: false }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    ids: BTreeMap<ServiceKey, Id>,
    entries: Vec<Option<Box<Entry>>>,
    unused: Vec<Id>,
}

impl Table {
    pub(crate) fn id(&self, key: &ServiceKey) -> Option<Id> {
        self.ids.get(key).copied()
    }

    pub(crate) fn get(&self, id: Id) -> Option<&Entry> {
        self.entries.get(id.0 as usize)?.as_deref()
    }

    pub(crate) fn get_mut(&mut self, id: Id) -> Option<&mut Entry> {
        self.entries.get_mut(id.0 as usize)?.as_deref_mut()
    }

    /// Puts in a Service that is not there.
    pub(crate) fn insert(&mut self, service: Service) -> Id {
        let id = self.unused.pop().unwrap_or_else(|| {
            self.entries.push(None);
            Id((self.entries.len() - 1) as u32)
        });
        self.ids.insert(service.key.clone(), id);
        if let Some(place) = self.entries.get_mut(id.0 as usize) {
            *place = Some(Box::new(Entry::new(id, service)));
        }
        id
    }

    pub(crate) fn remove(&mut self, key: &ServiceKey) -> Option<Box<Entry>> {
        let id = self.ids.remove(key)?;
        self.unused.push(id);
        self.entries.get_mut(id.0 as usize)?.take()
    }

    /// By namespace and name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.ids.values().filter_map(|id| self.get(*id))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut().flatten().map(Box::as_mut)
    }
}
