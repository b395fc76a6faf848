//! What a sender tries with a type and its values, so that it knows what a receiver can decode.

use std::any::type_name;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ipc::catch::{drop_caught, with_quiet};
use crate::ipc::codec::{self, Describing, Symmetry};
use crate::ipc::wire::WireHandle;
use crate::ipc::wire::encoding::{self, Claiming, DecodeStep, SideData, claiming, decode_with};

/// Decodes the described form of a value that is about to be sent, and drops the result. If the
/// value cannot be decoded, returns an error with the reason.
pub(in crate::ipc::wire) fn try_decoding<T: DeserializeOwned>(
    bytes: &[u8],
    side_data: &SideData,
) -> Result<(), String> {
    try_with(type_name::<T>(), side_data, &mut |left| {
        let mut decoder = Describing::new(bytes);
        // The drop is inside the closure, too, because it may panic.
        drop(T::deserialize(&mut decoder)?);
        *left = decoder.left();
        Ok(())
    })
}

fn try_with(
    name: &'static str,
    side_data: &SideData,
    decode: DecodeStep<'_>,
) -> Result<(), String> {
    let handles = side_data.handles();
    let Some(copies) = handles.iter().map(WireHandle::duplicate).collect() else {
        // Descriptors are short here. The receiver will find out.
        return Ok(());
    };
    let mode = Claiming { is_trial: true, repeats: true };
    decode_with(name, copies, mode, decode).map_err(|error| {
        let error = error.message();
        match handles {
            [] => format!("its receiver could not decode it: {error}"),
            _ => format!(
                "its receiver could not decode it: {error} (a receiving end exists once, so `#[serde(untagged)]` cannot try it in two variants: give the enum a tag)"
            ),
        }
    })
}

/// Determines which form the values of a type have. Runs code of the type, which may panic.
pub(in crate::ipc::wire) fn explore<T: Serialize + DeserializeOwned>() -> Symmetry {
    explore_with(codec::explore::<T>)
}

fn explore_with(explore: fn(&dyn Fn() -> bool) -> Symmetry) -> Symmetry {
    let mode = Claiming { is_trial: true, repeats: false };
    let explored = claiming(Vec::new(), mode, || {
        with_quiet(true, || catch_unwind(AssertUnwindSafe(|| explore(&encoding::missed_handle))))
    });
    explored.unwrap_or_else(|panic| {
        drop_caught(panic);
        Symmetry::Unknown
    })
}
