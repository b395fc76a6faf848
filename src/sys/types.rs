//! Comparing types that may contain lifetimes, which `TypeId` alone cannot.

use std::any::TypeId;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, transmute, transmute_copy};

/// Returns the id of a type. Types that differ only in lifetimes have the same id.
#[inline]
pub(crate) fn type_id_of<T: ?Sized>() -> TypeId {
    trait Identified {
        fn id(&self) -> TypeId
        where
            Self: 'static;
    }
    impl<T: ?Sized> Identified for PhantomData<T> {
        #[inline]
        fn id(&self) -> TypeId
        where
            Self: 'static,
        {
            TypeId::of::<T>()
        }
    }
    let phantom = PhantomData::<T>;
    let phantom: &dyn Identified = &phantom;
    // SAFETY: only the lifetime in the type of a reference changes. The one method that is called
    // does not read the referent, and lifetimes do not exist at run time.
    unsafe { transmute::<&dyn Identified, &(dyn Identified + 'static)>(phantom) }.id()
}

/// Returns the value as a `U` if that is its type; otherwise returns it unchanged, as the error.
#[inline]
pub(crate) fn same_type<T: 'static, U>(value: T) -> Result<U, T> {
    if type_id_of::<U>() != TypeId::of::<T>() {
        return Err(value);
    }
    let value = ManuallyDrop::new(value);
    // SAFETY: `T` holds no lifetime, so a `U` with the same id is the same type; the value is
    // moved, not doubled.
    Ok(unsafe { transmute_copy::<ManuallyDrop<T>, U>(&value) })
}

/// Calls `with` with the slice that `elements` refers to, directly or through a vector.
#[inline]
pub(crate) fn with_slice<I, T: 'static, R>(
    elements: &I,
    with: impl FnOnce(&[T]) -> R,
) -> Option<R> {
    let id = type_id_of::<I>();
    let elements = std::ptr::from_ref(elements);
    if id == TypeId::of::<&Vec<T>>() {
        // SAFETY: it is such a reference, with a lifetime that is longer than this call. `with`
        // keeps no part of it.
        return Some(with(unsafe { *elements.cast::<&Vec<T>>() }));
    }
    if id == TypeId::of::<&[T]>() {
        // SAFETY: as above.
        return Some(with(unsafe { *elements.cast::<&[T]>() }));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_seen_through_references_only() {
        let vector = vec![1u8, 2];
        assert_eq!(with_slice(&&vector, |bytes: &[u8]| bytes.to_vec()), Some(vec![1, 2]));
        assert_eq!(with_slice(&&vector[1..], |bytes: &[u8]| bytes.to_vec()), Some(vec![2]));
        assert_eq!(with_slice(&&vector, |bytes: &[i8]| bytes.len()), None);
        assert_eq!(with_slice(&vector, |bytes: &[u8]| bytes.len()), None);
    }

    #[test]
    fn only_the_same_type_is_the_same() {
        assert_eq!(same_type::<Vec<u8>, Vec<u8>>(vec![1]), Ok(vec![1]));
        assert_eq!(same_type::<Vec<u8>, Vec<i8>>(vec![1]), Err(vec![1]));
        assert!(same_type::<String, &str>("text".to_owned()).is_err());
        assert_eq!(type_id_of::<&str>(), TypeId::of::<&'static str>());
    }
}
