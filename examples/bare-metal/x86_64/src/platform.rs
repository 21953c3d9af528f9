//! What a hypervisor has of its machine: a serial port to print to, and a way to end.

use core::{
    arch::asm,
    fmt::{self, Write},
    panic::PanicInfo,
};

/// The first serial port of a PC.
const SERIAL: u16 = 0x3f8;

/// The port of QEMU's device `isa-debug-exit`, which ends QEMU.
const EXIT: u16 = 0xf4;

/// Writes a byte to a port.
///
/// # Safety
///
/// The device at the port does not access memory.
unsafe fn write_port(port: u16, byte: u8) {
    // SAFETY: the caller knows the device; the instruction changes no register.
    unsafe { asm!("out dx, al", in("dx") port, in("al") byte, options(nostack, preserves_flags)) }
}

/// Reads a byte from a port.
///
/// # Safety
///
/// The device at the port does not access memory.
unsafe fn read_port(port: u16) -> u8 {
    let byte;
    // SAFETY: the caller knows the device; the instruction changes AL only.
    unsafe {
        asm!("in al, dx", in("dx") port, out("al") byte, options(nostack, preserves_flags));
    }
    byte
}

struct Serial;

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: the serial port does not access memory. Bit 5 of the line status says that it takes a byte.
            while unsafe { read_port(SERIAL + 5) } & 0x20 == 0 {}
            // SAFETY: the serial port does not access memory.
            unsafe { write_port(SERIAL, byte) };
        }
        Ok(())
    }
}

/// Prints a line.
pub fn print(line: fmt::Arguments<'_>) {
    let _ = writeln!(Serial, "{line}"); // the serial port returns no errors
}

/// Ends QEMU, with status 33 if `passed` and else 35.
pub fn exit(passed: bool) -> ! {
    let code: u32 = if passed { 0x10 } else { 0x11 };
    loop {
        // SAFETY: the device ends QEMU, and accesses no memory before. Where it does not exist, nothing happens.
        unsafe { asm!("out dx, eax", "hlt", in("dx") EXIT, in("eax") code, options(nostack)) };
    }
}

/// Prints a line, and ends the host as failed.
pub fn fail(line: fmt::Arguments<'_>) -> ! {
    print(line);
    exit(false)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    fail(format_args!("{info}"))
}
