#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| vmffi_fuzz::packed::run(data));
