//! ARP and NDP: answering and announcing.
