//! Parsing: the `impl` block, and the role of each of its methods.

use proc_macro2::{Span, TokenStream};
use quote::format_ident;
use syn::{
    Attribute, FnArg, Ident, ImplItem, ImplItemFn, ItemImpl, Pat, ReturnType, Type, Visibility,
};

use crate::parse::{Args, pairs};

/// An `impl` block under the attribute.
pub(crate) struct Block {
    pub(crate) args: Args,
    pub(crate) item: ItemImpl,
    /// The last segment of the type, if it is a plain path.
    pub(crate) name: Option<Ident>,
}

/// The role of a method.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Start,
    Stop,
    Checkpoint,
    Call,
    Cast,
    /// Not called from other processes.
    Helper,
}

impl Block {
    /// Parses `item`. On failure, returns it unchanged, followed by the error.
    pub(crate) fn parse(args: TokenStream, item: TokenStream) -> Result<Block, TokenStream> {
        let refuse = |message: &str| {
            let error = syn::Error::new(Span::call_site(), message).into_compile_error();
            TokenStream::from_iter([item.clone(), error])
        };
        let block: ItemImpl = syn::parse2(item.clone()).map_err(|_| {
            refuse(
                "`#[offspring::actor]` belongs on the `impl` block with the methods of the actor",
            )
        })?;
        if block.trait_.is_some() {
            return Err(refuse(
                "`#[offspring::actor]` generates the `impl Actor`: put it on the inherent `impl` block of the type",
            ));
        }
        let name = match &*block.self_ty {
            Type::Path(path) if path.qself.is_none() => {
                path.path.segments.last().map(|last| last.ident.clone())
            }
            _ => None,
        };
        Ok(Block { args: syn::parse::Parser::parse2(pairs, args), item: block, name })
    }

    pub(crate) fn methods(&self) -> impl Iterator<Item = (Role, &ImplItemFn)> {
        self.item.items.iter().filter_map(|item| match item {
            ImplItem::Fn(method) => Some((role(method), method)),
            _ => None,
        })
    }

    pub(crate) fn method(&self, wanted: Role) -> Option<&ImplItemFn> {
        self.methods().find(|(role, _)| *role == wanted).map(|(_, method)| method)
    }

    pub(crate) fn messages(&self) -> impl Iterator<Item = (Role, &ImplItemFn)> {
        self.methods().filter(|(role, _)| matches!(role, Role::Call | Role::Cast))
    }
}

fn role(method: &ImplItemFn) -> Role {
    match method.sig.ident.to_string().as_str() {
        "start" => Role::Start,
        "stop" => Role::Stop,
        "checkpoint" => Role::Checkpoint,
        _ if method.attrs.iter().any(is_cast) => Role::Cast,
        _ if matches!(method.vis, Visibility::Inherited) || method.sig.receiver().is_none() => {
            Role::Helper
        }
        _ => Role::Call,
    }
}

/// Whether this is the `#[cast]` of the macro.
pub(crate) fn is_cast(attr: &Attribute) -> bool {
    attr.path().is_ident("cast")
}

/// The arguments without `self`: their types and their names. An argument that is a pattern gets a
/// made-up name.
pub(crate) fn arguments(method: &ImplItemFn) -> Vec<(Ident, &Type)> {
    let typed = method.sig.inputs.iter().enumerate().filter_map(|(place, input)| match input {
        FnArg::Receiver(_) => None,
        FnArg::Typed(typed) => {
            let name = match &*typed.pat {
                Pat::Ident(pat) => pat.ident.clone(),
                _ => format_ident!("argument_{place}"),
            };
            Some((name, &*typed.ty))
        }
    });
    typed.collect()
}

/// Whether this is the `&Context<Self>` that `start` can take last.
pub(crate) fn is_context(ty: &Type) -> bool {
    let Type::Reference(reference) = ty else {
        return false;
    };
    let Type::Path(path) = &*reference.elem else {
        return false;
    };
    path.path.segments.last().is_some_and(|last| last.ident == "Context")
}

/// Whether a function returns a `Result`.
pub(crate) fn is_fallible(output: &ReturnType) -> bool {
    matches!(output, ReturnType::Type(_, ty) if is_named(ty, "Result"))
}

/// Whether the last segment of the type's path is this name.
pub(crate) fn is_named(ty: &Type, name: &str) -> bool {
    let Type::Path(path) = ty else {
        return false;
    };
    path.path.segments.last().is_some_and(|last| last.ident == name)
}

/// The variant for a method: `SetAll` for `set_all`.
pub(crate) fn variant(name: &Ident) -> Ident {
    let text = name.to_string();
    let camel: String = text
        .trim_start_matches("r#")
        .split('_')
        .map(|word| {
            let mut letters = word.chars();
            letters
                .next()
                .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
        })
        .collect();
    // Digits and underscores alone are not a valid name.
    let camel = if camel.starts_with(|c: char| c.is_alphabetic()) {
        camel
    } else {
        format!("Method{camel}")
    };
    Ident::new(&camel, name.span())
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    #[test]
    fn variants_are_in_camel_case() {
        let of = |name: Ident| variant(&name).to_string();
        assert_eq!(of(parse_quote!(set_all)), "SetAll");
        assert_eq!(of(parse_quote!(get)), "Get");
        assert_eq!(of(parse_quote!(r#type)), "Type");
        assert_eq!(of(parse_quote!(_1)), "Method1");
    }

    #[test]
    fn methods_have_roles() {
        let role_of = |method: ImplItemFn| role(&method);
        assert!(
            role_of(parse_quote!(
                fn start() -> Self {}
            )) == Role::Start
        );
        assert!(
            role_of(parse_quote!(
                fn helper(&self) {}
            )) == Role::Helper
        );
        assert!(
            role_of(parse_quote!(
                pub fn new() -> Self {}
            )) == Role::Helper
        );
        assert!(
            role_of(parse_quote!(
                pub fn get(&self) -> u8 {}
            )) == Role::Call
        );
        assert!(
            role_of(parse_quote!(
                #[cast]
                pub fn set(&mut self) {}
            )) == Role::Cast
        );
    }
}
