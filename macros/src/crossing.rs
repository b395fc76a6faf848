//! For each value that is sent: the attribute of its field, and the assertion that its type can be
//! sent.
//!
//! The library's `process::crossing` is the other half.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Ident, LitStr, Path, Type};

pub(crate) struct Crossing {
    /// An attribute for the field, read by serde's derive.
    pub(crate) attribute: TokenStream,
    /// Items to put beside the type.
    pub(crate) items: [TokenStream; 2],
}

/// `owner` and `name` form the name of the items; `what` is the beginning of the error.
pub(crate) fn crossing(krate: &Path, owner: &Ident, name: &str, ty: &Type, what: &str) -> Crossing {
    let alias = format_ident!("__{}_{}", owner.to_string().trim_start_matches("r#"), name);
    let shown =
        quote!(#ty).to_string().replace(" < ", "<").replace(" >", ">").replace(" :: ", "::");
    let message = format!(
        "{what}: `{shown}` cannot be sent to another process. It must implement `serde::Serialize` \
         and `serde::Deserialize`; in place of `Arc`, `Mutex` and channels of `std`, send a handle of \
         this crate, such as `sync::Mutex`, `Queue` or `Sender`"
    );
    // It is a format string.
    let message = message.replace('{', "{{").replace('}', "}}");
    let probe = quote! {
        {
            #[allow(unused_imports)]
            use #krate::__private::Otherwise as _;
            #krate::__private::Probe::<#ty>::CROSSES
        }
    };
    let path = |function: &str| {
        let path = quote!(<#alias as #krate::__private::Cross<_>>::).to_string() + function;
        LitStr::new(&path, ty.span())
    };
    let (serialize, deserialize) = (path("serialize"), path("deserialize"));
    // The error points at the type.
    let assertion = quote_spanned! {ty.span()=>
        const _: () = ::core::assert!(#probe, #message);
    };
    Crossing {
        attribute: quote!(#[serde(serialize_with = #serialize, deserialize_with = #deserialize)]),
        items: [
            quote! {
                #[doc(hidden)]
                #[allow(non_camel_case_types)]
                type #alias = #krate::__private::Crossing<#probe>;
            },
            assertion,
        ],
    }
}
