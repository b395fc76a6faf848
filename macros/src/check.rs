//! The rules. The error of each says what to write instead.

use std::fmt::Display;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{
    Attribute, Data, FnArg, Lifetime, Pat, PatType, ReturnType, Safety, TypeImplTrait,
    TypeReference, parse_quote,
};

use crate::options::{Errors, Key, Options};
use crate::parse::{self, Args, Function, Type};

/// The result of checking an item.
pub(crate) struct Verdict {
    pub(crate) options: Options,
    /// The output type of the worker, or `()` if the function's output cannot be one.
    pub(crate) output: syn::Type,
    /// Whether the item obeys the rules. If not, its full expansion would add errors that do not
    /// help the user. A mistake in the attribute's arguments leaves the item sound.
    pub(crate) sound: bool,
    /// Whether a method has a reserved name. The rest is still expanded, so that uses of the item
    /// cause no further errors.
    pub(crate) misnamed: bool,
    errors: Errors,
}

impl Verdict {
    pub(crate) fn new(args: &Args, attribute: &str, known: &[Key]) -> Verdict {
        let mut errors = Errors::default();
        let options = Options::read(args, attribute, known, &mut errors);
        Verdict { options, output: parse_quote!(()), sound: true, misnamed: false, errors }
    }

    /// Returns `expansion` followed by all errors.
    pub(crate) fn report(&self, mut expansion: TokenStream) -> TokenStream {
        expansion.extend(self.errors.get().map(syn::Error::to_compile_error));
        expansion
    }

    /// Records that the item breaks a rule.
    pub(crate) fn refuse(&mut self, at: impl ToTokens, message: impl Display) {
        self.sound = false;
        self.errors.at(at, message);
    }

    /// Records a reserved name.
    pub(crate) fn misname(&mut self, at: impl ToTokens, message: impl Display) {
        self.misnamed = true;
        self.errors.at(at, message);
    }
}

/// The rules of `#[derive(Worker)]`.
pub(crate) fn worker_type(item: &Type) -> Verdict {
    let mut verdict = Verdict::new(&item.args, "#[offspring(..)]", &[Key::Name, Key::Crate]);
    let input = &item.input;
    for lifetime in input.generics.lifetimes() {
        verdict.refuse(
            lifetime,
            "a worker moves to another process and cannot borrow: \
             use owned data such as `String`, `Vec<T>` or `Arc<T>`",
        );
    }
    let name = if item.is_concrete() { None } else { verdict.options.name.take() };
    if let Some(name) = name {
        verdict.errors.at(
            name,
            "all instances of a generic worker would share this name: \
             remove `name`, so that each is registered under its path",
        );
    }
    let attrs_within: Vec<&Attribute> = match &input.data {
        Data::Struct(data) => data.fields.iter().flat_map(|field| &field.attrs).collect(),
        Data::Enum(data) => {
            let fields = data.variants.iter().flat_map(|variant| &variant.fields);
            let of_fields = fields.flat_map(|field| &field.attrs);
            data.variants.iter().flat_map(|variant| &variant.attrs).chain(of_fields).collect()
        }
        Data::Union(data) => {
            let message = "a union cannot be sent to another process: use a struct or an enum";
            verdict.refuse(data.union_token, message);
            Vec::new()
        }
    };
    for attr in attrs_within.into_iter().filter(|attr| parse::is_option(attr)) {
        let message = "`#[offspring(..)]` applies to the whole worker: put it on the type";
        verdict.errors.at(attr, message);
    }
    verdict
}

/// The rules of `#[offspring::worker]`.
pub(crate) fn worker(function: &Function) -> Verdict {
    let mut verdict =
        Verdict::new(&function.args, "#[offspring::worker]", &[Key::Name, Key::Crate]);
    let sig = &function.sig;
    let is_generic =
        sig.generics.type_params().next().is_some() || sig.generics.const_params().next().is_some();
    if let ReturnType::Type(_, output) = &sig.output {
        fits(&mut verdict, Direction::Out, output);
        // `!` cannot be named on stable, and a call that does not return has any type.
        if verdict.sound && !is_generic && !matches!(**output, syn::Type::Never(_)) {
            verdict.output = syn::Type::clone(output);
        }
    }
    if let Some(asyncness) = &sig.asyncness {
        verdict.refuse(
            asyncness,
            "a worker is a plain function: remove `async` and start a runtime in the body",
        );
    }
    if let Safety::Unsafe(unsafety) = &sig.safety {
        verdict.refuse(
            unsafety,
            "safe code can spawn a worker, so it cannot be `unsafe`: \
             call this function from a safe worker",
        );
    }
    if let Some(abi) = &sig.abi {
        verdict.refuse(
            abi,
            "a worker cannot be `extern`: \
             remove `extern`, or call this function from a plain worker",
        );
    }
    for input in &sig.inputs {
        match input {
            FnArg::Receiver(receiver) => verdict.refuse(
                receiver,
                "a method cannot be a worker: \
                 write a free function that takes the value as an argument",
            ),
            FnArg::Typed(typed) => argument(&mut verdict, typed),
        }
    }
    if is_generic {
        verdict.refuse(
            &sig.generics,
            "a generic function cannot be registered, because its instances are not known here: \
             use a struct with `#[derive(Worker)]` and `offspring::register!` each instance",
        );
    }
    for lifetime in sig.generics.lifetimes() {
        // Any use of it belongs to a type that was rejected above, with a better message.
        if verdict.sound {
            let message =
                "arguments move to another process and cannot borrow: remove this lifetime";
            verdict.refuse(lifetime, message);
        }
    }
    verdict
}

fn argument(verdict: &mut Verdict, typed: &PatType) {
    match &*typed.pat {
        Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none() => {}
        pat => verdict.refuse(
            pat,
            "an argument becomes a field of the worker: \
             give it a name and destructure it in the body",
        ),
    }
    let is_condition = |attr: &&Attribute| {
        let name = attr.path().get_ident();
        name.is_some_and(|name| name == "cfg" || name == "cfg_attr")
    };
    for attr in typed.attrs.iter().filter(is_condition) {
        verdict.refuse(
            attr,
            "parent and child must agree on the arguments: \
             put the `cfg` on the function or in the type",
        );
    }
    fits(verdict, Direction::In, &typed.ty);
}

/// Whether a value goes to the child or comes back.
#[derive(Clone, Copy)]
pub(crate) enum Direction {
    In,
    Out,
}

/// Rejects what cannot be sent, as far as the tokens of `ty` show it. Serde's bounds catch the
/// rest.
pub(crate) fn fits(verdict: &mut Verdict, direction: Direction, ty: &syn::Type) {
    Crossing { verdict, direction }.visit_type(ty);
}

struct Crossing<'a> {
    verdict: &'a mut Verdict,
    direction: Direction,
}

impl Crossing<'_> {
    fn refuse_borrow(&mut self, at: impl ToTokens, owned: &str) {
        let message = match self.direction {
            Direction::In => {
                format!("arguments move to another process and cannot borrow: take {owned}")
            }
            Direction::Out => {
                format!("the output moves to another process and cannot borrow: return {owned}")
            }
        };
        self.verdict.refuse(at, message);
    }
}

impl<'ast> Visit<'ast> for Crossing<'_> {
    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        let owned = owned(&reference.elem);
        match (reference.mutability, self.direction) {
            (Some(_), Direction::In) => {
                self.refuse_borrow(reference, &format!("{owned} and return the changed value"))
            }
            _ => self.refuse_borrow(reference, &owned),
        }
    }

    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        // `Cow<'static, str>` is decoded as owned.
        if lifetime.ident != "static" {
            self.refuse_borrow(lifetime, "an owned type");
        }
    }

    fn visit_type_impl_trait(&mut self, ty: &'ast TypeImplTrait) {
        let message = match self.direction {
            Direction::In => "an `impl Trait` argument makes the function generic: name the type",
            Direction::Out => {
                "the parent must know the type to decode: name it instead of `impl Trait`"
            }
        };
        self.verdict.refuse(ty, message);
    }

    // The types in a function pointer are not sent.
    fn visit_type_fn_ptr(&mut self, _: &'ast syn::TypeFnPtr) {}

    fn visit_parenthesized_generic_arguments(
        &mut self,
        _: &'ast syn::ParenthesizedGenericArguments,
    ) {
    }

    fn visit_generic_argument(&mut self, argument: &'ast syn::GenericArgument) {
        // The only lifetimes in a constant expression are labels.
        match argument {
            syn::GenericArgument::Const(_) => {}
            argument => visit::visit_generic_argument(self, argument),
        }
    }

    fn visit_type_array(&mut self, array: &'ast syn::TypeArray) {
        self.visit_type(&array.elem);
    }
}

/// The owned type that a message suggests instead of a reference to `ty`.
fn owned(ty: &syn::Type) -> String {
    let name = |ty: &syn::Type| match ty {
        syn::Type::Path(path) => path.path.get_ident().map(ToString::to_string),
        _ => None,
    };
    let owned = match ty {
        syn::Type::Slice(slice) => name(&slice.elem).map(|item| format!("Vec<{item}>")),
        ty => name(ty).map(|name| match name.as_str() {
            "str" => "String".to_owned(),
            "Path" => "PathBuf".to_owned(),
            "OsStr" => "OsString".to_owned(),
            "CStr" => "CString".to_owned(),
            _ => name,
        }),
    };
    owned.map_or_else(|| "an owned type".to_owned(), |owned| format!("`{owned}`"))
}

/// The rules of `#[offspring::main]`.
pub(crate) fn main(function: &Function) -> Verdict {
    let mut verdict = Verdict::new(&function.args, "#[offspring::main]", &[Key::Crate]);
    let sig = &function.sig;
    if sig.ident != "main" {
        verdict.refuse(
            &sig.ident,
            "`#[offspring::main]` belongs on `fn main`: rename this function, \
             or call `offspring::init()` at the start of your own entry point",
        );
    }
    if !sig.inputs.is_empty() {
        verdict.refuse(&sig.inputs, "`main` takes no arguments: use `std::env::args()`");
    }
    entry(&mut verdict, function, "`main`", "#[tokio::main]");
    verdict
}

/// The rules of `#[offspring::test]`.
pub(crate) fn test(function: &Function) -> Verdict {
    let mut verdict =
        Verdict::new(&function.args, "#[offspring::test]", &[Key::Timeout, Key::Crate]);
    let sig = &function.sig;
    let second = function.attrs.iter().find(|attr| parse::makes_a_test(attr));
    if let Some(attr) = second {
        let message = match (attr.path().get_ident(), &sig.asyncness) {
            (None, Some(_)) => {
                "`#[offspring::test]` already makes this a test: use an attribute that only runs the future, \
                 such as `#[tokio::main(flavor = \"current_thread\")]`"
            }
            _ => "`#[offspring::test]` already makes this a test: remove this attribute",
        };
        verdict.refuse(attr, message);
    }
    if !sig.inputs.is_empty() {
        verdict.refuse(&sig.inputs, "a test takes no arguments: create the values in the body");
    }
    if second.is_none() {
        entry(&mut verdict, function, "a test", "#[tokio::main(flavor = \"current_thread\")]");
    }
    verdict
}

/// The rules that `main` and tests have in common.
fn entry(verdict: &mut Verdict, function: &Function, what: &str, runtime: &str) {
    let sig = &function.sig;
    if !sig.generics.params.is_empty() {
        verdict
            .refuse(&sig.generics, format!("{what} cannot be generic: name the types in the body"));
    }
    if let Some(constness) = &sig.constness {
        verdict.refuse(constness, format!("{what} cannot be `const`: remove `const`"));
    }
    if let (Some(asyncness), false) = (&sig.asyncness, function.has_foreign_attribute()) {
        verdict.refuse(
            asyncness,
            format!(
                "nothing runs this `async fn`: \
                 add the attribute of a runtime below this one, such as `{runtime}`"
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    #[test]
    fn the_owned_type_is_named() {
        assert_eq!(owned(&parse_quote!(str)), "`String`");
        assert_eq!(owned(&parse_quote!([u8])), "`Vec<u8>`");
        assert_eq!(owned(&parse_quote!(Path)), "`PathBuf`");
        assert_eq!(owned(&parse_quote!(Job)), "`Job`");
        assert_eq!(owned(&parse_quote!(dyn Job)), "an owned type");
    }

    fn errors(verdict: &Verdict) -> Vec<String> {
        verdict.errors.get().cloned().into_iter().flatten().map(|error| error.to_string()).collect()
    }

    fn of_worker(args: TokenStream, item: TokenStream) -> Vec<String> {
        errors(&worker(&Function::parse("worker", args, item).ok().unwrap()))
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let found = of_worker(
            quote!(nme = "x", name = "", name = "y"),
            quote!(
                async unsafe fn f<T>(a: &str, (b, c): (u8, u8)) -> &str {}
            ),
        );
        assert_eq!(found.len(), 9, "{found:#?}");
    }

    #[test]
    fn one_borrow_is_one_mistake() {
        let one = |item| assert_eq!(of_worker(quote!(), item).len(), 1);
        one(quote!(
            fn f<'a>(a: &'a str) {}
        ));
        one(quote!(
            fn f(a: Vec<&[&str]>) {}
        ));
        one(quote!(
            fn f(a: Cell<'_, u8>) {}
        ));
        one(quote!(
            fn f<'a>() {}
        ));
    }

    #[test]
    fn types_that_only_look_borrowed_are_accepted() {
        let found = of_worker(
            quote!(),
            quote!(
                fn f(
                    a: Cow<'static, str>,
                    b: [u8; { A & B }],
                    c: PhantomData<fn(&str) -> &str>,
                    d: Array<
                        {
                            &1;
                            2
                        },
                    >,
                ) -> Cow<'static, str> {
                }
            ),
        );
        assert_eq!(found, Vec::<String>::new());
    }
}
