//! Who owns an address now.
