//! The kernel: packet sockets, netlink, deadlines.
