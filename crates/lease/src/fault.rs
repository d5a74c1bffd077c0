//! Rules that a test can break, one at a time, to show that something notices. Without the feature `faults` the
//! question is answered by the compiler and nothing of this is left.

/// One rule broken.
#[cfg_attr(not(feature = "faults"), allow(dead_code, reason = "nobody can break one"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The holder takes nothing off for clocks that drift.
    NoDriftBound,
    /// The holder counts the lease from when the answer came.
    CountFromAnswer,
    /// An acceptor that has started grants at once.
    NoSilence,
    /// A release ends whatever grant its sender has, however old it is.
    ReleaseNamesNoGrant,
    /// A grant takes the number of the request that came last, also when that is an old copy.
    OldCopyRenames,
    /// Answers to a request that was given back still count.
    CountAfterGivingBack,
    /// A start of the process has the number of the one before.
    NumbersStartAgain,
    /// An epoch may swap one member for another.
    Swap,
    /// The next epoch does not wait until a majority of the previous set confirmed this one.
    NextUnconfirmed,
    /// The next epoch does not wait until the longest lease has passed.
    NextAtOnce,
    /// An acceptor that lost the record of its epoch goes on with what its configuration says.
    ForgetsEpoch,
    /// Adopting an epoch drops the grants that run.
    AdoptDropsGrants,
    /// Grants of different epochs are counted together.
    MajorityOverTwoSets,
    /// Speakers without a majority take an address without asking each other.
    TakeWithoutConsent,
}

/// Which rule is broken: none where the feature is not compiled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Faults(#[cfg(feature = "faults")] pub Option<Fault>);

impl Faults {
    /// Whether this rule is broken.
    #[cfg(feature = "faults")]
    pub fn has(self, fault: Fault) -> bool {
        self.0 == Some(fault)
    }

    /// Whether this rule is broken.
    #[cfg(not(feature = "faults"))]
    pub const fn has(self, _: Fault) -> bool {
        false
    }
}
