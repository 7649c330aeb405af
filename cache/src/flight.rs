//! One fetch per missing block, however many wait for it.
//!
//! A *flight* is one fetch under way; everyone who wants the block takes a *seat* in it and polls it. Nothing is
//! spawned, so this needs no runtime: the future is driven by whichever of its passengers is awake. Hence a caller
//! that is cancelled fails nobody (the others go on polling), and when the last one leaves, the fetch stops with it.
//!
//! Always true: of one id, class and error type there is at most one flight to board; a flight that has landed,
//! well or badly, cannot be boarded any more; no future is polled or dropped under a lock.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    hash::{Hash, Hasher},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;

use crate::id::{BlockId, Class, IdHash};

const SHARDS: usize = 16;

/// All fetches under way.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    shards: [Mutex<HashMap<FlightKey, Flight, IdHash>>; SHARDS],
    serial: AtomicU64,
}

/// What identifies a flight. The error type is a part of it, since a waiter gets the fetch's own error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FlightKey {
    id: BlockId,
    class: Class,
    error: TypeId,
}

/// A place in a flight: a future of what it brings. Dropping it leaves the flight.
pub(crate) struct Seat<E: Clone> {
    flights: Arc<Flights>,
    key: FlightKey,
    serial: u64,
    fetch: Shared<BoxFuture<'static, Result<Bytes, E>>>,
}

/// What became of a new flight.
pub(crate) enum Boarding<E: Clone> {
    /// It took off, or one was there already.
    Seat(Seat<E>),
    /// It was not needed: the block has arrived in the meantime.
    Here(Bytes),
}

#[derive(Debug)]
struct Flight {
    serial: u64,
    seats: usize,
    /// The `Shared` of [`Seat`], its error type erased; `FlightKey::error` says what it is.
    fetch: Box<dyn Any + Send + Sync>,
}

impl Flights {
    /// A number for a new flight, by which it can [`land`](Self::land) itself.
    pub(crate) fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Relaxed)
    }

    /// A seat in the flight of `key`, if there is one.
    pub(crate) fn join<E: Clone + Send + Sync + 'static>(
        self: &Arc<Self>,
        key: FlightKey,
    ) -> Option<Seat<E>> {
        let mut flights = self.shard(&key).lock();
        self.seat(flights.get_mut(&key)?, key)
    }

    /// Starts `fetch` as the flight of `key`, unless one is under way by now, or `arrived` finds the block.
    ///
    /// `arrived` is asked under the lock under which flights land: whoever missed the block before and finds no
    /// flight now would otherwise fetch again what has just landed.
    pub(crate) fn board<E: Clone + Send + Sync + 'static>(
        self: &Arc<Self>,
        key: FlightKey,
        serial: u64,
        fetch: BoxFuture<'static, Result<Bytes, E>>,
        arrived: impl FnOnce() -> Option<Bytes>,
    ) -> Boarding<E> {
        // Declared before the guard, so that a fetch that is not needed is dropped after the lock is released.
        let fetch = fetch.shared();
        let mut flights = self.shard(&key).lock();
        if let Some(seat) = flights.get_mut(&key).and_then(|flight| self.seat(flight, key)) {
            return Boarding::Seat(seat);
        }
        if let Some(bytes) = arrived() {
            return Boarding::Here(bytes);
        }
        flights.insert(key, Flight { serial, seats: 1, fetch: Box::new(fetch.clone()) });
        Boarding::Seat(Seat { flights: self.clone(), key, serial, fetch })
    }

    /// Ends the flight, at the last act of its fetch: nobody can join it after this.
    pub(crate) fn land(&self, key: &FlightKey, serial: u64) {
        let mut flights = self.shard(key).lock();
        let landed = match flights.get(key) {
            Some(flight) if flight.serial == serial => flights.remove(key),
            _ => None,
        };
        drop(flights);
        drop(landed);
    }

    fn seat<E: Clone + Send + Sync + 'static>(
        self: &Arc<Self>,
        flight: &mut Flight,
        key: FlightKey,
    ) -> Option<Seat<E>> {
        let fetch = flight.fetch.downcast_ref::<Shared<BoxFuture<'static, Result<Bytes, E>>>>()?.clone();
        flight.seats += 1;
        Some(Seat { flights: self.clone(), key, serial: flight.serial, fetch })
    }

    fn leave(&self, key: &FlightKey, serial: u64) {
        let mut flights = self.shard(key).lock();
        let mut empty = None;
        if let Some(flight) = flights.get_mut(key)
            && flight.serial == serial
        {
            flight.seats -= 1;
            if flight.seats == 0 {
                empty = flights.remove(key);
            }
        }
        drop(flights);
        drop(empty);
    }

    fn shard(&self, key: &FlightKey) -> &Mutex<HashMap<FlightKey, Flight, IdHash>> {
        &self.shards[(key.id.hash64() >> 40) as usize % SHARDS]
    }
}

impl FlightKey {
    /// The flight of `id` whose fetch fails with an `E`.
    pub(crate) fn new<E: 'static>(id: BlockId, class: Class) -> Self {
        Self { id, class, error: TypeId::of::<E>() }
    }
}

impl Hash for FlightKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl<E: Clone> Future for Seat<E> {
    type Output = Result<Bytes, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.fetch.poll_unpin(context)
    }
}

impl<E: Clone> Drop for Seat<E> {
    fn drop(&mut self) {
        self.flights.leave(&self.key, self.serial);
    }
}
