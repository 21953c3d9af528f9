//! Functions that an interface does not take.

vmffi::ffi_interface! {
    pub interface Generic {
        fn good(value: u32);
        fn bad<T>(value: T);
    }
}

vmffi::ffi_interface! {
    pub interface Lifetime { fn f<'a>(value: u32); }
}

vmffi::ffi_interface! {
    pub interface Bound { fn f<T: Copy>(value: u32); }
}

vmffi::ffi_interface! {
    pub interface Where { fn f(value: u32) where u32: Copy; }
}

vmffi::ffi_interface! {
    pub interface Async { async fn f(value: u32); }
}

vmffi::ffi_interface! {
    pub interface Unsafe { unsafe fn f(value: u32); }
}

vmffi::ffi_interface! {
    pub interface Public { pub fn f(value: u32); }
}

vmffi::ffi_interface! {
    pub interface ConstFn { const fn f(value: u32); }
}

vmffi::ffi_interface! {
    pub interface Extern { extern "C" fn f(value: u32); }
}

vmffi::ffi_interface! {
    pub interface Value { fn f(self, value: u32); }
}

vmffi::ffi_interface! {
    pub interface Reference { fn f(&self); }
}

vmffi::ffi_interface! {
    pub interface Mutable { fn f(&mut self, value: u32); }
}

vmffi::ffi_interface! {
    pub interface Body {
        fn good(value: u32);
        fn bad(value: u32) -> u32 { value }
    }
}

vmffi::ffi_interface! {
    pub interface Semicolon {
        fn first(value: u32)
        fn second(value: u32);
    }
}

vmffi::ffi_interface! {
    pub interface LastSemicolon {
        fn first(value: u32);
        fn second(value: u32) -> u32
    }
}

vmffi::ffi_interface! {
    pub interface NoType { fn f(value); }
}

vmffi::ffi_interface! {
    pub interface NoColon { fn f(value u32); }
}

vmffi::ffi_interface! {
    pub interface NoName { fn f(u32); }
}

vmffi::ffi_interface! {
    pub interface Pattern { fn f((a, b): Pair); }
}

vmffi::ffi_interface! {
    pub interface Mut { fn f(mut value: u32); }
}

vmffi::ffi_interface! {
    pub interface Underscore { fn f(_: u32); }
}

vmffi::ffi_interface! {
    pub interface Cfg { fn f(#[cfg(unix)] value: u32); }
}

vmffi::ffi_interface! {
    pub interface Attribute { fn f(a: u32, #[allow(unused)] value: u32); }
}

vmffi::ffi_interface! {
    pub interface Keyword { fun f(value: u32); }
}

vmffi::ffi_interface! {
    pub interface Parentheses { fn f; }
}

vmffi::ffi_interface! {
    pub interface Constant { const N: u32; }
}

fn main() {}
