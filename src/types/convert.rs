//! Types that cross as another type: a trait for users, and types of `core`.

use core::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    num::NonZero,
    time::Duration,
};

use super::{Plain, SendAs};

/// A type that crosses as another one, such as a newtype of yours with the number in it.
///
/// Implement it, and name the type in [`crosses_as!`](crate::crosses_as). In signatures and contracts the type counts as its
/// [`Wire`](Self::Wire), so a side that declares that type instead meets this one, and a guest in another language needs to
/// know nothing else. A received value for which [`from_wire`](Self::from_wire) returns `None` is refused like an integer
/// that no variant of an enum has: the call fails with [`ErrorKind::BadValue`](crate::ErrorKind::BadValue).
///
/// These types of `core` cross in this way:
///
/// | type | as | with |
/// |---|---|---|
/// | `NonZero<T>`, so `NonZeroU8` and all its kind | `T` | |
/// | `Duration` | `(u64, u32)` | seconds, and nanoseconds below a second |
/// | `Ipv4Addr` | `[u8; 4]` | its octets |
/// | `Ipv6Addr` | `[u8; 16]` | its octets |
/// | `IpAddr` | `(u8, [u8; 16])` | 4 or 6, and its octets; behind those of a 4 are zeros |
/// | `SocketAddrV4` | `(Ipv4Addr, u16)` | address and port |
/// | `SocketAddrV6` | `(Ipv6Addr, u16, u32, u32)` | address, port, flow information, scope |
/// | `SocketAddr` | `(IpAddr, u16, u32, u32)` | the same, and zeros where a V4 has nothing |
///
/// ```
/// use vmffi::{CallError, CrossesAs, Peer, loopback::Loopback};
///
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// pub struct Percent(u8);
///
/// impl CrossesAs for Percent {
///     type Wire = u8;
///     fn to_wire(&self) -> u8 {
///         self.0
///     }
///     fn from_wire(wire: u8) -> Option<Self> {
///         (wire <= 100).then_some(Self(wire))
///     }
/// }
/// vmffi::crosses_as!(Percent);
///
/// vmffi::ffi_interface! {
///     pub interface Fans { fn set(speed: Percent) -> Percent; }
/// }
///
/// struct Host;
/// impl Fans for Host {
///     fn set(&self, _: &Peer, speed: Percent) -> Result<Percent, CallError> {
///         Ok(Percent(speed.0 / 2))
///     }
/// }
/// vmffi::serve!(Host: Fans);
///
/// let pair = Loopback::new((), Host)?;
/// assert_eq!(FansClient::from(pair.host()).set(Percent(80))?, Percent(40));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say as what it crosses",
    note = "`crosses_as!` takes a type that implements `CrossesAs`"
)]
pub trait CrossesAs: Sized + 'static {
    /// The type as which it crosses: a scalar, a declared type, an array, a tuple or an `Option`, without handles.
    type Wire: Plain + SendAs<Self::Wire>;

    /// The value to send. It should be one that [`from_wire`](Self::from_wire) accepts.
    fn to_wire(&self) -> Self::Wire;

    /// The received value, or `None` if `wire` stands for none. It runs while parameters or a result are decoded, with
    /// values that the peer chooses. It must not panic: handles beside the value may then stay lent until a reset.
    fn from_wire(wire: Self::Wire) -> Option<Self>;
}

/// Lets types that implement [`CrossesAs`] stand in interfaces.
///
/// It takes types of the crate that calls it, which implement the trait there.
#[macro_export]
macro_rules! crosses_as {
    ($($ty:ty),+ $(,)?) => { $( const _: () = {
        use $crate::__private::core as __core;
        // SAFETY: decoding is that of the other type, which is plain, and so has no pointer words; the shape is that type's.
        unsafe impl $crate::FfiType for $ty {
            type Wire = <<$ty as $crate::CrossesAs>::Wire as $crate::FfiType>::Wire;
            type OptionWire = $crate::__private::Tagged<<$ty as $crate::FfiType>::Wire>;
            type Shared = $ty;
            const SHAPE: &'static $crate::__private::descriptor::Shape =
                <<$ty as $crate::CrossesAs>::Wire as $crate::FfiType>::SHAPE;
            const HANDLES: __core::primitive::bool = false;
            const WIDE: __core::primitive::bool =
                <<$ty as $crate::CrossesAs>::Wire as $crate::FfiType>::WIDE;
            #[inline]
            fn decode(
                __wire: &[__core::primitive::u8],
                __from: $crate::Incoming<'_>,
            ) -> __core::result::Result<$ty, $crate::CallError> {
                let __wire = <<$ty as $crate::CrossesAs>::Wire as $crate::FfiType>::decode(__wire, __from)?;
                <$ty as $crate::CrossesAs>::from_wire(__wire)
                    .ok_or($crate::CallError::new($crate::ErrorKind::BadValue))
            }
            #[inline]
            fn from_transport(
                __transport: $crate::abi::Transport,
                __from: $crate::Incoming<'_>,
            ) -> __core::result::Result<$ty, $crate::CallError> {
                let __wire =
                    <<$ty as $crate::CrossesAs>::Wire as $crate::FfiType>::from_transport(
                        __transport, __from,
                    )?;
                <$ty as $crate::CrossesAs>::from_wire(__wire)
                    .ok_or($crate::CallError::new($crate::ErrorKind::BadValue))
            }
            #[inline]
            fn write(&self, __wire: &mut [__core::primitive::u8]) {
                $crate::FfiType::write(&<$ty as $crate::CrossesAs>::to_wire(self), __wire);
            }
        }
        // SAFETY: the other type is plain, and this one has its wire form.
        unsafe impl $crate::Plain for $ty {}
        $crate::__packed_plain! { type: $ty where: [] }
        // SAFETY: the other type is plain, so no pointer words are written; `into_transport` returns what it returns.
        unsafe impl $crate::SendAs<$ty> for $ty {
            #[inline]
            fn encode(
                self,
                __wire: &mut [__core::primitive::u8],
                _: &mut $crate::Outgoing<'_>,
            ) -> __core::result::Result<(), $crate::CallError> {
                $crate::FfiType::write(&self, __wire);
                __core::result::Result::Ok(())
            }
            #[inline]
            fn into_transport(
                self,
                __out: &mut $crate::Outgoing<'_>,
            ) -> __core::result::Result<$crate::abi::Transport, $crate::CallError> {
                let __wire = <$ty as $crate::CrossesAs>::to_wire(&self);
                <<$ty as $crate::CrossesAs>::Wire as $crate::SendAs<_>>::into_transport(__wire, __out)
            }
        }
        // SAFETY: the other type is plain, so no pointer words are written; `into_transport` returns what it returns.
        unsafe impl $crate::SendAs<$ty> for &$ty {
            #[inline]
            fn encode(
                self,
                __wire: &mut [__core::primitive::u8],
                _: &mut $crate::Outgoing<'_>,
            ) -> __core::result::Result<(), $crate::CallError> {
                $crate::FfiType::write(self, __wire);
                __core::result::Result::Ok(())
            }
            #[inline]
            fn into_transport(
                self,
                __out: &mut $crate::Outgoing<'_>,
            ) -> __core::result::Result<$crate::abi::Transport, $crate::CallError> {
                let __wire = <$ty as $crate::CrossesAs>::to_wire(self);
                <<$ty as $crate::CrossesAs>::Wire as $crate::SendAs<_>>::into_transport(__wire, __out)
            }
        }
        impl __core::convert::From<$ty> for $crate::Failure<$ty> {
            fn from(__error: $ty) -> $crate::Failure<$ty> {
                $crate::Failure::App(__error)
            }
        }
    }; )+ };
}

/// Implements [`CrossesAs`] for types of `core`: `$to` reads the value, `$from` validates the other type.
macro_rules! through {
    ($($ty:ty as $wire:ty: $to:expr, $from:expr;)*) => { $(
        impl CrossesAs for $ty {
            type Wire = $wire;
            #[inline]
            fn to_wire(&self) -> $wire {
                $to(*self)
            }
            #[inline]
            fn from_wire(wire: $wire) -> Option<Self> {
                $from(wire)
            }
        }
        crosses_as!($ty);
    )* };
}

macro_rules! non_zero {
    ($($t:ty)*) => { through! { $( NonZero<$t> as $t: NonZero::get, NonZero::new; )* } };
}

non_zero!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

through! {
    Duration as (u64, u32):
        |time: Duration| (time.as_secs(), time.subsec_nanos()),
        |(seconds, nanos)| (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos));
    Ipv4Addr as [u8; 4]: |address: Ipv4Addr| address.octets(), |octets| Some(Self::from(octets));
    Ipv6Addr as [u8; 16]: |address: Ipv6Addr| address.octets(), |octets| Some(Self::from(octets));
    IpAddr as (u8, [u8; 16]): octets, address;
    SocketAddrV4 as (Ipv4Addr, u16):
        |at: SocketAddrV4| (*at.ip(), at.port()),
        |(address, port)| Some(Self::new(address, port));
    SocketAddrV6 as (Ipv6Addr, u16, u32, u32):
        |at: SocketAddrV6| (*at.ip(), at.port(), at.flowinfo(), at.scope_id()),
        |(address, port, flow, scope)| Some(Self::new(address, port, flow, scope));
    SocketAddr as (IpAddr, u16, u32, u32):
        |at| match at {
            SocketAddr::V4(at) => (IpAddr::V4(*at.ip()), at.port(), 0, 0),
            SocketAddr::V6(at) => (IpAddr::V6(*at.ip()), at.port(), at.flowinfo(), at.scope_id()),
        },
        |wire| match wire {
            (IpAddr::V4(address), port, 0, 0) => Some(SocketAddrV4::new(address, port).into()),
            (IpAddr::V4(_), ..) => None,
            (IpAddr::V6(address), port, flow, scope) => {
                Some(SocketAddrV6::new(address, port, flow, scope).into())
            }
        };
}

/// The version of an address, and its octets with zeros behind.
fn octets(address: IpAddr) -> (u8, [u8; 16]) {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            (4, [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        }
        IpAddr::V6(address) => (6, address.octets()),
    }
}

fn address(wire: (u8, [u8; 16])) -> Option<IpAddr> {
    match wire {
        (4, [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) => {
            Some(Ipv4Addr::new(a, b, c, d).into())
        }
        (6, octets) => Some(Ipv6Addr::from(octets).into()),
        _ => None,
    }
}
