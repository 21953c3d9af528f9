//! The guest of the attacks: it executes a list of operations (`ops.rs`), among them those of no honest
//! guest. Every upcall passes such a list, whatever its signature. So the guest is an interpreter, and the host's
//! tests define the attacks and the results that they expect.
#![no_std]
#![no_main]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "riscv64.rs")]
#[cfg_attr(target_arch = "x86_64", path = "x86_64/mod.rs")]
mod native;
mod ops;

use core::{
    mem::replace,
    panic::PanicInfo,
    ptr::{with_exposed_provenance as from, with_exposed_provenance_mut as to},
};

use ops::{At, Base, Feed, Op};
use vmffi::{
    abi::{Boot, Registers, Transport, answer, pointer, signature, trap},
    arch::{NegotiatedTrap, Trap},
};

unsafe extern "C" {
    static _start: u8;
}

vmffi::memory_functions!();

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    native::undefined()
}

/// Parts of the standard library refer to these two functions, and never call them.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
/// See above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() {}

/// The list to execute before the guest is ready. The host finds it in the program's file by its mark, and writes a
/// list there; if its length is unset, the guest performs the usual handshake, with an empty contract.
#[repr(C)]
struct Script {
    mark: [u8; 16],
    len: u64,
    list: [u8; 300 << 10],
}

#[used]
static SCRIPT: Script = Script { mark: *b"attacks: script:", len: u64::MAX, list: [0; 300 << 10] };

/// Offsets of fields in the region's header (ABI, Region header R-2).
const GUEST_ARENA: u64 = 24;
const HOST_ARENA: u64 = 40;
const HOST_MARKS: u64 = 64;
/// The offset of the method to trap in the boot block (ABI, "Boot block").
const METHOD: u64 = 24;

/// Reads a word at any address: the host handles the fault.
fn load(at: u64) -> u64 {
    // SAFETY: none: an operation may end this guest. That holds for all accesses in this file.
    unsafe { from::<u64>(at as usize).read_unaligned() }
}

/// Reads a byte, and not one more.
fn load_byte(at: u64) -> u8 {
    // SAFETY: none, as above.
    unsafe { from::<u8>(at as usize).read_volatile() }
}

/// Writes bytes at any address.
fn store(at: u64, bytes: &[u8]) {
    for (nr, byte) in bytes.iter().enumerate() {
        // SAFETY: none, as above.
        unsafe { to::<u8>((at as usize).wrapping_add(nr)).write_volatile(*byte) }
    }
}

/// Writes the same byte to any addresses, in words where they are aligned.
fn fill(at: u64, len: u64, byte: u8) {
    let head = (at.wrapping_neg() & 7).min(len);
    (0..head).for_each(|nr| store(at.wrapping_add(nr), &[byte]));
    let word = u64::from_ne_bytes([byte; 8]);
    let tail = head + (len - head) / 8 * 8;
    (head..tail).step_by(8).for_each(|nr| set(at.wrapping_add(nr), word));
    (tail..len).for_each(|nr| store(at.wrapping_add(nr), &[byte]));
}

extern "C" fn enter(boot: u64) -> ! {
    let words = core::array::from_fn(|nr| load(boot + 8 * nr as u64));
    let Some(Boot { region, way, cpu: number, .. }) = Boot::from_words(words) else { panic!() };
    // SAFETY: the boot block comes from the host, and names a trap that it serves.
    let way = unsafe { NegotiatedTrap::new(way) };
    let last = Registers { kind: 0, word: 0, transport: Transport::EMPTY };
    let mut cpu = Cpu { way, boot, region, last, hold: false };
    if number == 0 {
        cpu.begin();
    }
    cpu.trap(Registers { kind: trap::READY, ..last }, &[]);
    loop {
        cpu.trap(Registers { kind: trap::EXIT, ..last }, &[]);
    }
}

/// A vCPU, and the state of its lists.
struct Cpu {
    way: NegotiatedTrap,
    boot: u64,
    region: u64,
    last: Registers,
    /// Do not release the current list.
    hold: bool,
}

impl Cpu {
    fn begin(&mut self) {
        // SAFETY: it reads a static. The host has changed the file, so the compiler must not assume the value.
        let len = unsafe { (&raw const SCRIPT.len).read_volatile() };
        if len != u64::MAX {
            let list = core::hint::black_box(&SCRIPT.list);
            let len = usize::try_from(len).unwrap_or(usize::MAX).min(list.len());
            let _: Option<Done> = self.list(&list[..len]);
            return;
        }
        // A contract without records.
        let at = load(self.region + GUEST_ARENA);
        store(self.region + at, &[0, 0]);
        let transport = Transport { primary: at, secondary: 2 };
        self.trap(Registers { kind: trap::CALL, word: signature::HANDSHAKE, transport }, &[]);
    }

    fn address(&self, At(base, offset): At) -> u64 {
        let base = match base {
            Base::Null => 0,
            Base::Region => self.region,
            Base::Code => (&raw const _start).expose_provenance() as u64,
            Base::Boot => self.boot,
        };
        base.wrapping_add(offset)
    }

    /// Traps, and serves the upcalls that come before the answer.
    fn trap(&mut self, out: Registers, inside: &[u8]) {
        let back = self.way.trap(out);
        self.answered(back, inside);
    }

    /// Serves the upcalls that come before an answer.
    fn answered(&mut self, mut back: Registers, inside: &[u8]) {
        while back.kind == answer::UPCALL {
            let before = replace(&mut self.hold, false);
            let Transport { primary, secondary } = back.transport;
            // Short lists are copied: a guest that forges marks may see its host reuse the block.
            let mut copy = [0_u8; 2048];
            let at = self.region + pointer::offset(primary);
            let list = match secondary {
                0 => inside,
                len if len <= copy.len() as u64 => {
                    let copy = &mut copy[..len as usize];
                    // SAFETY: the host has lent this many bytes.
                    unsafe { from::<u8>(at as usize).copy_to(copy.as_mut_ptr(), copy.len()) };
                    copy
                }
                // SAFETY: the host has lent this many bytes.
                len => unsafe { core::slice::from_raw_parts(from(at as usize), len as usize) },
            };
            let Done { status, transport } = self.list(list).unwrap_or(Done::GOOD);
            if secondary != 0 && !self.hold {
                self.release(primary);
            }
            self.hold = before;
            back = self.way.trap(Registers { kind: trap::RETURN, word: status, transport });
        }
        self.last = back;
    }

    /// Marks a block of the host as released (ABI, Release map M-2).
    fn release(&self, word: u64) {
        let (arena, marks) = (load(self.region + HOST_ARENA), load(self.region + HOST_MARKS));
        let granule = (pointer::offset(word) - arena) / 64;
        store(self.region + marks + granule, &[pointer::loan(word)]);
    }

    /// Executes a list, which may end its upcall.
    fn list(&mut self, list: &[u8]) -> Option<Done> {
        let mut feed = Feed::new(list);
        loop {
            match Op::take(&mut feed) {
                Op::End {} => return None,
                Op::Write { at, bytes } => store(self.address(at), bytes),
                Op::Fill { at, len, byte } => {
                    let at = self.address(at);
                    fill(at, len, byte as u8);
                }
                Op::Copy { to, from, len } => {
                    let (to, source) = (self.address(to), self.address(from));
                    for nr in 0..len {
                        let byte = load_byte(source.wrapping_add(nr));
                        store(to.wrapping_add(nr), &[byte]);
                    }
                }
                Op::Read { at } => self.last.transport.primary = load(self.address(at)),
                Op::Trap { kind, word, primary, secondary, inside } => {
                    let transport = Transport { primary, secondary };
                    self.trap(Registers { kind, word, transport }, inside);
                }
                Op::Save { at } => {
                    let Registers { kind, word, transport } = self.last;
                    let words = [kind, word, transport.primary, transport.secondary];
                    for (nr, word) in (0..).zip(words) {
                        store(self.address(at).wrapping_add(8 * nr), &word.to_le_bytes());
                    }
                }
                Op::Return { status, primary, secondary } => {
                    let transport = Transport { primary, secondary };
                    return Some(Done { status, transport });
                }
                Op::Strings { which, from, to, count, port, down } => {
                    let (from, to) = (self.address(from), self.address(to));
                    native::string(which, from, to, count, port, down != 0);
                }
                Op::Access { which, at, count } => native::access(which, self.address(at), count),
                Op::Hold {} => self.hold = true,
                Op::Repeat { count, list } => {
                    let mut done = 0;
                    while count == 0 || done < count {
                        if let Some(ended) = self.list(list) {
                            return Some(ended);
                        }
                        done += 1;
                    }
                }
                Op::Storm { at, len, seed, count, until } => {
                    let (at, until) = (self.address(at), self.address(until));
                    storm(at, len, seed, count, until);
                }
                Op::Flip { at, one, two, until } => {
                    let (at, until) = (self.address(at), self.address(until));
                    while look(until) == 0 {
                        (0..20).for_each(|_| {
                            set(at, one);
                            set(at, two);
                        });
                    }
                }
                Op::Wait { until } => {
                    let until = self.address(until);
                    while look(until) == 0 {
                        core::hint::spin_loop();
                    }
                }
                Op::Do { deed, at, value } => {
                    native::deed(deed, self.address(at), value, load(self.boot + METHOD));
                }
                Op::Jump { to, flags, stack, registers } => {
                    let mut words = [0; native::GENERAL];
                    for (word, bytes) in words.iter_mut().zip(registers.chunks(8)) {
                        let mut whole = [0; 8];
                        whole[..bytes.len()].copy_from_slice(bytes);
                        *word = u64::from_le_bytes(whole);
                    }
                    native::jump(words, self.address(to), flags, self.address(stack));
                }
                Op::Hash { at, len } => {
                    let at = self.address(at);
                    let add = |sum: u64, nr| {
                        (sum ^ load(at.wrapping_add(nr)))
                            .wrapping_mul(0x100_0000_01b3)
                            .rotate_left(29)
                    };
                    self.last.transport.primary = (0..len).step_by(8).fold(1, add);
                }
                Op::Framed { kind, word, frame } => {
                    let out = Registers { kind, word, transport: Transport::EMPTY };
                    let method = [METHOD, METHOD + 8].map(|at| load(self.boot + at));
                    let back = native::trap(out, self.address(frame), method);
                    self.answered(back, &[]);
                }
            }
        }
    }
}

/// The result of an upcall.
struct Done {
    status: u64,
    transport: Transport,
}

impl Done {
    const GOOD: Self = Self { status: 0, transport: Transport::EMPTY };
}

/// Reads a word that another vCPU may write.
fn look(at: u64) -> u64 {
    // SAFETY: none, as for all accesses here.
    unsafe { from::<u64>(at as usize).read_volatile() }
}

/// Writes a word that other vCPUs read.
fn set(at: u64, word: u64) {
    // SAFETY: none, as for all accesses here.
    unsafe { to::<u64>(at as usize).write_volatile(word) }
}

fn storm(at: u64, len: u64, seed: u64, count: u64, until: u64) {
    let (mut noise, mut done) = (seed | 1, 0);
    while (count == 0 || done < count) && look(until) == 0 {
        // xorshift64
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        // Mostly small bytes, since they are valid in more places.
        let word = if noise >> 62 == 0 { noise } else { noise & 0x0101_0101_0101_0101 };
        set(at.wrapping_add(((noise >> 8) % len.max(8)) & !7), word);
        done += 1;
    }
}
