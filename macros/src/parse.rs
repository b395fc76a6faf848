//! Parsing: the item under an attribute, and the attribute's arguments. Nothing here rejects what
//! it can parse.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::format_ident;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{
    Attribute, DeriveInput, Expr, ExprLit, FnArg, Ident, Lit, Meta, Pat, Signature, Token,
    Visibility, braced, token,
};

/// One `key = value` among the arguments of an attribute.
pub(crate) struct Pair {
    pub(crate) key: Ident,
    pub(crate) value: Expr,
}

impl Parse for Pair {
    fn parse(input: ParseStream<'_>) -> syn::Result<Pair> {
        // Not `Ident::parse`: `crate` is a keyword.
        let key = input.call(Ident::parse_any)?;
        if !input.peek(Token![=]) {
            let message = format!("`{key}` needs a value: `{key} = ..`");
            return Err(syn::Error::new(key.span(), message));
        }
        input.parse::<Token![=]>()?;
        Ok(Pair { key, value: input.parse()? })
    }
}

/// The arguments of an attribute. A parse error is kept, to be reported with the other mistakes.
pub(crate) type Args = syn::Result<Vec<Pair>>;

pub(crate) fn pairs(input: ParseStream<'_>) -> syn::Result<Vec<Pair>> {
    Ok(Punctuated::<Pair, Token![,]>::parse_terminated(input)?.into_iter().collect())
}

/// A type under `#[derive(Worker)]`.
pub(crate) struct Type {
    pub(crate) args: Args,
    pub(crate) input: DeriveInput,
}

impl Type {
    pub(crate) fn parse(input: TokenStream) -> syn::Result<Type> {
        let input: DeriveInput = syn::parse2(input)?;
        let mut args = Vec::new();
        let mut error: Option<syn::Error> = None;
        for attr in input.attrs.iter().filter(|attr| is_option(attr)) {
            match attr.parse_args_with(pairs) {
                Ok(more) => args.extend(more),
                Err(new) => match &mut error {
                    Some(error) => error.combine(new),
                    None => error = Some(new),
                },
            }
        }
        Ok(Type { args: error.map_or(Ok(args), Err), input })
    }

    /// Whether the type has no generic parameters, so that the derive can register it.
    pub(crate) fn is_concrete(&self) -> bool {
        self.input.generics.params.is_empty()
    }
}

/// Whether this is the `#[offspring(..)]` of the derive.
pub(crate) fn is_option(attr: &Attribute) -> bool {
    attr.path().is_ident("offspring")
}

/// A function under one of the attributes.
///
/// The body stays unparsed: the macros do not need it, and rustc may know more syntax than syn.
pub(crate) struct Function {
    pub(crate) args: Args,
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    pub(crate) brace: token::Brace,
    pub(crate) inner_attrs: Vec<Attribute>,
    pub(crate) body: TokenStream,
}

/// An argument of a [`Function`].
pub(crate) struct Argument<'a> {
    pub(crate) attrs: &'a [Attribute],
    /// Its name, or a made-up one if it is a pattern.
    pub(crate) name: Ident,
    pub(crate) ty: &'a syn::Type,
}

impl Function {
    /// Parses `item`. On failure, returns it unchanged, followed by the error.
    pub(crate) fn parse(
        attribute: &str,
        args: TokenStream,
        item: TokenStream,
    ) -> Result<Function, TokenStream> {
        match syn::parse2::<Function>(item.clone()) {
            Ok(mut function) => {
                function.args = syn::parse::Parser::parse2(pairs, args);
                Ok(function)
            }
            Err(_) => {
                let message =
                    format!("`#[offspring::{attribute}]` belongs on a function with a body");
                let error = syn::Error::new(Span::call_site(), message).into_compile_error();
                Err(TokenStream::from_iter([item, error]))
            }
        }
    }

    /// The arguments without `self`.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = Argument<'_>> {
        self.sig.inputs.iter().enumerate().filter_map(|(place, input)| match input {
            FnArg::Receiver(_) => None,
            FnArg::Typed(typed) => {
                let name = match &*typed.pat {
                    Pat::Ident(pat) => pat.ident.clone(),
                    _ => format_ident!("argument_{place}"),
                };
                Some(Argument { attrs: &typed.attrs, name, ty: &typed.ty })
            }
        })
    }

    /// Whether there is an attribute that rustc does not know. It may belong to a runtime, which
    /// can run an `async fn`.
    pub(crate) fn has_foreign_attribute(&self) -> bool {
        self.attrs.iter().any(|attr| !is_known_to_rustc(attr))
    }
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> syn::Result<Function> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        let sig = input.parse()?;
        let content;
        let brace = braced!(content in input);
        let inner_attrs = content.call(Attribute::parse_inner)?;
        let body = content.parse()?;
        Ok(Function { args: Ok(Vec::new()), attrs, vis, sig, brace, inner_attrs, body })
    }
}

/// Whether the attribute makes its function a test, like `#[test]` and `#[tokio::test]`.
pub(crate) fn makes_a_test(attr: &Attribute) -> bool {
    attr.path().segments.last().is_some_and(|last| last.ident == "test")
}

/// Whether the attribute can stay on a function whose body is replaced: it is not a macro that
/// transforms the body.
pub(crate) fn is_known_to_rustc(attr: &Attribute) -> bool {
    const BUILT_IN: [&str; 20] = [
        "allow",
        "cfg",
        "cfg_attr",
        "cold",
        "coverage",
        "deny",
        "deprecated",
        "doc",
        "expect",
        "export_name",
        "forbid",
        "ignore",
        "inline",
        "must_use",
        "no_mangle",
        "should_panic",
        "target_feature",
        "track_caller",
        "unsafe",
        "warn",
    ];
    const TOOLS: [&str; 4] = ["clippy", "diagnostic", "rust_analyzer", "rustfmt"];
    let path = attr.path();
    match path.get_ident() {
        Some(name) => BUILT_IN.iter().any(|known| name == known),
        None => {
            path.segments.first().is_some_and(|tool| TOOLS.iter().any(|known| tool.ident == known))
        }
    }
}

/// The first paragraph of the doc comment in `attrs`, and all link definitions.
///
/// The rest is left out: an example in it would run twice.
pub(crate) fn summary(attrs: &[Attribute]) -> String {
    let docs = attrs.iter().filter_map(doc_text).collect::<Vec<_>>().join("\n");
    let mut lines = docs.lines().skip_while(|line| line.trim().is_empty()).peekable();
    let is_code =
        |line: &str| line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~");
    if lines.peek().is_some_and(|first| first.starts_with("     ")) {
        return String::new();
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut in_summary = true;
    for line in lines {
        in_summary &= !line.trim().is_empty() && !is_code(line);
        let is_definition = line.trim_start().starts_with('[') && line.contains("]: ");
        match (in_summary, is_definition) {
            (true, _) => kept.push(line),
            // Without an empty line before it, a definition would belong to the paragraph.
            (false, true) => kept.extend(["", line]),
            (false, false) => {}
        }
    }
    kept.join("\n")
}

/// The text of `/// text`, which is `#[doc = " text"]`.
fn doc_text(attr: &Attribute) -> Option<String> {
    match &attr.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

/// Reads `500ms`, `10s` or `2m`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..unit].parse().ok()?;
    match &text[unit..] {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use quote::quote;
    use syn::parse_quote;

    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("10s"), Some(Duration::from_secs(10)));
        assert_eq!(duration("2m"), Some(Duration::from_secs(120)));
        assert_eq!(duration("0s"), Some(Duration::ZERO));
    }

    #[test]
    fn anything_else_is_no_duration() {
        for text in
            ["", "10", "s", "-1s", "+1s", "1.5s", "10 s", " 10s", "10S", "1h", "1s2ms", "١s"]
        {
            assert_eq!(duration(text), None, "{text:?}");
        }
        assert_eq!(duration("18446744073709551616s"), None, "more than a u64");
        assert_eq!(duration("18446744073709551615m"), None, "more seconds than a u64");
    }

    #[test]
    fn the_summary_is_the_first_paragraph() {
        let attrs: Vec<Attribute> = vec![
            parse_quote!(#[doc = ""]),
            parse_quote!(#[doc = " Ticks, see [`clock`]"]),
            parse_quote!(#[allow(unused)]),
            parse_quote!(#[doc = " and [more]."]),
            parse_quote!(#[doc(hidden)]),
            parse_quote!(#[doc = ""]),
            parse_quote!(#[doc = " Details.\n\n [more]: crate::more"]),
        ];
        assert_eq!(summary(&attrs), " Ticks, see [`clock`]\n and [more].\n\n [more]: crate::more");
    }

    #[test]
    fn the_summary_has_no_example() {
        let fenced: Vec<Attribute> = vec![parse_quote!(#[doc = " Ticks:\n ```\n tick();\n ```"])];
        assert_eq!(summary(&fenced), " Ticks:");
        let indented: Vec<Attribute> = vec![parse_quote!(#[doc = "     tick();"])];
        assert_eq!(summary(&indented), "");
        assert_eq!(summary(&[]), "");
    }

    #[test]
    fn attributes_are_told_apart() {
        let known = |attr: Attribute| is_known_to_rustc(&attr);
        assert!(known(parse_quote!(#[should_panic(expected = "x")])));
        assert!(known(parse_quote!(#[doc = " text"])));
        assert!(known(parse_quote!(#[clippy::msrv = "1.86"])));
        assert!(!known(parse_quote!(#[tokio::main(flavor = "current_thread")])));
        assert!(!known(parse_quote!(#[main])));
        assert!(makes_a_test(&parse_quote!(#[test])));
        assert!(makes_a_test(&parse_quote!(#[tokio::test])));
        assert!(makes_a_test(&parse_quote!(#[::core::prelude::v1::test])));
        assert!(!makes_a_test(&parse_quote!(#[tokio::main])));
    }

    #[test]
    fn a_function_keeps_a_body_that_syn_does_not_know() {
        let item = quote!(
            pub(crate) fn f(mut a: u32, (b, c): (u8, u8)) -> u32 {
                #![allow(unused)]
                some future syntax
            }
        );
        let function =
            Function::parse("worker", quote!(name = "f", crate = crate), item).ok().unwrap();
        let names: Vec<String> =
            function.arguments().map(|argument| argument.name.to_string()).collect();
        assert_eq!(names, ["a", "argument_1"]);
        assert_eq!(function.inner_attrs.len(), 1);
        assert_eq!(function.body.to_string(), "some future syntax");
        let keys: Vec<String> =
            function.args.unwrap().iter().map(|pair| pair.key.to_string()).collect();
        assert_eq!(keys, ["name", "crate"]);
    }

    #[test]
    fn what_is_no_function_is_given_back() {
        let written = Function::parse(
            "worker",
            quote!(),
            quote!(
                struct S;
            ),
        )
        .err()
        .unwrap()
        .to_string();
        assert!(written.starts_with("struct S ;"), "{written}");
        assert!(written.contains("belongs on a function"), "{written}");
    }
}
