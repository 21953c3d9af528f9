//! Dispatch: from a signature to the function that serves it, in constant time.
//!
//! The table is a perfect hash table, built at compile time by hash and displace from the signatures of all interfaces
//! that a type serves. A lookup is one load from each of two arrays.

use crate::{
    abi::{Function, Transport, signature},
    error::{CallError, ErrorKind},
    types::descriptor::Declared,
};

use super::Peer;

/// A type that serves interfaces to the other side of a connection. Only [`serve!`](crate::serve) implements it; `()`
/// serves nothing. Handlers may run on several threads at once, and nested in each other, with the same `&self`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not declare what it serves",
    label = "`vmffi::serve!` is missing for this type",
    note = "write `vmffi::serve!({Self}: Interface)`, or `vmffi::serve!({Self}; calls Interface)` if it serves nothing; `()` serves and calls nothing"
)]
pub trait Serve: Send + Sync + Sized + 'static {
    /// The functions that the type serves.
    const TABLE: &'static Table<Self>;
    /// The contract: what the type serves and calls, in the format of the ABI, "Contracts".
    const CONTRACT: &'static [u8];
}

impl Serve for () {
    const TABLE: &'static Table<Self> = &Table { slots: &[Entry::EMPTY], displace: &[0], seed: 1 };
    const CONTRACT: &'static [u8] = crate::contract::NOTHING;
}

/// The functions of an interface. [`ffi_interface!`](crate::ffi_interface) implements it for `dyn Interface`.
pub trait Interface {
    /// The functions, in the order of the declaration.
    const FUNCTIONS: &'static [Declared];
}

/// The functions of an interface, as `S` serves them. [`ffi_interface!`](crate::ffi_interface) implements it for
/// `dyn Interface`.
pub trait Implements<S: 'static>: Interface {
    /// The entries of the functions, in the same order.
    const ENTRIES: &'static [Entry<S>];
}

/// A function of a dispatch table: its signature, and the code that serves it.
#[derive(Debug)]
#[repr(C)]
pub struct Entry<S> {
    signature: u64,
    call: Call<S>,
}

/// The code that serves a function: validates the arguments in the transport, calls the handler, returns the transport
/// of the answer, and writes its status if that is not 0.
pub type Call<S> = fn(&S, &Peer, Transport, &mut u64) -> Transport;

impl<S> Clone for Entry<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Entry<S> {}

impl<S> Entry<S> {
    /// An empty slot. Its signature, 0, is reserved, but a caller may send it, and gets
    /// [`UnknownFunction`](ErrorKind::UnknownFunction).
    #[doc(hidden)]
    pub const EMPTY: Self = Self {
        signature: 0,
        call: |_, peer, _, status| {
            *status = peer.endpoint().refuse(CallError::new(ErrorKind::UnknownFunction));
            Transport::EMPTY
        },
    };

    /// # Safety
    ///
    /// `call` validates each word of its call once, as the parameters that `function` declares, and answers with words
    /// that it has lent for this answer, as the result that `function` declares. A loopback, in which both sides are
    /// one program, relies on that.
    #[doc(hidden)]
    #[must_use]
    pub const unsafe fn new(function: &'static Function, call: Call<S>) -> Self {
        Self { signature: function.signature, call }
    }
}

/// The number that stands for an empty slot, and for the end of a list.
const NONE: u16 = u16::MAX;

/// The dispatch table of a type: all functions that it serves, each in its slot of the index.
#[derive(Debug)]
#[repr(C)]
pub struct Table<S: 'static> {
    slots: &'static [Entry<S>],
    displace: &'static [u16],
    seed: u64,
}

impl<S> Clone for Table<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Table<S> {}

impl<S> Table<S> {
    #[doc(hidden)]
    #[must_use]
    pub const fn new<const B: usize, const M: usize>(
        slots: &'static [Entry<S>; M],
        index: &'static Index<B, M>,
    ) -> Self {
        const { assert!(B.is_power_of_two() && M.is_power_of_two()) };
        Self { slots, displace: &index.displace, seed: index.seed }
    }

    /// The entry for a signature.
    #[inline]
    fn find(&self, signature: u64) -> Option<&Entry<S>> {
        let bucket = signature as usize & (self.displace.len() - 1);
        // SAFETY: the length is a power of two, which `new` asserts and `<() as Serve>::TABLE` satisfies with 1. So the
        // mask keeps `bucket` below the length.
        let displace = *unsafe { self.displace.get_unchecked(bucket) };
        let slot = slot_of(signature, self.seed, displace, self.slots.len());
        // SAFETY: the number of slots is a power of two for the same reason, and `slot_of` masks its result with that
        // number less 1.
        let entry = unsafe { self.slots.get_unchecked(slot) };
        (entry.signature == signature).then_some(entry)
    }

    /// Whether the type serves the function with this signature.
    #[must_use]
    pub fn has(&self, signature: u64) -> bool {
        signature >= signature::FIRST_FREE && self.find(signature).is_some()
    }

    /// Calls the function with this signature; `None` if there is none. Writes the status if that is not 0.
    #[inline]
    pub(crate) fn call(
        &self,
        server: &S,
        peer: &Peer,
        signature: u64,
        transport: Transport,
        status: &mut u64,
    ) -> Option<Transport> {
        self.find(signature).map(|entry| (entry.call)(server, peer, transport, status))
    }
}

/// The index of a table with `B` buckets and `M` slots, both powers of two: the displacement of each bucket, and the
/// number of the function in each slot.
#[doc(hidden)]
#[derive(Debug)]
pub struct Index<const B: usize, const M: usize> {
    seed: u64,
    displace: [u16; B],
    slots: [u16; M],
}

#[doc(hidden)]
#[must_use]
pub const fn buckets(functions: usize) -> usize {
    let half = functions.next_power_of_two() / 2;
    if half == 0 { 1 } else { half }
}

#[doc(hidden)]
#[must_use]
pub const fn slots(functions: usize) -> usize {
    (functions * 2).next_power_of_two()
}

/// The slot of a signature: its hash plus the displacement of its bucket, modulo `slots`, a power of two.
#[inline]
const fn slot_of(signature: u64, seed: u64, displace: u16, slots: usize) -> usize {
    let mixed = (signature.wrapping_mul(seed) >> 32) as usize;
    mixed.wrapping_add(displace as usize) & (slots - 1)
}

impl<const B: usize, const M: usize> Index<B, M> {
    /// Finds a displacement for each bucket that puts all its signatures into free slots, the largest buckets first.
    ///
    /// # Panics
    ///
    /// At compile time: two functions have the same signature, or one has a reserved signature.
    #[doc(hidden)]
    #[must_use]
    pub const fn build<const N: usize>(functions: &[Function; N]) -> Self {
        assert!(N < NONE as usize, "more functions than a table can hold");
        let mut head = [NONE; B];
        let mut next = [NONE; N];
        let mut count = [0_u16; B];
        let mut most = 0;
        let mut i = 0;
        while i < N {
            let signature = functions[i].signature;
            if signature < signature::FIRST_FREE {
                fail("the signature of this function is reserved, rename it: ", &functions[i]);
            }
            let bucket = signature as usize & (B - 1);
            let mut j = head[bucket];
            while j != NONE {
                if functions[j as usize].signature == signature {
                    fail("two functions have the same signature, rename one: ", &functions[i]);
                }
                j = next[j as usize];
            }
            next[i] = head[bucket];
            head[bucket] = i as u16;
            count[bucket] += 1;
            if count[bucket] > most {
                most = count[bucket];
            }
            i += 1;
        }
        let mut seed = 1_u64;
        loop {
            let mut displace = [0; B];
            let mut slots = [NONE; M];
            if Self::fill(functions, seed, &head, &next, &count, most, &mut displace, &mut slots) {
                return Self { seed, displace, slots };
            }
            seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            assert!(seed != 1, "found no perfect hash for the functions: rename one of them");
        }
    }

    /// Fills the slots with one seed. Returns false if a bucket does not fit.
    #[allow(clippy::too_many_arguments, reason = "a loop taken out of its only caller")]
    const fn fill<const N: usize>(
        functions: &[Function; N],
        seed: u64,
        head: &[u16; B],
        next: &[u16; N],
        count: &[u16; B],
        most: u16,
        displace: &mut [u16; B],
        slots: &mut [u16; M],
    ) -> bool {
        let mut size = most;
        while size > 0 {
            let mut bucket = 0;
            while bucket < B {
                if count[bucket] == size {
                    let mut d = 0_u16;
                    loop {
                        let mut j = head[bucket];
                        while j != NONE {
                            let slot = slot_of(functions[j as usize].signature, seed, d, M);
                            if slots[slot] != NONE {
                                break;
                            }
                            slots[slot] = j;
                            j = next[j as usize];
                        }
                        if j == NONE {
                            displace[bucket] = d;
                            break;
                        }
                        // Remove the signatures of this bucket, and try the next displacement.
                        let mut k = head[bucket];
                        while k != j {
                            slots[slot_of(functions[k as usize].signature, seed, d, M)] = NONE;
                            k = next[k as usize];
                        }
                        if d as usize == M - 1 || d == u16::MAX {
                            return false;
                        }
                        d += 1;
                    }
                }
                bucket += 1;
            }
            size -= 1;
        }
        true
    }
}

/// Fails the compilation with a message that names a function.
const fn fail(why: &str, function: &Function) -> ! {
    let text = crate::types::const_text::Text::new()
        .str(why)
        .str(function.interface)
        .str("::")
        .str(function.name);
    panic!("{}", text.get())
}

#[doc(hidden)]
#[must_use]
pub const fn total(parts: &[&[Declared]]) -> usize {
    let mut sum = 0;
    let mut i = 0;
    while i < parts.len() {
        sum += parts[i].len();
        i += 1;
    }
    sum
}

#[doc(hidden)]
#[must_use]
pub const fn join_functions<const N: usize>(parts: &[&[Declared]]) -> [Function; N] {
    let mut all = [Declared::NOBODY.function; N];
    let (mut n, mut i) = (0, 0);
    while i < parts.len() {
        let mut j = 0;
        while j < parts[i].len() {
            all[n] = parts[i][j].function;
            n += 1;
            j += 1;
        }
        i += 1;
    }
    all
}

/// Puts the entries of all interfaces, concatenated in order, into their slots.
#[doc(hidden)]
#[must_use]
pub const fn join_entries<S, const B: usize, const M: usize>(
    parts: &[&[Entry<S>]],
    index: &Index<B, M>,
) -> [Entry<S>; M] {
    let mut all = [Entry::EMPTY; M];
    let mut slot = 0;
    while slot < M {
        let mut nth = index.slots[slot] as usize;
        let mut i = 0;
        while nth != NONE as usize && i < parts.len() {
            if nth < parts[i].len() {
                all[slot] = parts[i][nth];
                break;
            }
            nth -= parts[i].len();
            i += 1;
        }
        slot += 1;
    }
    all
}

/// Implements [`Serve`](crate::Serve) for a type: declares the interfaces that it serves, and the interfaces of the
/// other side that it calls.
///
/// Two sides can be connected only if each serves what the other calls; otherwise connecting fails with an error that
/// says what is missing or different ([`contract`](crate::contract)). A function that is declared `#[optional]` may be
/// missing. Declaring calls is optional: a call to a function that the other side does not serve fails with
/// [`ErrorKind::UnknownFunction`](crate::ErrorKind::UnknownFunction).
///
/// ```
/// # use vmffi::{CallError, Peer};
/// vmffi::ffi_interface! {
///     pub interface Clock { fn now() -> u64; }
///     pub interface Log { fn line(level: u8); }
///     pub interface Screen { fn clear(); }
/// }
///
/// struct Machine;
/// impl Clock for Machine {
///     fn now(&self, _: &Peer) -> Result<u64, CallError> { Ok(7) }
/// }
/// impl Log for Machine {
///     fn line(&self, _: &Peer, _level: u8) -> Result<(), CallError> { Ok(()) }
/// }
///
/// vmffi::serve!(Machine: Clock, Log; calls Screen);
/// ```
///
/// A side that only calls uses `serve!(Guest; calls Clock)`. For a generic type, the parameters come first:
/// `serve!([T: Store + 'static] Disk<T>: Files)`. Two functions with the same signature are a compile error.
#[macro_export]
macro_rules! serve {
    ([$($generics:tt)*] $type:ty $(: $($interface:path),+ $(,)?)? $(; calls $($called:path),+ $(,)?)?) => {
        const _: () = {
            const __FUNCTIONS: &[&[$crate::__private::descriptor::Declared]] =
                &[$($( <dyn $interface as $crate::__private::dispatch::Interface>::FUNCTIONS ),+)?];
            const __SIDES: $crate::contract::Sides = $crate::contract::Sides {
                serves: __FUNCTIONS,
                calls: &[$($( <dyn $called as $crate::__private::dispatch::Interface>::FUNCTIONS ),+)?],
            };
            static __CONTRACT: [u8; $crate::contract::len(__SIDES)] = $crate::contract::bytes(__SIDES);
            const __N: usize = $crate::__private::dispatch::total(__FUNCTIONS);
            static __INDEX: $crate::__private::dispatch::Index<
                { $crate::__private::dispatch::buckets(__N) },
                { $crate::__private::dispatch::slots(__N) },
            > = $crate::__private::dispatch::Index::build::<__N>(
                &$crate::__private::dispatch::join_functions(__FUNCTIONS),
            );
            impl<$($generics)*> $crate::Serve for $type {
                const TABLE: &'static $crate::__private::dispatch::Table<Self> =
                    &$crate::__private::dispatch::Table::new(
                        &const {
                            $crate::__private::dispatch::join_entries(
                                &[$($(
                                    <dyn $interface as $crate::__private::dispatch::Implements<Self>>::ENTRIES
                                ),+)?],
                                &__INDEX,
                            )
                        },
                        &__INDEX,
                    );
                const CONTRACT: &'static [u8] = &__CONTRACT;
            }
        };
    };
    ($type:ty : $($interface:path),+ $(,)? $(; calls $($called:path),+ $(,)?)?) => {
        $crate::serve! { [] $type : $($interface),+ $(; calls $($called),+)? }
    };
    ($type:ty ; calls $($called:path),+ $(,)?) => { $crate::serve! { [] $type ; calls $($called),+ } };
    ($($other:tt)*) => { $crate::__private::core::compile_error! {
        "write `serve!(Server: Interface, Other)`, with `; calls Third` behind it for what the server calls, \
         or `serve!([T: Bound + 'static] Server<T>: Interface)`"
    } };
}
