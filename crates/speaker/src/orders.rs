//! Orders to a thread that waits in a poller: bounded, and given without waiting.

use net::Waker;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

/// Orders that may wait; most replace the one before, so more would only be older.
const WAITING: usize = 8;

/// The end of those who give orders.
#[derive(Debug)]
pub(crate) struct Orders<C> {
    queue: SyncSender<C>,
    waker: Waker,
}

impl<C> Clone for Orders<C> {
    fn clone(&self) -> Orders<C> {
        Orders { queue: self.queue.clone(), waker: self.waker.clone() }
    }
}

impl<C> Orders<C> {
    /// Orders to the thread that this wakes, and its own end.
    pub(crate) fn new(waker: Waker) -> (Orders<C>, Receiver<C>) {
        let (queue, given) = sync_channel(WAITING);
        (Orders { queue, waker }, given)
    }

    /// Waits for room. Only for threads that have nothing else to do.
    pub(crate) fn send_when_free(&self, order: C) {
        // Who is gone needs no orders.
        let _ = self.queue.send(order);
        self.waker.wake();
    }

    /// False when the thread is too busy or gone: what matters is sent again later.
    pub(crate) fn send(&self, order: C) -> bool {
        match self.queue.try_send(order) {
            Ok(()) => {
                self.waker.wake();
                true
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}
