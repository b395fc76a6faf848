//! All public errors.
//!
//! Each enum answers one question: why did the process not start (`SpawnError`), why is there no
//! result (`JoinError`), why was the item not put (`PutError`), why is there no item (`GetError`).
//! The errors of the `try_` and `_timeout` forms have the variants of the blocking form and one
//! more: `Full`, `Empty`, `WouldBlock` or `Timeout`.

use std::io;

use thiserror::Error;

/// Defines the error of an operation and the errors of its `try_` and `_timeout` forms.
///
/// The forms are flat: each has all variants of the operation's error, and one of its own. In an
/// error with `<T>`, the first field of each variant is the value that goes back to the caller.
/// `ends` names the variants after which a loop should stop.
///
/// Generates the enums, `is_end`, the query that `=>` names (`is_timeout`, ..), and the conversions
/// from the operation's error and from [`WaitEnd`](crate::ipc::deadline::WaitEnd). An error with
/// `<T>` also gets `into_inner`; its `WaitEnd` holds the value in place of `Elapsed`.
macro_rules! flat_errors {
    (
        $(#[$meta:meta])*
        pub enum $base:ident<T> $variants:tt
        ends $ends:tt
        $(
            $(#[$form_meta:meta])*
            pub enum $form:ident<T> adds {
                $(#[$own_meta:meta])*
                $own:ident => $is_own:ident
            }
        )*
    ) => {
        flat_errors! { @value [$(#[$meta])*] $base $ends {} $variants }
        $(
            flat_errors! {
                @value [$(#[$form_meta])*] $form $ends { $(#[$own_meta])* $own(value: T), } $variants
            }
            flat_errors! { @query [<T>] $form $own $is_own }
            flat_errors! { @widen_value $base $form $variants }

            impl<T> From<$crate::ipc::deadline::WaitEnd<T, $base<T>>> for $form<T> {
                fn from(end: $crate::ipc::deadline::WaitEnd<T, $base<T>>) -> Self {
                    match end {
                        $crate::ipc::deadline::WaitEnd::Timeout(value) => $form::$own(value),
                        $crate::ipc::deadline::WaitEnd::Failed(error) => error.into(),
                    }
                }
            }
        )*
    };
    (
        $(#[$meta:meta])*
        pub enum $base:ident $variants:tt
        ends $ends:tt
        $(
            $(#[$form_meta:meta])*
            pub enum $form:ident adds {
                $(#[$own_meta:meta])*
                $own:ident => $is_own:ident
            }
        )*
    ) => {
        flat_errors! { @plain [$(#[$meta])*] $base $ends {} $variants }
        $(
            flat_errors! {
                @plain [$(#[$form_meta])*] $form $ends { $(#[$own_meta])* $own, } $variants
            }
            flat_errors! { @query [] $form $own $is_own }
            flat_errors! { @widen_plain $base $form $variants }

            impl From<$crate::ipc::deadline::WaitEnd<$crate::ipc::deadline::Elapsed, $base>> for $form {
                fn from(end: $crate::ipc::deadline::WaitEnd<$crate::ipc::deadline::Elapsed, $base>) -> Self {
                    match end {
                        $crate::ipc::deadline::WaitEnd::Timeout(_) => $form::$own,
                        $crate::ipc::deadline::WaitEnd::Failed(error) => error.into(),
                    }
                }
            }
        )*
    };

    (@value $meta:tt $name:ident $ends:tt { $($own:tt)* } { $($variants:tt)* }) => {
        flat_errors! { @value $meta $name $ends { $($own)* $($variants)* } }
    };
    (@value [$($meta:tt)*] $name:ident $ends:tt {
        $(
            $(#[$variant_meta:meta])*
            $variant:ident($value:ident: T $(, $(#[$cause_meta:meta])* $cause:ident: $cause_type:ty)?)
        ),* $(,)?
    }) => {
        #[derive(thiserror::Error)]
        $($meta)*
        #[non_exhaustive]
        pub enum $name<T> {
            $($(#[$variant_meta])* $variant(T $(, $(#[$cause_meta])* $cause_type)?),)*
        }

        impl<T> $name<T> {
            /// Returns the value that the call did not take.
            pub fn into_inner(self) -> T {
                match self {
                    $($name::$variant($value, ..) => $value,)*
                }
            }

            pub(super) fn without_value(self) -> $name<()> {
                match self {
                    $($name::$variant(_ $(, $cause)?) => $name::$variant(() $(, $cause)?),)*
                }
            }
        }

        flat_errors! { @ends [<T>] $name $ends }

        debug_with_text! { [<T>] $name { $($variant),* } }
    };
    (@widen_value $base:ident $form:ident {
        $(
            $(#[$variant_meta:meta])*
            $variant:ident($value:ident: T $(, $(#[$cause_meta:meta])* $cause:ident: $cause_type:ty)?)
        ),* $(,)?
    }) => {
        impl<T> From<$base<T>> for $form<T> {
            fn from(error: $base<T>) -> Self {
                match error {
                    $($base::$variant($value $(, $cause)?) => $form::$variant($value $(, $cause)?),)*
                }
            }
        }
    };

    (@plain $meta:tt $name:ident $ends:tt { $($own:tt)* } { $($variants:tt)* }) => {
        flat_errors! { @plain $meta $name $ends { $($own)* $($variants)* } }
    };
    (@plain [$($meta:tt)*] $name:ident $ends:tt {
        $(
            $(#[$variant_meta:meta])*
            $variant:ident
            $(($(#[$cause_meta:meta])* $cause:ident: $cause_type:ty))?
            $({ $($(#[$field_meta:meta])* $field:ident: $field_type:ty),* $(,)? })?
        ),* $(,)?
    }) => {
        #[derive(thiserror::Error)]
        $($meta)*
        #[non_exhaustive]
        pub enum $name {
            $(
                $(#[$variant_meta])*
                $variant
                $(($(#[$cause_meta])* $cause_type))?
                $({ $($(#[$field_meta])* $field: $field_type),* })?,
            )*
        }

        flat_errors! { @ends [] $name $ends }
        debug_with_text! { $name { $($variant),* } }
    };
    (@widen_plain $base:ident $form:ident {
        $(
            $(#[$variant_meta:meta])*
            $variant:ident
            $(($(#[$cause_meta:meta])* $cause:ident: $cause_type:ty))?
            $({ $($(#[$field_meta:meta])* $field:ident: $field_type:ty),* $(,)? })?
        ),* $(,)?
    }) => {
        impl From<$base> for $form {
            fn from(error: $base) -> Self {
                match error {
                    $($base::$variant $(($cause))? $({ $($field),* })? => {
                        $form::$variant $(($cause))? $({ $($field),* })?
                    })*
                }
            }
        }
    };

    (@ends $generics:tt $name:ident {}) => {};
    (@ends [$($generics:tt)*] $name:ident { $($end:ident),+ }) => {
        impl $($generics)* $name $($generics)* {
            /// Whether a loop that repeats this call should stop. True for
            #[doc = concat!($("`", stringify!($end), "` "),+, "and false for everything else.")]
            #[must_use]
            pub fn is_end(&self) -> bool {
                matches!(self, $($name::$end { .. })|+)
            }
        }
    };
    (@query [$($generics:tt)*] $name:ident $own:ident $is_own:ident) => {
        impl $($generics)* $name $($generics)* {
            #[doc = concat!("Whether this is [`", stringify!($own), "`](Self::", stringify!($own), ").")]
            #[must_use]
            pub fn $is_own(&self) -> bool {
                matches!(self, $name::$own { .. })
            }
        }
    };
}

/// Implements `Debug` as the variant's name and the `Display` text, because `main` and `unwrap`
/// print `Debug`, and the text names the remedy. An error with `<T>` does not require `T: Debug`.
/// If the error has a method for the last words on stderr, they come last.
macro_rules! debug_with_text {
    ($($error:ident { $($variant:ident),+ })+) => {
        $(debug_with_text! { [] $error { $($variant),+ } })+
    };
    ([$($generics:tt)*] $error:ident { $($variant:ident),+ } $($stderr:ident)?) => {
        impl $($generics)* std::fmt::Debug for $error $($generics)* {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let variant = match self {
                    $($error::$variant { .. } => stringify!($variant),)+
                };
                write!(f, "{variant} ({self})")?;
                $(write!(f, "{}", $crate::error::process::LastLines(self.$stderr()))?;)?
                Ok(())
            }
        }

        #[cfg(test)]
        impl $($generics)* $crate::error::tests::Variants for $error $($generics)* {
            const VARIANTS: &[&str] = &[$(stringify!($variant)),+];
        }
    };
}

/// Implements `Debug` as the `Display` text, for errors that are structs.
macro_rules! debug_is_text {
    ($([$($generics:tt)*] $error:ty),+ $(,)?) => {$(
        impl<$($generics)*> std::fmt::Debug for $error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{self}")
            }
        }

        #[cfg(test)]
        impl<$($generics)*> $crate::error::tests::Variants for $error {
            const VARIANTS: &[&str] = &[];
        }
    )+};
}

mod actor;
mod channel;
mod exit;
mod group;
mod pool;
pub(crate) mod printable;
mod process;
mod protection;
mod queue;
mod select;
mod sync;
#[cfg(test)]
mod tests;
mod umbrella;

pub use actor::{CallError, CastError, DownReason, LookupError, StartError, SupervisorError};
pub use channel::{
    RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};
pub use exit::{ExitReason, KillCause, PanicReport};
pub use group::{GroupError, MemberEnd};
pub use pool::{
    PoolError, ShutdownError, SubmitError, TaskError, TaskTimeoutError, TrySubmitError,
};
pub use process::{JoinError, JoinTimeoutError, SpawnError};
pub use protection::Protection;
pub use queue::{
    DeadLetterError, GetError, GetTimeoutError, HandleError, PutAllError, PutError,
    PutTimeoutError, QueueJoinError, QueueJoinTimeoutError, TaskDoneError, TryGetError,
    TryPutError,
};
pub use select::WaitError;
pub use sync::{
    BarrierError, BarrierTimeoutError, LockError, LockTimeoutError, PoisonError, ReleaseError,
    SyncError, TimeoutError, TryError, TryLockError,
};
pub use umbrella::{Error, Result};

/// Whether a system error means that this process has no descriptors or no addresses left. What it
/// wanted to receive stays where it is.
pub(crate) fn is_starved(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENOMEM))
}

/// A value could not be encoded.
///
/// ```
/// use std::ffi::OsString;
/// use std::os::unix::ffi::OsStringExt;
/// use std::path::PathBuf;
/// use offspring::Queue;
/// use offspring::queue::PutError;
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let files = Queue::unbounded()?;
/// let strange = PathBuf::from(OsString::from_vec(vec![0xff])); // serde encodes only UTF-8 paths
/// match files.put(strange) {
///     Err(PutError::Encode(path, error)) => eprintln!("left out {}: {error}", path.display()),
///     other => panic!("{other:?}"),
/// }
/// files.put(PathBuf::from("plain"))?; // the queue is unaffected
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Error)]
#[error("failed to encode `{type_name}`: {message}")]
pub struct EncodeError {
    type_name: &'static str,
    message: String,
}

impl EncodeError {
    /// For a caller that knows the type only by name.
    pub(crate) fn of(type_name: &'static str, message: String) -> Self {
        EncodeError { type_name, message }
    }

    pub(crate) fn new<T: ?Sized>(message: impl Into<String>) -> Self {
        EncodeError { type_name: std::any::type_name::<T>(), message: message.into() }
    }
}

/// Bytes that were received are not a valid value of the expected type.
///
/// ```
/// use offspring::channel::RecvError;
/// use serde::{Deserialize, Serialize};
///
/// /// At most 100, which its `Deserialize` checks.
/// #[derive(Serialize, Deserialize, Debug, PartialEq)]
/// #[serde(try_from = "u8")]
/// struct Percent(u8);
///
/// impl TryFrom<u8> for Percent {
///     type Error = String;
///     fn try_from(n: u8) -> Result<Self, String> {
///         if n <= 100 { Ok(Percent(n)) } else { Err(format!("{n} is more than 100")) }
///     }
/// }
///
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (sender, receiver) = offspring::channel()?;
/// sender.send(Percent(250))?;
/// sender.send(Percent(50))?;
/// match receiver.recv() {
///     Err(RecvError::Decode(error)) => assert!(error.to_string().ends_with("250 is more than 100")),
///     other => panic!("{other:?}"),
/// }
/// assert_eq!(receiver.recv()?, Percent(50)); // later messages are not affected
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Error)]
#[error("failed to decode `{type_name}`: {message}")]
pub struct DecodeError {
    type_name: &'static str,
    message: String,
}

impl DecodeError {
    pub(crate) fn new<T: ?Sized>(message: impl Into<String>) -> Self {
        DecodeError::elsewhere(std::any::type_name::<T>(), message)
    }

    /// An error that another process reported for this type.
    pub(crate) fn elsewhere(type_name: &'static str, message: impl Into<String>) -> Self {
        // The message may quote the value that does not decode.
        let message = printable::text(message.into());
        DecodeError { type_name, message }
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

/// A shared object could not be created.
///
/// ```
/// # #[offspring::main]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use offspring::sync::{Barrier, Semaphore};
/// use offspring::{CreateError, Queue};
///
/// assert!(matches!(Queue::<u32>::bounded(0), Err(CreateError::ZeroCapacity)));
/// let error = Semaphore::new(0).unwrap_err();
/// assert_eq!(error.to_string(), "a semaphore needs at least 1 permit");
/// let error = Barrier::new(0).unwrap_err();
/// assert_eq!(error.to_string(), "a barrier needs at least 1 party");
/// # Ok(())
/// # }
/// ```
#[derive(Error)]
#[non_exhaustive]
pub enum CreateError {
    /// A queue with room for no items.
    #[error("a queue needs a capacity of at least 1 (`unbounded` creates one without a bound)")]
    ZeroCapacity,
    /// A [`Semaphore`](crate::sync::Semaphore) without permits.
    #[error("a semaphore needs at least 1 permit")]
    ZeroPermits,
    /// A [`Barrier`](crate::sync::Barrier) for no parties.
    #[error("a barrier needs at least 1 party")]
    ZeroParties,
    /// The system refused memory or a descriptor.
    #[error("could not {act}: {cause}")]
    Io {
        /// What was tried, such as "make shared memory".
        act: &'static str,
        /// The system's error.
        cause: io::Error,
    },
}

impl CreateError {
    pub(crate) fn io(act: &'static str) -> impl FnOnce(io::Error) -> CreateError {
        move |cause| CreateError::Io { act, cause }
    }
}

debug_is_text! { [] EncodeError, [] DecodeError }
debug_with_text! { CreateError { ZeroCapacity, ZeroPermits, ZeroParties, Io } }
