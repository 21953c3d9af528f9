//! From a signature to the function that serves it, at the same cost for any number of functions.
//!
//! The table is built at compile time: a hash-and-displace index over the signatures of all the
//! interfaces that one type serves. Looking one up is a load from each of two arrays.

use crate::{
    abi::{Function, Transport, signature},
    error::{CallError, Why},
    peer::Peer,
    shape::Declared,
};

/// A type that serves interfaces: what a side gives to the other. [`serve!`](crate::serve) implements
/// it, and nobody else does; `()` serves nothing. Its methods take `&self` from several threads at once,
/// and from within each other.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what it serves",
    label = "not a side of a connection",
    note = "write `vmffi::serve!({Self}: Interface)`, or `vmffi::serve!({Self}; calls Interface)` where it serves nothing; `()` serves and calls nothing"
)]
pub trait Serve: Send + Sync + Sized + 'static {
    /// The functions that the type serves.
    const TABLE: &'static Table<Self>;
    /// What the type serves and calls, for the other side (ABI, "Contracts").
    const CONTRACT: &'static [u8];
}

impl Serve for () {
    const TABLE: &'static Table<Self> = &Table { slots: &[Entry::EMPTY], displace: &[0], seed: 1 };
    const CONTRACT: &'static [u8] = crate::contract::NOTHING;
}

/// An interface as such, whoever serves it. Implemented by the declaration, for `dyn Interface`.
pub trait Interface {
    /// The interface's functions, in the order of the declaration.
    const FUNCTIONS: &'static [Declared];
}

/// An interface as `S` serves it. Implemented by the declaration, for `dyn Interface`.
pub trait Implements<S: 'static>: Interface {
    /// The same functions in the same order, and what to do when they are called.
    const ENTRIES: &'static [Entry<S>];
}

/// One function of a table.
#[derive(Debug)]
#[repr(C)]
pub struct Entry<S> {
    signature: u64,
    call: Call<S>,
}

/// What to do when a function is called: returns what the answer carries, in registers, and writes
/// its status where that is not 0.
pub type Call<S> = fn(&S, &Peer, Transport, &mut u64) -> Transport;

impl<S> Clone for Entry<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Entry<S> {}

impl<S> Entry<S> {
    /// In a slot of no function. No function has its signature, but a caller may send it.
    #[doc(hidden)]
    pub const EMPTY: Self = Self {
        signature: 0,
        call: |_, peer, _, status| {
            *status = peer.core().refuse(CallError::new(Why::UnknownFunction)).status;
            Transport::EMPTY
        },
    };

    /// # Safety
    ///
    /// In a loopback both sides are one program. Therefore `call` judges the words of its call as `function` declares its
    /// parameters, each once, and answers with words that it has lent for that, as `function` declares its result.
    #[doc(hidden)]
    #[must_use]
    pub const unsafe fn new(function: &'static Function, call: Call<S>) -> Self {
        Self { signature: function.signature, call }
    }
}

/// "No function", in an index.
const NONE: u16 = u16::MAX;

/// All functions that a type serves, each in the slot that the index has found for it.
#[derive(Debug)]
#[repr(C)]
pub struct Table<S: 'static> {
    slots: &'static [Entry<S>],
    displace: &'static [u16],
    seed: u64,
}

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
        // SAFETY: the length is a power of two, as `new` asserts, so `bucket` is below it.
        let displace = *unsafe { self.displace.get_unchecked(bucket) };
        let slot = place(signature, self.seed, displace, self.slots.len());
        // SAFETY: as above; `place` keeps below the length.
        let entry = unsafe { self.slots.get_unchecked(slot) };
        (entry.signature == signature).then_some(entry)
    }

    /// Whether the type serves the function with this signature.
    #[must_use]
    pub fn has(&self, signature: u64) -> bool {
        signature >= signature::FIRST_FREE && self.find(signature).is_some()
    }

    /// Calls the function with this signature, if there is one. Writes a status that is not 0.
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

/// The index of a table with `B` buckets and `M` slots, both powers of two: which function is in
/// which slot.
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

/// The slot of a signature, of `slots`, which is a power of two: some of its bits, mixed, and moved on
/// by what its bucket says.
#[inline]
const fn place(signature: u64, seed: u64, displace: u16, slots: usize) -> usize {
    let mixed = (signature.wrapping_mul(seed) >> 32) as usize;
    mixed.wrapping_add(displace as usize) & (slots - 1)
}

impl<const B: usize, const M: usize> Index<B, M> {
    /// Finds, for each bucket of signatures, the displacement that puts all of them into free slots;
    /// the fullest buckets first, while there is much room.
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
                refuse("the signature of this function is reserved, rename it: ", &functions[i]);
            }
            let bucket = signature as usize & (B - 1);
            let mut j = head[bucket];
            while j != NONE {
                if functions[j as usize].signature == signature {
                    refuse("two functions have the same signature, rename one: ", &functions[i]);
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
            assert!(seed != 1, "no index found: rename a function");
        }
    }

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
                            let slot = place(functions[j as usize].signature, seed, d, M);
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
                        // Take out what this try has put in.
                        let mut k = head[bucket];
                        while k != j {
                            slots[place(functions[k as usize].signature, seed, d, M)] = NONE;
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

/// A compile error that names a function.
const fn refuse(why: &str, function: &Function) -> ! {
    let text =
        crate::text::Text::new().str(why).str(function.interface).str("::").str(function.name);
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

/// Puts the entries of all interfaces, one interface behind the other, into their slots.
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

/// Says which interfaces a type serves, and joins them into one table; and which interfaces of the
/// other side it calls.
///
/// When two sides are connected, each must serve what the other calls, or there is no connection but
/// an error that says what is missing or different ([`contract`](crate::contract)). A function that is
/// declared `#[optional]` may be missing. A side need not say what it calls; then a call to what is not
/// there fails with [`Why::UnknownFunction`](crate::Why::UnknownFunction).
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
/// A side that only calls says `serve!(Guest; calls Clock)`. A generic type brings its parameters
/// along: `serve!([T: Store + 'static] Disk<T>: Files)`. Two functions with the same signature are a
/// compile error.
#[macro_export]
macro_rules! serve {
    ([$($generics:tt)*] $type:ty $(: $($interface:path),+ $(,)?)? $(; calls $($called:path),+ $(,)?)?) => {
        const _: () = {
            const __FUNCTIONS: &[&[$crate::shape::Declared]] =
                &[$($( <dyn $interface as $crate::dispatch::Interface>::FUNCTIONS ),+)?];
            const __SIDES: $crate::contract::Sides = $crate::contract::Sides {
                serves: __FUNCTIONS,
                calls: &[$($( <dyn $called as $crate::dispatch::Interface>::FUNCTIONS ),+)?],
            };
            static __CONTRACT: [u8; $crate::contract::len(__SIDES)] = $crate::contract::bytes(__SIDES);
            const __N: usize = $crate::dispatch::total(__FUNCTIONS);
            static __INDEX: $crate::dispatch::Index<
                { $crate::dispatch::buckets(__N) },
                { $crate::dispatch::slots(__N) },
            > = $crate::dispatch::Index::build::<__N>(
                &$crate::dispatch::join_functions(__FUNCTIONS),
            );
            impl<$($generics)*> $crate::Serve for $type {
                const TABLE: &'static $crate::dispatch::Table<Self> =
                    &$crate::dispatch::Table::new(
                        &const {
                            $crate::dispatch::join_entries(
                                &[$($( <dyn $interface as $crate::dispatch::Implements<Self>>::ENTRIES ),+)?],
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
        "write `serve!(Server: Interface, Other)`, with `; calls Third` behind it for what the server calls, or `serve!([T: Bound + 'static] Server<T>: Interface)`"
    } };
}
