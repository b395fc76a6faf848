//! Code generation. It cannot fail.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote};
use syn::ext::IdentExt;
use syn::{Attribute, Ident, ImplItem, ImplItemFn, ReturnType, Type, parse_quote};

use super::parse::{Block, Role, arguments, is_cast, is_context, is_fallible, variant};
use crate::check::Verdict;
use crate::crossing;

/// The names of the generated types.
struct Names<'a> {
    actor: &'a Ident,
    message: Ident,
    reply: Ident,
    handle: Ident,
}

pub(crate) fn block(block: &Block, verdict: &Verdict) -> TokenStream {
    let mut plain = block.item.clone();
    // Here, `pub` marks messages, even in a binary, where no item is reachable from outside.
    plain.attrs.push(parse_quote!(#[allow(unreachable_pub)]));
    for item in &mut plain.items {
        if let ImplItem::Fn(method) = item {
            method.attrs.retain(|attr| !is_cast(attr));
        }
    }
    // Without a concrete type, there is nothing to implement the rest for.
    let (Some(actor), true) = (&block.name, block.item.generics.params.is_empty()) else {
        return plain.into_token_stream();
    };
    let names = Names {
        actor,
        message: format_ident!("{actor}Message"),
        reply: format_ident!("{actor}Reply"),
        handle: format_ident!("{actor}Handle"),
    };
    let start = block.method(Role::Start);
    let handle = handle(block, verdict, &names, start);
    match start {
        Some(start) if verdict.sound => {
            let enums = enums(block, verdict, &names, start);
            let actor_impl = actor_impl(block, verdict, &names, start);
            quote!(#plain #enums #actor_impl #handle)
        }
        _ => {
            let actor_impl = actor_fallback(verdict, &names);
            quote!(#plain #actor_impl #handle)
        }
    }
}

/// The expansion of a block that breaks a rule, besides its handle. It has everything that uses of
/// the actor need, so that they cause no further errors.
fn actor_fallback(verdict: &Verdict, names: &Names<'_>) -> TokenStream {
    let krate = &verdict.options.krate;
    let serde = quote!(#krate::__private::serde);
    let serde_path = serde.to_string();
    let Names { actor, message, reply, .. } = names;
    quote! {
        #[derive(#serde::Serialize, #serde::Deserialize)]
        #[serde(crate = #serde_path)]
        pub enum #message {}

        #[derive(#serde::Serialize, #serde::Deserialize)]
        #[serde(crate = #serde_path)]
        pub enum #reply {}

        impl #krate::actor::Actor for #actor {
            type Args = ();
            type Message = #message;
            type Reply = #reply;

            fn start(_: (), _: &#krate::actor::Context<Self>)
                -> ::core::result::Result<Self, ::std::boxed::Box<dyn ::std::error::Error>>
            {
                ::core::unreachable!()
            }

            fn handle(&mut self, _: #message) -> #reply {
                ::core::unreachable!()
            }
        }
    }
}

fn output(method: &ImplItemFn) -> Type {
    match &method.sig.output {
        ReturnType::Default => parse_quote!(()),
        // The check has already rejected it.
        ReturnType::Type(_, ty) if matches!(**ty, Type::ImplTrait(_)) => parse_quote!(()),
        ReturnType::Type(_, ty) => Type::clone(ty),
    }
}

/// The `#[cfg]` attributes of a method: they apply to everything that is generated from it.
fn conditions(method: &ImplItemFn) -> impl Iterator<Item = &Attribute> {
    method.attrs.iter().filter(|attr| attr.path().is_ident("cfg"))
}

/// The attributes of a method that the handle's method gets as well.
fn carried(method: &ImplItemFn) -> impl Iterator<Item = &Attribute> {
    const CARRIED: [&str; 4] = ["doc", "cfg", "deprecated", "allow"];
    method.attrs.iter().filter(|attr| CARRIED.iter().any(|name| attr.path().is_ident(name)))
}

fn enums(block: &Block, verdict: &Verdict, names: &Names<'_>, start: &ImplItemFn) -> TokenStream {
    let krate = &verdict.options.krate;
    let serde = quote!(#krate::__private::serde);
    let serde_path = serde.to_string();
    let vis = &start.vis;
    let Names { actor, message, reply, .. } = names;
    let mut assertions = TokenStream::new();
    // The attribute of a field.
    let mut crossing = |owner: &Ident, method: &ImplItemFn, name: &str, ty: &Type, what: &str| {
        let name = format!("{}__{name}", method.sig.ident.unraw());
        let crossing = crossing::crossing(krate, owner, &name, ty, what);
        for item in crossing.items {
            let conditions = conditions(method);
            assertions.extend(quote!(#(#conditions)* #item));
        }
        crossing.attribute
    };
    let messages = block.messages().map(|(_, method)| {
        let conditions = conditions(method);
        let variant = variant(&method.sig.ident);
        let docs = format!(" [`{actor}::{}`].", method.sig.ident);
        let fields = arguments(method).into_iter().map(|(argument, ty)| {
            let docs = format!(" The argument `{argument}`.");
            let what = format!("the argument `{argument}`");
            let crossing = crossing(message, method, &argument.unraw().to_string(), ty, &what);
            quote!(#[doc = #docs] #crossing #argument: #ty)
        });
        let fields: Vec<_> = fields.collect();
        quote!(#(#conditions)* #[doc = #docs] #variant { #(#fields,)* })
    });
    let messages: Vec<_> = messages.collect();
    let replies = block.messages().map(|(_, method)| {
        let conditions = conditions(method);
        let variant = variant(&method.sig.ident);
        let output = output(method);
        let docs = format!(" The reply of [`{actor}::{}`].", method.sig.ident);
        let crossing = crossing(reply, method, "output", &output, "the reply");
        quote!(#(#conditions)* #[doc = #docs] #variant(#crossing #output))
    });
    let replies: Vec<_> = replies.collect();
    let message_docs = format!(" The messages of [`{actor}`].");
    let reply_docs = format!(" The replies of [`{actor}`].");
    quote! {
        #[doc = #message_docs]
        #[derive(#serde::Serialize, #serde::Deserialize)]
        #[serde(crate = #serde_path)]
        #[allow(clippy::large_enum_variant)]
        #vis enum #message { #(#messages,)* }

        #[doc = #reply_docs]
        #[derive(#serde::Serialize, #serde::Deserialize)]
        #[serde(crate = #serde_path)]
        #[allow(clippy::large_enum_variant)]
        #vis enum #reply { #(#replies,)* }

        #assertions
    }
}

/// The arguments of `start` that are sent, and whether it takes the context after them.
fn start_arguments(start: &ImplItemFn) -> (Vec<(Ident, &Type)>, bool) {
    let mut arguments = arguments(start);
    let context = arguments.last().is_some_and(|(_, ty)| is_context(ty));
    if context {
        arguments.pop();
    }
    (arguments, context)
}

fn actor_impl(
    block: &Block,
    verdict: &Verdict,
    names: &Names<'_>,
    start: &ImplItemFn,
) -> TokenStream {
    let krate = &verdict.options.krate;
    let Names { actor, message, reply, .. } = names;
    let (arguments, with_context) = start_arguments(start);
    let (start_names, start_types): (Vec<_>, Vec<_>) = arguments.into_iter().unzip();
    let context = with_context.then(|| quote!(context));
    let started = quote!(#actor::start(#(#start_names,)* #context));
    let started = if is_fallible(&start.sig.output) {
        quote!(#started.map_err(::core::convert::Into::into))
    } else {
        quote!(::core::result::Result::Ok(#started))
    };
    let arms = block.messages().map(|(_, method)| {
        let conditions = conditions(method);
        let (name, variant) = (&method.sig.ident, variant(&method.sig.ident));
        let names: Vec<_> = crate::actor::parse::arguments(method).into_iter().map(|(name, _)| name).collect();
        quote!(#(#conditions)* #message::#variant { #(#names),* } => #reply::#variant(#actor::#name(self, #(#names),*)))
    });
    let stop = block.method(Role::Stop).map(|_| {
        quote! {
            fn stop(&mut self, reason: &#krate::actor::DownReason) {
                #actor::stop(self, reason);
            }
        }
    });
    let checkpoint = block.method(Role::Checkpoint).map(|_| {
        quote! {
            fn checkpoint(&mut self) -> ::core::option::Option<#krate::actor::Checkpoint> {
                #actor::checkpoint(self)
            }
        }
    });
    quote! {
        #[automatically_derived]
        #[allow(deprecated)]
        impl #krate::actor::Actor for #actor {
            type Args = (#(#start_types,)*);
            type Message = #message;
            type Reply = #reply;

            #[allow(unused_variables)]
            fn start((#(#start_names,)*): Self::Args, context: &#krate::actor::Context<Self>)
                -> ::core::result::Result<Self, ::std::boxed::Box<dyn ::std::error::Error>>
            {
                #started
            }

            #[allow(clippy::unit_arg)]
            fn handle(&mut self, message: #message) -> #reply {
                match message { #(#arms,)* }
            }

            #stop
            #checkpoint
        }

        #krate::register_actor!(#actor);
    }
}

fn handle(
    block: &Block,
    verdict: &Verdict,
    names: &Names<'_>,
    start: Option<&ImplItemFn>,
) -> TokenStream {
    let krate = &verdict.options.krate;
    let Names { actor, handle, .. } = names;
    let vis = start.map(|start| &start.vis);
    let serde = quote!(#krate::__private::serde);
    let serde_path = serde.to_string();
    let docs = format!(
        " The address of a [`{actor}`], with its methods: an [`ActorRef`]({}::actor::ActorRef).\n\n Dropping it does not affect the actor.",
        krate.to_token_stream().to_string().replace(' ', "")
    );
    let methods = block.messages().map(|(role, method)| match role {
        Role::Cast => cast(verdict, names, method),
        _ => call(verdict, names, method),
    });
    let arguments = start.map(|start| start_arguments(start).0).unwrap_or_default();
    let (start_names, start_types): (Vec<_>, Vec<_>) = arguments.into_iter().unzip();
    let start_docs = start.into_iter().flat_map(carried);
    let start_generics = start.map(|start| start.sig.generics.clone()).unwrap_or_default();
    let (start_params, _, start_bounds) = start_generics.split_for_impl();
    let has = |name: &str| block.messages().any(|(_, method)| method.sig.ident == name);
    let address = quote!(#krate::actor::ActorRef<#actor>);
    // If a method has a reserved name, `spawn` returns the handle itself. A call of that method
    // then resolves to the handle's method, and causes no further error.
    let (owned, started, target, inside) = if verdict.misnamed {
        let owned = quote!(#krate::actor::ActorOwner<#address>);
        (quote!(#handle), quote!(::core::unreachable!()), owned, quote!(::core::unreachable!()))
    } else if !verdict.sound {
        let owned = quote!(#krate::actor::ActorOwner<#handle>);
        (owned, quote!(::core::unreachable!()), address.clone(), quote!(&self.0))
    } else {
        let started = quote! {
            let owned = #krate::actor::spawn::<#actor>((#(#start_names,)*))?;
            ::core::result::Result::Ok(owned.typed())
        };
        (quote!(#krate::actor::ActorOwner<#handle>), started, address.clone(), quote!(&self.0))
    };
    let with_timeout = (!has("with_timeout")).then(|| {
        quote! {
            /// Returns the same handle with another timeout for calls and casts.
            #[must_use]
            #vis fn with_timeout(&self, timeout: ::core::time::Duration) -> Self {
                Self(self.0.with_timeout(timeout))
            }
        }
    });
    let spawn = (!has("spawn")).then(|| {
        quote! {
            #(#start_docs)*
            ///
            /// Starts the actor in a process of its own.
            ///
            /// # Errors
            ///
            /// The actor failed to start.
            #vis fn spawn #start_params (#(#start_names: #start_types),*)
                -> ::core::result::Result<#owned, #krate::actor::StartError> #start_bounds
            {
                #started
            }
        }
    });
    quote! {
        #[doc = #docs]
        #[derive(#serde::Serialize, #serde::Deserialize)]
        #[derive(::core::clone::Clone, ::core::fmt::Debug, ::core::cmp::PartialEq, ::core::cmp::Eq, ::core::hash::Hash)]
        #[serde(crate = #serde_path)]
        #vis struct #handle(#krate::actor::ActorRef<#actor>);

        #[allow(dead_code, deprecated, unreachable_pub, clippy::too_many_arguments)]
        impl #handle {
            #(#methods)*
            #with_timeout
        }

        #[allow(dead_code, deprecated, unreachable_pub, unused_variables, clippy::too_many_arguments)]
        impl #actor {
            #spawn
        }

        #[automatically_derived]
        impl ::core::convert::From<#krate::actor::ActorRef<#actor>> for #handle {
            fn from(address: #krate::actor::ActorRef<#actor>) -> Self {
                Self(address)
            }
        }

        #[automatically_derived]
        impl #krate::actor::ActorHandle for #handle {
            type Actor = #actor;
        }

        #[automatically_derived]
        impl ::core::ops::Deref for #handle {
            type Target = #target;

            fn deref(&self) -> &Self::Target {
                #inside
            }
        }
    }
}

fn call(verdict: &Verdict, names: &Names<'_>, method: &ImplItemFn) -> TokenStream {
    let krate = &verdict.options.krate;
    let Names { message, reply, .. } = names;
    let (vis, name, variant) = (&method.vis, &method.sig.ident, variant(&method.sig.ident));
    let (arguments, types): (Vec<_>, Vec<_>) = arguments(method).into_iter().unzip();
    let output = output(method);
    let docs = carried(method);
    if !verdict.sound {
        let types = quote!(::core::result::Result<#output, #krate::actor::CallError>);
        return method_fallback(method, &types);
    }
    let unpack = quote! {
        #[allow(unreachable_patterns)]
        match reply {
            #reply::#variant(output) => ::core::result::Result::Ok(output),
            _ => ::core::result::Result::Err(#krate::__private::foreign_reply(self.0.name())),
        }
    };
    let awaited = cfg!(feature = "async").then(|| {
        let name_async = format_ident!("{}_async", name);
        let docs = format!(" Like [`{name}`](Self::{name}), but returns a future, which works on any executor.");
        let carried = method
            .attrs
            .iter()
            .filter(|attr| ["cfg", "deprecated", "allow"].iter().any(|name| attr.path().is_ident(name)));
        quote! {
            #(#carried)*
            #[doc = #docs]
            ///
            /// Dropping the future discards the reply.
            ///
            /// # Errors
            ///
            /// There is no reply.
            #vis async fn #name_async(&self, #(#arguments: #types),*) -> ::core::result::Result<#output, #krate::actor::CallError> {
                let reply = self.0.call_async(#message::#variant { #(#arguments),* }).await?;
                #unpack
            }
        }
    });
    quote! {
        #(#docs)*
        ///
        /// # Errors
        ///
        /// There is no reply.
        #vis fn #name(&self, #(#arguments: #types),*) -> ::core::result::Result<#output, #krate::actor::CallError> {
            let reply = self.0.call(#message::#variant { #(#arguments),* })?;
            #unpack
        }

        #awaited
    }
}

/// The handle's method for a method of an actor that breaks a rule. It takes the same arguments,
/// even those that could not be sent.
fn method_fallback(method: &ImplItemFn, output: &TokenStream) -> TokenStream {
    let (vis, name, generics) = (&method.vis, &method.sig.ident, &method.sig.generics);
    let (params, _, bounds) = generics.split_for_impl();
    let types: Vec<_> = arguments(method).into_iter().map(|(_, ty)| ty).collect();
    let conditions: Vec<_> = conditions(method).collect();
    let awaited = cfg!(feature = "async").then(|| {
        let name_async = format_ident!("{}_async", name);
        quote! {
            #(#conditions)*
            #vis async fn #name_async #params (&self, #(_: #types),*) -> #output #bounds {
                ::core::unreachable!()
            }
        }
    });
    quote! {
        #(#conditions)*
        #vis fn #name #params (&self, #(_: #types),*) -> #output #bounds {
            ::core::unreachable!()
        }

        #awaited
    }
}

fn cast(verdict: &Verdict, names: &Names<'_>, method: &ImplItemFn) -> TokenStream {
    let krate = &verdict.options.krate;
    let message = &names.message;
    let (vis, name, variant) = (&method.vis, &method.sig.ident, variant(&method.sig.ident));
    let (arguments, types): (Vec<_>, Vec<_>) = arguments(method).into_iter().unzip();
    let docs = carried(method);
    if !verdict.sound {
        let types = quote!(::core::result::Result<(), #krate::actor::CastError<#message>>);
        return method_fallback(method, &types);
    }
    quote! {
        #(#docs)*
        ///
        /// Returns once the message is in the mailbox, without waiting until it is handled.
        ///
        /// # Errors
        ///
        /// The message was not accepted; the error returns it.
        #vis fn #name(&self, #(#arguments: #types),*) -> ::core::result::Result<(), #krate::actor::CastError<#message>> {
            self.0.cast(#message::#variant { #(#arguments),* })
        }
    }
}
