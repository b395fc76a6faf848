//! What is generated: only quoting. Nothing here can fail.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Attribute, FnArg, Ident, LitStr, Path, ReturnType, Type, parse_quote};

use crate::check::Verdict;
use crate::parse::{self, Function};

/// `#[derive(Worker)]`.
pub(crate) fn worker_type(item: &parse::Type, verdict: &Verdict) -> TokenStream {
    let input = &item.input;
    let name = &input.ident;
    let mut generics = input.generics.clone();
    let lifetimes = input
        .generics
        .lifetimes()
        .map(|param| param.lifetime.to_token_stream());
    let types = input
        .generics
        .type_params()
        .map(|param| param.ident.to_token_stream());
    for param in lifetimes.chain(types) {
        generics
            .make_where_clause()
            .predicates
            .push(parse_quote!(#param: 'static));
    }
    let (params, args, bounds) = generics.split_for_impl();
    let implementation = implement_worker(
        verdict,
        &quote!(#params),
        &quote!(#name #args),
        &quote!(#bounds),
    );
    let registration =
        (verdict.sound && item.is_concrete()).then(|| register(&verdict.krate, name, &input.attrs));
    quote!(#implementation #registration)
}

fn implement_worker(
    verdict: &Verdict,
    params: &TokenStream,
    ty: &TokenStream,
    bounds: &TokenStream,
) -> TokenStream {
    let krate = &verdict.krate;
    let worker_name = verdict.name.as_ref().map(|name| {
        quote! {
            fn worker_name() -> &'static ::core::primitive::str {
                #name
            }
        }
    });
    quote! {
        #[automatically_derived]
        #[allow(deprecated)]
        impl #params #krate::Worker for #ty #bounds {
            #worker_name
        }
    }
}

fn register(krate: &Path, name: &Ident, attrs: &[Attribute]) -> TokenStream {
    let registration = quote!(#krate::register!(#name););
    if attrs.iter().any(|attr| attr.path().is_ident("deprecated")) {
        // The warning is for those who use the worker. A lint attribute on the macro call itself has no effect.
        quote! {
            #[allow(deprecated)]
            const _: () = { #registration };
        }
    } else {
        registration
    }
}

/// `#[offspring::worker]`.
pub(crate) fn worker(function: &Function, verdict: &Verdict) -> TokenStream {
    let mut plain_sig = function.sig.clone();
    for input in &mut plain_sig.inputs {
        if let FnArg::Typed(typed) = input {
            typed.attrs.retain(|attr| !attr.path().is_ident("serde"));
        }
    }
    let plain = print(
        &function.attrs,
        &function.vis.to_token_stream(),
        &plain_sig,
        function,
        None,
    );
    let has_receiver = function.sig.receiver().is_some();
    let worker = match (verdict.sound, has_receiver) {
        (true, _) => worker_struct(function, verdict),
        (false, false) => worker_fallback(function, verdict),
        // In an `impl` block, where a struct would be a syntax error.
        (false, true) => TokenStream::new(),
    };
    quote!(#plain #worker)
}

fn worker_struct(function: &Function, verdict: &Verdict) -> TokenStream {
    let Verdict { krate, output, .. } = verdict;
    let Function {
        vis, sig, attrs, ..
    } = function;
    let name = &sig.ident;
    let arguments: Vec<_> = function.arguments().collect();
    let names: Vec<_> = arguments.iter().map(|argument| &argument.name).collect();
    let types: Vec<_> = arguments.iter().map(|argument| argument.ty).collect();
    let fields = arguments.iter().map(|argument| {
        let attrs = argument
            .attrs
            .iter()
            .filter(|attr| attr.path().is_ident("serde"));
        let (name, ty) = (&argument.name, argument.ty);
        quote!(#(#attrs)* #name: #ty)
    });
    let head = worker_head(function, verdict);
    let implementation = implement_worker(
        verdict,
        &TokenStream::new(),
        &quote!(#name),
        &TokenStream::new(),
    );
    let registration = register(krate, name, attrs);
    let new_docs = format!(" Makes the worker that calls `{name}` with these arguments.");
    let spawn_docs = format!(" Calls `{name}` with these arguments in a child process.");
    quote! {
        #head
        #vis struct #name { #(#fields,)* }

        #[allow(dead_code, deprecated, clippy::too_many_arguments)]
        impl #name {
            #[doc = #new_docs]
            #[must_use]
            #vis fn new(#(#names: #types),*) -> Self {
                Self { #(#names),* }
            }

            #[doc = #spawn_docs]
            ///
            /// # Errors
            ///
            /// Says why the child could not be started.
            #vis fn spawn(#(#names: #types),*)
                -> ::core::result::Result<#krate::Process<#output>, #krate::SpawnError>
            {
                #krate::ProcessWorker::spawn(Self { #(#names),* })
            }
        }

        #[allow(deprecated)]
        impl #krate::ProcessWorker for #name {
            type Output = #output;

            fn run(self) -> #output {
                #name(#(self.#names),*)
            }
        }

        #implementation
        #registration
    }
}

/// The attributes of the struct.
fn worker_head(function: &Function, verdict: &Verdict) -> TokenStream {
    let krate = &verdict.krate;
    let carried = function.attrs.iter().filter(|attr| {
        let path = attr.path();
        let is_doc_list = path.is_ident("doc") && attr.meta.require_list().is_ok();
        is_doc_list || path.is_ident("deprecated") || path.is_ident("allow")
    });
    let summary = parse::summary(&function.attrs);
    let docs = format!(
        "{summary}\n\n The function `{}` as a worker: a value that runs it in a child.",
        function.sig.ident
    );
    let serde = quote!(#krate::__private::serde);
    let serde_path = serde.to_string();
    quote! {
        #(#carried)*
        #[doc = #docs]
        #[derive(#serde::Serialize, #serde::Deserialize)]
        #[serde(crate = #serde_path)]
        #[allow(non_camel_case_types)]
    }
}

/// A worker that can be named and called as the function was meant, so that no use of it is a second error.
fn worker_fallback(function: &Function, verdict: &Verdict) -> TokenStream {
    let Verdict { krate, output, .. } = verdict;
    let Function { vis, sig, .. } = function;
    let name = &sig.ident;
    let (params, _, bounds) = sig.generics.split_for_impl();
    let types: Vec<_> = function.arguments().map(|argument| argument.ty).collect();
    let head = worker_head(function, verdict);
    let implementation = implement_worker(
        verdict,
        &TokenStream::new(),
        &quote!(#name),
        &TokenStream::new(),
    );
    quote! {
        #head
        #vis struct #name {}

        #[allow(dead_code)]
        impl #name {
            #vis fn new #params (#(_: #types),*) -> Self #bounds {
                Self {}
            }

            #vis fn spawn #params (#(_: #types),*)
                -> ::core::result::Result<#krate::Process<#output>, #krate::SpawnError> #bounds
            {
                ::core::unreachable!()
            }
        }

        impl #krate::ProcessWorker for #name {
            type Output = #output;

            fn run(self) -> #output {
                ::core::unreachable!()
            }
        }

        #implementation
    }
}

/// `#[offspring::main]`.
pub(crate) fn main(function: &Function, verdict: &Verdict) -> TokenStream {
    let Function {
        vis, sig, attrs, ..
    } = function;
    if !verdict.sound {
        let is_main = sig.ident == "main";
        return if is_main {
            main_fallback(function)
        } else {
            print(attrs, vis, sig, function, None)
        };
    }
    let krate = &verdict.krate;
    let init = quote!(#krate::init(););
    if !function.has_foreign_attribute() {
        return print(attrs, vis, sig, function, Some(init));
    }
    let (known, foreign) = split(attrs);
    let inner = print(foreign, &TokenStream::new(), sig, function, None);
    let output = &sig.output;
    quote! {
        #(#known)*
        #vis fn main() #output {
            #inner
            #init
            main()
        }
    }
}

/// A `main` that rustc accepts around the one it would not.
fn main_fallback(function: &Function) -> TokenStream {
    let inner = print(&[], &TokenStream::new(), &function.sig, function, None);
    quote! {
        fn main() {
            #[allow(dead_code)]
            #inner
            ::core::unreachable!()
        }
    }
}

/// `#[offspring::test]`.
pub(crate) fn test(function: &Function, verdict: &Verdict) -> TokenStream {
    let Function {
        vis, sig, attrs, ..
    } = function;
    if !verdict.sound {
        let plain = print(&[], vis, sig, function, None);
        return quote!(#[allow(dead_code)] #plain);
    }
    let krate = &verdict.krate;
    let name = &sig.ident;
    let text = LitStr::new(&name.to_string(), name.span());
    let path = quote!(::core::concat!(::core::module_path!(), "::", #text));
    let enter = quote!(#krate::__private::enter_test(#path););
    // By its path, since `use offspring::test` may have taken the short name.
    let mark: Attribute = parse_quote!(#[::core::prelude::v1::test]);

    let (known, foreign) = match sig.asyncness {
        Some(_) => split(attrs),
        None => (attrs.iter().collect(), Vec::new()),
    };
    if foreign.is_empty() && verdict.timeout.is_none() {
        return print(
            std::iter::once(&mark).chain(attrs),
            vis,
            sig,
            function,
            Some(enter),
        );
    }
    let inner = print(foreign, &TokenStream::new(), sig, function, None);
    let output = &sig.output;
    let (output, call) = match verdict.timeout {
        None => (quote!(#output), quote!(#name())),
        Some(timeout) => {
            let (seconds, nanos) = (timeout.as_secs(), timeout.subsec_nanos());
            let limit = quote!(::core::time::Duration::new(#seconds, #nanos));
            let deadline = |body| quote!(#krate::__private::with_deadline(#path, #limit, #body));
            if returns_unit(output) {
                (TokenStream::new(), deadline(quote!(#name)))
            } else {
                // `Box<dyn Error>` cannot leave its thread, what it means for the test can.
                let body = quote!(|| ::std::process::Termination::report(#name()));
                (quote!(-> ::std::process::ExitCode), deadline(body))
            }
        }
    };
    quote! {
        #mark
        #(#known)*
        #vis fn #name() #output {
            #inner
            #enter
            #call
        }
    }
}

fn returns_unit(output: &ReturnType) -> bool {
    match output {
        ReturnType::Default => true,
        ReturnType::Type(_, ty) => matches!(&**ty, Type::Tuple(tuple) if tuple.elems.is_empty()),
    }
}

/// The attributes that rustc knows, and the others.
fn split(attrs: &[Attribute]) -> (Vec<&Attribute>, Vec<&Attribute>) {
    attrs
        .iter()
        .partition(|attr| parse::is_known_to_rustc(attr))
}

/// The function with its body, before which comes `first`.
fn print<'a>(
    attrs: impl IntoIterator<Item = &'a Attribute>,
    vis: &impl ToTokens,
    sig: &syn::Signature,
    function: &Function,
    first: Option<TokenStream>,
) -> TokenStream {
    let attrs = attrs.into_iter();
    let mut printed = quote!(#(#attrs)* #vis #sig);
    // With the braces as written, since rustc points at them, as for a missing value at the end.
    function.brace.surround(&mut printed, |block| {
        let Function {
            inner_attrs, body, ..
        } = function;
        block.extend(quote!(#(#inner_attrs)* #first #body));
    });
    printed
}
