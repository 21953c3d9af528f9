//! The host's end of a connection: runs a vCPU from trap to trap, serves its hypercalls, and makes
//! upcalls into it.
//!
//! What a virtual machine monitor has to bring is a [`Vcpu`] and the memory of the region. The
//! [guide](crate::guide::host) shows both.

use std::{
    boxed::Box,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    abi::{Answer, Registers, Side, Transport, answer, signature, trap},
    contract::Mismatch,
    dispatch::Serve,
    error::{CallError, ConnectError, RegionError, Why},
    meet,
    memory::{Layout, Memory},
    owned::{Fixed, MemoryRef, Owned},
    peer::{Core, Far, Lane, Link, MAX_DEPTH, Observer, Peer, Server},
};

/// A virtual processor that runs until it traps.
pub trait Vcpu: Send {
    /// Completes the trap that is pending, if there is one, with `answer`, and runs to the next: the
    /// four words of the ABI's register table, in both directions. The first call has no answer: it
    /// starts the guest.
    ///
    /// # Errors
    ///
    /// [`Why::PeerDied`] where the guest can run no more, [`Why::Cancelled`] where it was stopped,
    /// [`Why::Protocol`] where it did something that is no trap. The connection is then dead: `run` is
    /// not called again.
    fn run(&mut self, answer: Option<Registers>) -> Result<Registers, Why>;
}

/// A vCPU, and whether it can still be run.
struct Cpu<V> {
    vcpu: V,
    state: State,
    /// Why the guest was not run any further.
    mismatch: Option<Mismatch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not started.
    New,
    /// In `READY`, or in the `RETURN` of the last upcall.
    Parked,
    /// It has ended itself with this status.
    Ended(u64),
    /// It can run no more.
    Dead(Why),
}

impl<V: Vcpu> Cpu<V> {
    fn run(&mut self, core: &Core, answer: Option<Registers>) -> Result<Registers, Why> {
        let why = match self.state {
            State::New | State::Parked => {
                return self.vcpu.run(answer).map_err(|why| self.fail(core, why));
            }
            State::Ended(_) => Why::PeerDied,
            State::Dead(why) => why,
        };
        // Where the guest has ended in an upcall, the handler that made it may have lent its result
        // since.
        self.end(core, self.state);
        Err(why)
    }

    /// The guest runs no more, and gives nothing back.
    fn end(&mut self, core: &Core, state: State) {
        self.state = state;
        if let Ok(arena) = core.memory.arena(Side::Host) {
            arena.take_back_all();
        }
    }

    fn fail(&mut self, core: &Core, why: Why) -> Why {
        self.end(core, State::Dead(why));
        why
    }

    /// Completes a trap, and serves hypercalls until one comes that is none. `depth` counts the calls
    /// under way in the guest.
    fn until_done(
        &mut self,
        core: &Core,
        depth: u32,
        first: Option<Registers>,
    ) -> Result<Registers, Why> {
        let mut trap = self.run(core, first)?;
        while trap.kind == trap::CALL {
            let done = if trap.word == signature::MEET && depth < MAX_DEPTH {
                match core.meet(trap.transport) {
                    Err(ConnectError::Contract(mismatch)) => {
                        self.mismatch = Some(mismatch);
                        return Err(self.fail(core, Why::VersionMismatch));
                    }
                    Err(error) => core.refuse(meet::refusal(error)),
                    Ok(()) => Answer::status(0),
                }
            } else {
                let lane = Nested { cpu: Mutex::new(self) };
                let lane_at = Lane((&raw const lane).cast());
                core.serve(trap.word, trap.transport, depth + 1, lane_at)
            };
            let answer =
                Registers { kind: answer::ANSWER, word: done.status, transport: done.transport };
            trap = self.run(core, Some(answer))?;
        }
        if trap.kind == trap::EXIT {
            self.end(core, State::Ended(trap.word));
            return Err(Why::PeerDied);
        }
        Ok(trap)
    }

    /// One upcall. `depth` counts it.
    fn upcall(
        &mut self,
        core: &Core,
        depth: u32,
        signature: u64,
        transport: Transport,
    ) -> Result<Answer, Why> {
        let call = Registers { kind: answer::UPCALL, word: signature, transport };
        let trap = self.until_done(core, depth, Some(call))?;
        if trap.kind == trap::RETURN {
            Ok(Answer { status: trap.word, transport: trap.transport })
        } else {
            Err(self.fail(core, Why::Protocol))
        }
    }
}

/// The vCPU whose hypercall a handler serves: what the handler's upcalls run on.
struct Nested<'c, V> {
    cpu: Mutex<&'c mut Cpu<V>>,
}

/// Calls by resuming the vCPU.
struct VcpuLink<V> {
    cpu: Mutex<Cpu<V>>,
    /// The thread that has `cpu`: it must not wait for itself.
    holder: AtomicUsize,
}

/// A number that no other thread has at the same time.
fn this_thread() -> usize {
    std::thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| (&raw const *here).addr())
}

impl<V: Vcpu> VcpuLink<V> {
    /// Runs `with` on the vCPU while it is parked, waiting for other threads' calls to end.
    fn parked<R, E>(
        &self,
        busy: impl FnOnce() -> E,
        with: impl FnOnce(&mut Cpu<V>) -> Result<R, E>,
    ) -> Result<R, E> {
        if self.holder.load(Ordering::Relaxed) == this_thread() {
            return Err(busy());
        }
        // No panic gets past `Core::serve`; one of the vCPU's leaves its own state to itself.
        let mut cpu = self.cpu.lock().unwrap_or_else(PoisonError::into_inner);
        /// Forgets the holder, whatever happens.
        struct Held<'h>(&'h AtomicUsize);
        impl Drop for Held<'_> {
            fn drop(&mut self) {
                self.0.store(0, Ordering::Relaxed);
            }
        }
        self.holder.store(this_thread(), Ordering::Relaxed);
        let _held = Held(&self.holder);
        with(&mut cpu)
    }

    fn upcall(
        &self,
        peer: &Peer,
        signature: u64,
        transport: Transport,
    ) -> Result<Answer, CallError> {
        let call = |cpu: &mut Cpu<V>| {
            // A guest that fails while it runs the call may have done some of it, and its loans have
            // ended with it; one that could not be run at all has done nothing.
            let runs = matches!(cpu.state, State::Parked | State::New);
            cpu.upcall(peer.core(), peer.depth() + 1, signature, transport).map_err(|why| {
                let error = CallError::new(why);
                if runs { error.reached_handler() } else { error }
            })
        };
        let busy = || CallError::new(Why::Busy);
        if !peer.lane.0.is_null() {
            // SAFETY: the peer is a handler's, which has it for the time of its call, and `lane` is
            // this link's `Nested` of that very call.
            let nested = unsafe { &*peer.lane.0.cast::<Nested<'_, V>>() };
            // The handler may have several threads, but the vCPU is one.
            let mut cpu = nested.cpu.try_lock().map_err(|_| busy())?;
            return call(&mut cpu);
        }
        self.parked(busy, |cpu| if cpu.state == State::New { Err(busy()) } else { call(cpu) })
    }
}

impl<V: Vcpu> Far for Arc<VcpuLink<V>> {
    fn call(&self, peer: &Peer, signature: u64, transport: Transport) -> Answer {
        self.upcall(peer, signature, transport)
            .unwrap_or_else(|error| Answer::status(error.status()))
    }
}

/// What a guest has come to when it stops running by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// It waits for upcalls.
    Ready,
    /// It has ended, with this status: 0 for a good end.
    Exited(u64),
}

/// A host's end of a connection with one vCPU.
pub struct Host<V> {
    peer: Peer,
    core: Fixed<Core>,
    link: Arc<VcpuLink<V>>,
}

impl<V: Vcpu + 'static> Host<V> {
    /// Lays out a region of `layout.len()` bytes from `base` on and connects `vcpu`, whose guest will
    /// find it there; nothing runs yet.
    ///
    /// - `len` is how much there is from `base` on, at least `layout.len()`; `base` is a multiple of
    ///   [`PAGE`](crate::PAGE).
    /// - `keep` owns that memory: it is dropped when host and handles are, and a handler may keep handles
    ///   for longer than this host lives.
    /// - `server` serves the guest's calls.
    /// - `observer` is told of each call that the host refuses or fails, on the thread that serves it: with
    ///   the function and the bad field, where they are known. A panic in it is caught and ignored.
    ///
    /// # Safety
    ///
    /// `base` is valid for reads and writes of `len` bytes until `keep` is dropped, and no Rust
    /// reference covers them. The guest cannot write to the host's arena.
    ///
    /// # Errors
    ///
    /// What is wrong with the memory, and [`RegionError::OutOfMemory`].
    pub unsafe fn new(
        layout: Layout,
        base: *mut u8,
        len: u64,
        keep: Box<dyn Send + Sync>,
        server: impl Serve,
        vcpu: V,
        observer: Option<Box<Observer>>,
    ) -> Result<Self, RegionError> {
        let books = [None, Some(Memory::new_books(&layout, Side::Host)?)];
        // SAFETY: the caller's promise; the books are new.
        let memory = unsafe { Memory::new(base, len, layout, books, keep.into()) }?;
        // SAFETY: the memory has a page and more.
        unsafe { layout.write_header(base) };
        let cpu = Mutex::new(Cpu { vcpu, state: State::New, mismatch: None });
        let link = Arc::new(VcpuLink { cpu, holder: AtomicUsize::new(0) });
        let core = Fixed::new(|_| Core {
            memory: MemoryRef::Counted(Arc::new(memory)),
            side: Side::Host,
            server: Server::new(Owned::Boxed(Box::new(server))),
            link: Link::Far(Owned::Boxed(Box::new(link.clone()))),
            observer: observer.map(Owned::Boxed),
        });
        // SAFETY: the core stays in its place for as long as the host, and the peer in it, live.
        let peer = unsafe { Peer::top(core.address()) };
        Ok(Self { peer, core, link })
    }

    /// Starts the guest, or lets a parked one go on, and serves its hypercalls, on this thread, until it
    /// waits for upcalls (again) or ends. It takes as long as the guest does.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Contract`] where guest and host do not fit together: then the guest is run no
    /// further. Else [`Why::Busy`] in a handler of this guest, or why it can run no more.
    pub fn run(&self) -> Result<Ran, ConnectError> {
        let failed = |why| CallError::new(why).on(Side::Guest).into();
        self.link.parked(
            || failed(Why::Busy),
            |cpu| {
                let go_on =
                    Registers { kind: answer::ANSWER, word: 0, transport: Transport::EMPTY };
                let answer = (cpu.state != State::New).then_some(go_on);
                match cpu.until_done(&self.core, 0, answer) {
                    Ok(trap) if trap.kind == trap::READY => {
                        cpu.state = State::Parked;
                        Ok(Ran::Ready)
                    }
                    Ok(_) => Err(failed(cpu.fail(&self.core, Why::Protocol))),
                    Err(why) => match (cpu.state, &cpu.mismatch) {
                        (State::Ended(status), _) => Ok(Ran::Exited(status)),
                        (_, Some(mismatch)) => Err(mismatch.clone().into()),
                        _ => Err(failed(why)),
                    },
                }
            },
        )
    }

    /// The guest: calls through it are upcalls, on a parked vCPU. They wait while another thread is in
    /// [`run`](Self::run) or in a call; before the first `run`, and in a handler of this guest, they are
    /// [`Why::Busy`]. A handler uses the [`Peer`] that it got instead.
    #[must_use]
    pub fn guest(&self) -> &Peer {
        &self.peer
    }
}

impl<V> fmt::Debug for Host<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("peer", &self.peer).finish_non_exhaustive()
    }
}
