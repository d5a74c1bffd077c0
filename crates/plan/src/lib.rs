//! What each node must announce.
