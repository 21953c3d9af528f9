//! A scalar call as Hyperlight passes it: encoded with the function's name, written to a chain of its virtqueue, and
//! its answer likewise. Both sides are in this process, and nobody is notified.

use std::{
    cell::UnsafeCell,
    hint::black_box,
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use flatbuffers::FlatBufferBuilder;
use hyperlight_common::{
    flatbuffer_wrappers::{
        function_call::{FunctionCall, FunctionCallType},
        function_types::{FunctionCallResult, ParameterValue, ReturnType, ReturnValue},
        util::estimate_flatbuffer_capacity,
    },
    transport::{EncodedMessage, ExternalValues, MsgHeader, MsgKind},
    virtq::{
        BufferLease, BufferMap, Descriptor, Layout, MemOps, Notifier, QueueStats, Segments,
        SlotLayout, SlotPool, VirtqConsumer, VirtqProducer,
    },
};

use crate::measure::{Run, each};

const NAME: &str = "scalar";

fn called(x: u64) -> (FunctionCall, FlatBufferBuilder<'static>) {
    let parameters = vec![ParameterValue::ULong(x)];
    let builder = FlatBufferBuilder::with_capacity(estimate_flatbuffer_capacity(NAME, &parameters));
    let kind = FunctionCallType::Host;
    (FunctionCall::new(NAME.into(), Some(parameters), kind, ReturnType::ULong), builder)
}

/// What the host does with a decoded call.
fn serve(call: &FunctionCall) -> FunctionCallResult {
    match (call.function_name.as_str(), call.parameters.as_deref()) {
        (NAME, Some([ParameterValue::ULong(x)])) => {
            FunctionCallResult::new(Ok(ReturnValue::ULong(x.wrapping_add(1))))
        }
        _ => panic!("another call"),
    }
}

fn result(answer: FunctionCallResult) -> u64 {
    match answer.into_inner() {
        Ok(ReturnValue::ULong(x)) => x,
        _ => panic!("another result"),
    }
}

/// No bytes beside the encoded ones.
fn nothing() -> Segments {
    Segments::new([])
}

pub fn encoding() -> Run {
    #[inline(never)]
    fn host(call: &[u8], answer: &mut Vec<u8>) {
        let call = FunctionCall::decode(call, &mut nothing()).expect("a call");
        let mut builder = FlatBufferBuilder::new();
        let served = serve(&call);
        let bytes = served.encode(&mut builder, &mut ExternalValues::new()).expect("a result");
        answer.clear();
        answer.extend_from_slice(bytes);
    }
    #[inline(never)]
    fn guest(x: u64, answer: &mut Vec<u8>) -> u64 {
        let (call, mut builder) = called(x);
        host(call.encode(&mut builder, &mut ExternalValues::new()).expect("a call"), answer);
        result(FunctionCallResult::decode(answer, &mut nothing()).expect("a result"))
    }
    let mut answer = Vec::new();
    each(move || guest(black_box(7), &mut answer))
}

/// The size of a slot of the guest's pool, and their number.
const SLOT: usize = 256;
const SLOTS: usize = 16;

/// Shared memory, addressed by offset.
#[derive(Clone)]
struct Memory(Arc<UnsafeCell<Lines>>);

#[repr(align(4096))]
struct Lines(#[allow(dead_code, reason = "only addresses of it are used")] [u8; 8192]);

// SAFETY: no other thread of this program uses it; the trait bounds of `Mapping` ask for it.
unsafe impl Send for Memory {}

#[derive(Debug)]
struct Outside;

impl Memory {
    fn at(&self, address: u64, len: usize) -> Result<*mut u8, Outside> {
        let address = usize::try_from(address).map_err(|_| Outside)?;
        let end = address.checked_add(len).ok_or(Outside)?;
        if end > size_of::<Lines>() {
            return Err(Outside);
        }
        Ok(self.0.get().cast::<u8>().wrapping_add(address))
    }
}

// SAFETY: `at` checks the bounds. The memory is initialised, and aligned to pages.
unsafe impl MemOps for Memory {
    type Error = Outside;

    fn read(&self, address: u64, out: &mut [u8]) -> Result<(), Outside> {
        let from = self.at(address, out.len())?;
        // SAFETY: `at` has checked the bounds, and `out` is not in this memory.
        unsafe { out.as_mut_ptr().copy_from_nonoverlapping(from, out.len()) };
        Ok(())
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Outside> {
        let to = self.at(address, bytes.len())?;
        // SAFETY: `at` has checked the bounds, and `bytes` is not in this memory.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    fn load_acquire(&self, address: u64) -> Result<u16, Outside> {
        // SAFETY: `at` has checked the bounds; the queue's addresses are aligned.
        Ok(unsafe { AtomicU16::from_ptr(self.at(address, 2)?.cast()) }.load(Ordering::Acquire))
    }

    fn store_release(&self, address: u64, value: u16) -> Result<(), Outside> {
        // SAFETY: as for `load_acquire`.
        unsafe { AtomicU16::from_ptr(self.at(address, 2)?.cast()) }.store(value, Ordering::Release);
        Ok(())
    }

    unsafe fn as_slice(&self, address: u64, len: usize) -> Result<&[u8], Outside> {
        // SAFETY: `at` has checked the bounds; the caller promises that nobody writes there.
        Ok(unsafe { std::slice::from_raw_parts(self.at(address, len)?, len) })
    }

    unsafe fn as_mut_slice(&self, address: u64, len: usize) -> Result<&mut [u8], Outside> {
        // SAFETY: `at` has checked the bounds; the caller promises that nobody else uses these bytes.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.at(address, len)?, len) })
    }
}

impl BufferMap for Memory {
    type Mapping = Vec<u8>;

    unsafe fn map_buffer(&self, lease: BufferLease, written: usize) -> Result<Vec<u8>, Outside> {
        let mut bytes = vec![0; written];
        self.read(lease.allocation().addr, &mut bytes)?;
        Ok(bytes)
    }
}

struct Silent;

impl Notifier for Silent {
    fn notify(&self, _: QueueStats) {}
}

struct Queue {
    guest: VirtqProducer<Memory, Silent>,
    host: VirtqConsumer<Memory, Silent>,
}

impl Queue {
    fn new() -> Self {
        let memory = Memory(Arc::new(UnsafeCell::new(Lines([0; 8192]))));
        let count = NonZeroU16::new(16).expect("not 0");
        assert!(Layout::query_size(16) < 4096 && Descriptor::ALIGN <= 4096);
        // SAFETY: the first page holds so many descriptors, and lives as long as the queue.
        let layout = unsafe { Layout::from_base(0, count) }.expect("a layout");
        let pool = SlotPool::new(SlotLayout::new(4096, SLOT, SLOTS).expect("slots"));
        Self {
            guest: VirtqProducer::new(layout, memory.clone(), Silent, pool.expect("a pool")),
            host: VirtqConsumer::new(layout, memory, Silent),
        }
    }

    #[inline(never)]
    fn call(&mut self, x: u64) -> u64 {
        let (call, mut builder) = called(x);
        let mut beside = ExternalValues::new();
        let control = call.encode(&mut builder, &mut beside).expect("a call");
        let message = EncodedMessage::new(MsgKind::Request, 1, control, beside).expect("a message");
        let chain = self.guest.chain().readable(message.total_len()).writable(SLOT);
        let mut chain = chain.build().expect("free slots");
        for chunk in message.chunks() {
            chain.write_all(chunk).expect("space");
        }
        self.guest.submit(chain).expect("a free descriptor");
        self.serve();
        let answer = self.guest.poll().expect("a queue").and_then(|used| used.into_segments());
        let answer = answer.expect("an answer").into_bytes();
        let (header, control) = answer.split_at(MsgHeader::SIZE);
        let header = MsgHeader::from_bytes(header).expect("a header");
        assert!(header.kind == MsgKind::Response && header.payload_len as usize == control.len());
        result(FunctionCallResult::decode(control, &mut nothing()).expect("a result"))
    }

    #[inline(never)]
    fn serve(&mut self) {
        let (mut chain, reply) = self.host.poll(4096).expect("a queue").expect("a call");
        let mut header = [0; MsgHeader::SIZE];
        chain.read_exact(&mut header).expect("a header");
        let header = MsgHeader::from_bytes(&header).expect("a header");
        assert!(header.kind == MsgKind::Request);
        let mut control = vec![0; header.payload_len as usize];
        chain.read_exact(&mut control).expect("a call");
        let call = FunctionCall::decode(&control, &mut chain).expect("a call");

        let (mut builder, mut beside) = (FlatBufferBuilder::new(), ExternalValues::new());
        let served = serve(&call);
        let control = served.encode(&mut builder, &mut beside).expect("a result");
        let message = EncodedMessage::new(MsgKind::Response, header.cid, control, beside);
        let mut reply = reply.into_writable().ok().expect("space for an answer");
        for chunk in message.expect("a message").chunks() {
            reply.write_all(chunk).expect("space");
        }
        self.host.complete(chain, reply).expect("a queue");
    }
}

pub fn virtqueue() -> Run {
    let mut queue = Queue::new();
    each(move || queue.call(black_box(7)))
}
