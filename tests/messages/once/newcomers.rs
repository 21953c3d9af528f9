//! What people write who have not read the grammar: each is one error, at its place.

vmffi::ffi_interface! {
    #![allow(dead_code)] //~ 8: a declaration has no attributes and no documentation of its own
    //! Documentation. //~ 5: a declaration has no attributes and no documentation of its own
    pub struct Known { value: u8 }
    impl Known { fn value(&self) -> u8 { 1 } } //~ 10: a declaration has `struct`, `enum` and `interface`; put others beside
    impl Copy for Known {} //~ 10: put others beside `ffi_interface!`
    pub mod inner { pub struct Other { value: u8 } } //~ 13: put others beside `ffi_interface!`
    println!("text"); //~ 5: put others beside `ffi_interface!`
    thread_local! { static VALUE: u8 = 1; } //~ 5: put others beside `ffi_interface!`
    fn free(a: u8) -> u8; //~ 8: put others beside `ffi_interface!`
    pub service Other { fn f(); } //~ 17: put others beside `ffi_interface!`
    pub Unnamed { value: u8 } //~ 9: a struct, an enum or an interface has a name
    pub(nowhere) struct Hidden { value: u8 } //~ 9: incorrect visibility restriction
    pub enum Word: u8 { Named { type: u8 }, Other } //~ 33: expected identifier, found keyword `type`
    pub enum Words<'a>: u8 { Named { a: &'a str, b: u8, c: u8, fn: u8 } } //~ 64: expected identifier, found keyword `fn`
}

vmffi::ffi_interface! {
    pub interface Calls {
        fn colon(a u8); //~ 12: function `Calls::colon`: write a parameter as `name: Type`
        fn untyped(a); //~ 12: function `Calls::untyped`: write a parameter as `name: Type`
        fn unnamed(u8); //~ 12: function `Calls::unnamed`: write a parameter as `name: Type`
        fn comma(a: u8 b: u8); //~ 12: function `Calls::comma`: write a parameter as `name: Type`
        fn pattern((a, b): (u8, u8)); //~ 12: function `Calls::pattern`: write a parameter as `name: Type`
        fn wild(_: u8); //~ 12: function `Calls::wild`: write a parameter as `name: Type`
        fn good(a: Known, b: Hidden, c: Word, d: vmffi::ForeignPacked<Words>);
    }
}

vmffi::ffi_interface! {
    pub interface Calls2 { //~ 19: everything in an interface is a function
        fn bounded(a: u8) where u8: Copy; //~ 12: function `Calls2::bounded`: a function that crosses to another machine has no bounds
        fn lifetime<'a>(a: u8); //~ 12: function `Calls2::lifetime`: a function that crosses to another machine cannot be generic
        fn owned(self); //~ 12: function `Calls2::owned`: leave out the receiver
        fn arrowless(a: u8) u32; //~ 12: function `Calls2::arrowless`: write the result as `-> Type`
        fn pascal(a: u8): u32; //~ 12: function `Calls2::pascal`: write the result as `-> Type`
        fn fat(a: u8) => u32; //~ 12: function `Calls2::fat`: write the result as `-> Type`
        fn nothing(a: u8) ->; //~ 12: function `Calls2::nothing`: write the result as `-> Type`
        fn listed(a: u8), //~ 12: function `Calls2::listed`: end it with a semicolon
        fn twice(a: u8);;
    }
}

vmffi::ffi_interface! {
    pub interface Calls3 {
        struct Inside { value: u8 } //~ 16: put others beside `ffi_interface!`
        enum Within: u8 { A } //~ 14: put others beside `ffi_interface!`
        value: u8, //~ 9: everything in an interface is a function
        fn last(a: u8);
        /// It documents nothing. //~ 9: nothing follows to which this attribute or documentation belongs
    }
}

vmffi::ffi_interface! {
    pub struct Alone { value: u8 }
    #[derive(Clone)] //~ 7: nothing follows to which this attribute or documentation belongs
}

fn main() {}
