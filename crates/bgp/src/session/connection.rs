//! One TCP connection on its way to a session.

use super::types::{Direction, State};
use crate::negotiated::Negotiated;
use crate::wire::{Codec, Framer, Message};
use engine::Tick;
use std::net::IpAddr;

/// How far a connection is.
#[derive(Debug)]
pub(super) enum Phase {
    OpenSent,
    OpenConfirm(Box<Negotiated>),
    Established(Box<Negotiated>),
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) direction: Direction,
    /// Our own address of it.
    pub(super) local: IpAddr,
    pub(super) phase: Phase,
    pub(super) framer: Framer,
    /// Octets that were given and not taken by the kernel yet.
    pub(super) unsent: usize,
    /// When the kernel last took octets, or had none to take.
    pub(super) progress: Tick,
    /// When silence ends it.
    pub(super) hold: Option<Tick>,
    /// When the next KEEPALIVE is due.
    pub(super) keepalive: Option<Tick>,
}

impl Connection {
    pub(super) fn new(now: Tick, direction: Direction, local: IpAddr, hold: Tick) -> Connection {
        Connection {
            direction,
            local,
            phase: Phase::OpenSent,
            framer: Framer::default(),
            unsent: 0,
            progress: now,
            hold: Some(hold),
            keepalive: None,
        }
    }

    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::OpenSent => State::OpenSent,
            Phase::OpenConfirm(_) => State::OpenConfirm,
            Phase::Established(_) => State::Established,
        }
    }

    pub(super) fn negotiated(&self) -> Option<&Negotiated> {
        match &self.phase {
            Phase::OpenSent => None,
            Phase::OpenConfirm(n) | Phase::Established(n) => Some(n),
        }
    }

    pub(super) fn established(&self) -> Option<&Negotiated> {
        match &self.phase {
            Phase::Established(n) => Some(n),
            Phase::OpenSent | Phase::OpenConfirm(_) => None,
        }
    }

    /// The next message that is there as a whole.
    pub(super) fn next_message(&mut self) -> Result<Option<Message>, crate::wire::Malformed> {
        let before = Codec::default();
        let codec = match &self.phase {
            Phase::OpenSent => &before,
            Phase::OpenConfirm(n) | Phase::Established(n) => &n.codec,
        };
        match self.framer.next(codec.extended_receive)? {
            Some((kind, body)) => codec.parse(kind, body).map(Some),
            None => Ok(None),
        }
    }
}
