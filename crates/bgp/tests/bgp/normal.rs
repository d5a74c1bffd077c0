//! How a message is compared with what was said again of it: also by fuzz/targets/bgp_messages.rs.

use super::{Attributes, Message};

/// What is not said where no route comes: attributes of nothing.
pub(crate) fn normal(message: Message) -> Message {
    let Message::Update(mut update) = message else { return message };
    if update.announced.is_empty() {
        update.next_hop = None;
    }
    if update.announced.is_empty() && update.mp_reach.is_none() {
        update.attributes = Attributes::default();
    }
    Message::Update(update)
}
