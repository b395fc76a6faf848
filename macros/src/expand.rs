//! Code generation. It cannot fail.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::{Attribute, FnArg, Generics, Ident, LitStr, ReturnType, Type, parse_quote};

use crate::check::Verdict;
use crate::crossing;
use crate::options::Options;
use crate::parse::{self, Function};

/// `#[derive(Worker)]`.
pub(crate) fn worker_type(item: &parse::Type, verdict: &Verdict) -> TokenStream {
    let input = &item.input;
    let name = &input.ident;
    let mut generics = input.generics.clone();
    let lifetimes = input.generics.lifetimes().map(|param| param.lifetime.to_token_stream());
    let types = input.generics.type_params().map(|param| param.ident.to_token_stream());
    for param in lifetimes.chain(types) {
        generics.make_where_clause().predicates.push(parse_quote!(#param: 'static));
    }
    let implementation = implement_worker(verdict, name, &generics);
    let registration =
        (verdict.sound && item.is_concrete()).then(|| register(verdict, name, &input.attrs));
    quote!(#implementation #registration)
}

fn implement_worker(verdict: &Verdict, name: &Ident, generics: &Generics) -> TokenStream {
    let Options { krate, name: stable_name, .. } = &verdict.options;
    let (params, args, bounds) = generics.split_for_impl();
    let worker_name = stable_name.as_ref().map(|stable_name| {
        quote! {
            fn worker_name() -> &'static ::core::primitive::str {
                #stable_name
            }
        }
    });
    quote! {
        #[automatically_derived]
        #[allow(deprecated)]
        impl #params #krate::Worker for #name #args #bounds {
            #worker_name
        }
    }
}

fn register(verdict: &Verdict, name: &Ident, attrs: &[Attribute]) -> TokenStream {
    let krate = &verdict.options.krate;
    let registration = quote!(#krate::register!(#name););
    if attrs.iter().any(|attr| attr.path().is_ident("deprecated")) {
        // Only uses of the worker should warn, not its registration. An `allow` on the macro call
        // itself has no effect.
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
    let plain = print(&function.attrs, &function.vis.to_token_stream(), &plain_sig, function, None);
    let has_receiver = function.sig.receiver().is_some();
    let worker = match (verdict.sound, has_receiver) {
        (true, _) => worker_struct(function, verdict),
        (false, false) => worker_fallback(function, verdict),
        // A method: a struct in an `impl` block would be a syntax error.
        (false, true) => TokenStream::new(),
    };
    quote!(#plain #worker)
}

fn worker_struct(function: &Function, verdict: &Verdict) -> TokenStream {
    let Verdict { options: Options { krate, .. }, output, .. } = verdict;
    let Function { vis, sig, attrs, .. } = function;
    let name = &sig.ident;
    let arguments: Vec<_> = function.arguments().collect();
    let names: Vec<_> = arguments.iter().map(|argument| &argument.name).collect();
    let types: Vec<_> = arguments.iter().map(|argument| argument.ty).collect();
    let mut assertions = TokenStream::new();
    let fields = arguments.iter().map(|argument| {
        let mut attrs =
            argument.attrs.iter().filter(|attr| attr.path().is_ident("serde")).peekable();
        let (argument, ty) = (&argument.name, argument.ty);
        // If the function has serde attributes of its own, they decide.
        let crossing = attrs.peek().is_none().then(|| {
            let bare = argument.unraw().to_string();
            let what = format!("the argument `{bare}`");
            let crossing = crossing::crossing(krate, name, &bare, ty, &what);
            assertions.extend(crossing.items);
            crossing.attribute
        });
        quote!(#(#attrs)* #crossing #argument: #ty)
    });
    let fields: Vec<_> = fields.collect();
    let head = worker_head(function, verdict);
    let implementations = implement_function(function, verdict, &quote!(#name(#(self.#names),*)));
    let registration = register(verdict, name, attrs);
    let new_docs = format!(" Creates a worker that calls `{name}` with these arguments.");
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
            /// The child failed to start.
            #vis fn spawn(#(#names: #types),*)
                -> ::core::result::Result<#krate::Process<#output>, #krate::SpawnError>
            {
                #krate::ProcessWorker::spawn(Self { #(#names),* })
            }
        }

        #implementations
        #assertions
        #registration
    }
}

fn implement_function(function: &Function, verdict: &Verdict, run: &TokenStream) -> TokenStream {
    let Verdict { options: Options { krate, .. }, output, .. } = verdict;
    let name = &function.sig.ident;
    let worker = implement_worker(verdict, name, &Generics::default());
    quote! {
        #[allow(deprecated)]
        impl #krate::ProcessWorker for #name {
            type Output = #output;

            fn run(self) -> #output {
                #run
            }
        }

        #worker
    }
}

/// The attributes of the struct.
fn worker_head(function: &Function, verdict: &Verdict) -> TokenStream {
    let krate = &verdict.options.krate;
    let carried = function.attrs.iter().filter(|attr| {
        let path = attr.path();
        let is_doc_list = path.is_ident("doc") && attr.meta.require_list().is_ok();
        is_doc_list || path.is_ident("deprecated") || path.is_ident("allow")
    });
    let summary = parse::summary(&function.attrs);
    let docs = format!(
        "{summary}\n\n The function `{}` as a worker: a value that a child process can run.",
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

/// A worker that can be named and called as intended, so that uses of a rejected function cause no
/// further errors.
fn worker_fallback(function: &Function, verdict: &Verdict) -> TokenStream {
    let Verdict { options: Options { krate, .. }, output, .. } = verdict;
    let Function { vis, sig, .. } = function;
    let name = &sig.ident;
    let (params, _, bounds) = sig.generics.split_for_impl();
    let types: Vec<_> = function.arguments().map(|argument| argument.ty).collect();
    let head = worker_head(function, verdict);
    let implementations = implement_function(function, verdict, &quote!(::core::unreachable!()));
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

        #implementations
    }
}

/// `#[offspring::main]`.
pub(crate) fn main(function: &Function, verdict: &Verdict) -> TokenStream {
    let Function { vis, sig, attrs, .. } = function;
    if !verdict.sound {
        let is_main = sig.ident == "main";
        return if is_main {
            main_fallback(function)
        } else {
            print(attrs, vis, sig, function, None)
        };
    }
    let krate = &verdict.options.krate;
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

/// A valid `main` in place of the rejected one.
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
    let Function { vis, sig, attrs, .. } = function;
    if !verdict.sound {
        let plain = print(&[], vis, sig, function, None);
        return quote!(#[allow(dead_code)] #plain);
    }
    let krate = &verdict.options.krate;
    let name = &sig.ident;
    let text = LitStr::new(&name.to_string(), name.span());
    let path = quote!(::core::concat!(::core::module_path!(), "::", #text));
    let enter = quote! {
        static TEST: #krate::__private::TestPath = #krate::__private::TestPath(#path);
        #krate::__private::inventory::submit! { #krate::__private::TestPath(#path) }
        #krate::__private::enter_test(&TEST);
    };
    // The full path, because `use offspring::test` would shadow the short name.
    let mark: Attribute = parse_quote!(#[::core::prelude::v1::test]);

    let (known, foreign) = match sig.asyncness {
        Some(_) => split(attrs),
        None => (attrs.iter().collect(), Vec::new()),
    };
    if foreign.is_empty() && verdict.options.timeout.is_none() {
        return print(std::iter::once(&mark).chain(attrs), vis, sig, function, Some(enter));
    }
    let inner = print(foreign, &TokenStream::new(), sig, function, None);
    let output = &sig.output;
    let (output, call) = match verdict.options.timeout {
        None => (quote!(#output), quote!(#name())),
        Some(timeout) => {
            let (seconds, nanos) = (timeout.as_secs(), timeout.subsec_nanos());
            let limit = quote!(::core::time::Duration::new(#seconds, #nanos));
            let deadline = |body| quote!(#krate::__private::with_deadline(#path, #limit, #body));
            if returns_unit(output) {
                (TokenStream::new(), deadline(quote!(#name)))
            } else {
                // `Box<dyn Error>` is not `Send`, but the exit code is.
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

/// Splits attributes into those that rustc knows and the others.
fn split(attrs: &[Attribute]) -> (Vec<&Attribute>, Vec<&Attribute>) {
    attrs.iter().partition(|attr| parse::is_known_to_rustc(attr))
}

/// Prints the function, with `first` before its body.
fn print<'a>(
    attrs: impl IntoIterator<Item = &'a Attribute>,
    vis: &impl ToTokens,
    sig: &syn::Signature,
    function: &Function,
    first: Option<TokenStream>,
) -> TokenStream {
    let attrs = attrs.into_iter();
    let mut printed = quote!(#(#attrs)* #vis #sig);
    // With the original braces, because some errors point at them.
    function.brace.surround(&mut printed, |block| {
        let Function { inner_attrs, body, .. } = function;
        block.extend(quote!(#(#inner_attrs)* #first #body));
    });
    printed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    fn function(args: TokenStream, item: TokenStream) -> Function {
        Function::parse("main", args, item).ok().unwrap()
    }

    #[track_caller]
    fn expands(generated: TokenStream, expected: TokenStream) {
        assert_eq!(generated.to_string(), expected.to_string());
    }

    #[test]
    fn main_begins_with_init() {
        let written = function(
            quote!(crate = facade),
            quote! {
                #[allow(unused)]
                fn main() -> Ret {
                    #![allow(dead_code)]
                    body
                }
            },
        );
        let expected = quote! {
            #[allow(unused)]
            fn main() -> Ret {
                #![allow(dead_code)]
                facade::init();
                body
            }
        };
        expands(main(&written, &check::main(&written)), expected);
    }

    #[test]
    fn main_of_a_runtime_is_called_after_init() {
        let written = function(
            quote!(),
            quote! {
                #[allow(unused)]
                #[tokio::main]
                async fn main() -> Ret {
                    body.await
                }
            },
        );
        let expected = quote! {
            #[allow(unused)]
            fn main() -> Ret {
                #[tokio::main]
                async fn main() -> Ret {
                    body.await
                }
                ::offspring::init();
                main()
            }
        };
        expands(main(&written, &check::main(&written)), expected);
    }

    /// Registers the test, so that the children of plain tests can start at it.
    fn entering(path: &TokenStream) -> TokenStream {
        quote! {
            static TEST: ::offspring::__private::TestPath =
                ::offspring::__private::TestPath(#path);
            ::offspring::__private::inventory::submit! { ::offspring::__private::TestPath(#path) }
            ::offspring::__private::enter_test(&TEST);
        }
    }

    #[test]
    fn a_test_of_a_runtime_is_entered_before_it() {
        let written = function(
            quote!(timeout = "1500ms"),
            quote! {
                #[should_panic]
                #[tokio::main]
                async fn waits() {
                    body.await
                }
            },
        );
        let path = quote!(::core::concat!(::core::module_path!(), "::", "waits"));
        let enter = entering(&path);
        let expected = quote! {
            #[::core::prelude::v1::test]
            #[should_panic]
            fn waits() {
                #[tokio::main]
                async fn waits() {
                    body.await
                }
                #enter
                ::offspring::__private::with_deadline(
                    #path,
                    ::core::time::Duration::new(1u64, 500000000u32),
                    waits
                )
            }
        };
        expands(test(&written, &check::test(&written)), expected);
    }

    #[test]
    fn a_test_with_a_deadline_returns_an_exit_code_for_a_value() {
        let written = function(
            quote!(timeout = "1s"),
            quote! {
                #[serial]
                fn r#true() -> Ret {
                    body
                }
            },
        );
        let path = quote!(::core::concat!(::core::module_path!(), "::", "r#true"));
        let enter = entering(&path);
        let expected = quote! {
            #[::core::prelude::v1::test]
            #[serial]
            fn r#true() -> ::std::process::ExitCode {
                fn r#true() -> Ret {
                    body
                }
                #enter
                ::offspring::__private::with_deadline(
                    #path,
                    ::core::time::Duration::new(1u64, 0u32),
                    || ::std::process::Termination::report(r#true())
                )
            }
        };
        expands(test(&written, &check::test(&written)), expected);
    }
}
