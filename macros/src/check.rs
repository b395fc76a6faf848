//! Every rule, each with an error that names the way out.

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

/// What the rules made of an item.
pub(crate) struct Verdict {
    pub(crate) options: Options,
    /// What the worker's function returns, and `()` in place of what cannot be a worker's output.
    pub(crate) output: syn::Type,
    /// Whether the item obeys the rules. If it does not, its full expansion would add errors that
    /// nobody can act on. A mistake in the arguments leaves it sound.
    pub(crate) sound: bool,
    /// Whether all that is wrong is a name: then the rest can be expanded, so that no use of it is a second error.
    pub(crate) misnamed: bool,
    errors: Errors,
}

impl Verdict {
    pub(crate) fn new(args: &Args, attribute: &str, known: &[Key]) -> Verdict {
        let mut errors = Errors::default();
        let options = Options::read(args, attribute, known, &mut errors);
        Verdict {
            options,
            output: parse_quote!(()),
            sound: true,
            misnamed: false,
            errors,
        }
    }

    /// `expansion`, and all errors after it.
    pub(crate) fn report(&self, mut expansion: TokenStream) -> TokenStream {
        expansion.extend(self.errors.get().map(syn::Error::to_compile_error));
        expansion
    }

    /// Notes a broken rule of the item.
    pub(crate) fn refuse(&mut self, at: impl ToTokens, message: impl Display) {
        self.sound = false;
        self.errors.at(at, message);
    }

    /// Notes a name that cannot be.
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
            "a worker crosses a process border and cannot borrow: \
             own the data, as in `String`, `Vec<T>` or `Arc<T>`",
        );
    }
    let name = if item.is_concrete() {
        None
    } else {
        verdict.options.name.take()
    };
    if let Some(name) = name {
        verdict.errors.at(
            name,
            "all instances of a generic worker would share this name: \
             leave `name` out, their paths differ",
        );
    }
    let attrs_within: Vec<&Attribute> = match &input.data {
        Data::Struct(data) => data.fields.iter().flat_map(|field| &field.attrs).collect(),
        Data::Enum(data) => {
            let fields = data.variants.iter().flat_map(|variant| &variant.fields);
            let of_fields = fields.flat_map(|field| &field.attrs);
            data.variants
                .iter()
                .flat_map(|variant| &variant.attrs)
                .chain(of_fields)
                .collect()
        }
        Data::Union(data) => {
            let message = "a union cannot cross to another process: write a struct or an enum";
            verdict.refuse(data.union_token, message);
            Vec::new()
        }
    };
    for attr in attrs_within
        .into_iter()
        .filter(|attr| parse::is_option(attr))
    {
        let message = "`#[offspring(..)]` describes the whole worker: put it on the type";
        verdict.errors.at(attr, message);
    }
    verdict
}

/// The rules of `#[offspring::worker]`.
pub(crate) fn worker(function: &Function) -> Verdict {
    let mut verdict = Verdict::new(
        &function.args,
        "#[offspring::worker]",
        &[Key::Name, Key::Crate],
    );
    let sig = &function.sig;
    let is_generic =
        sig.generics.type_params().next().is_some() || sig.generics.const_params().next().is_some();
    if let ReturnType::Type(_, output) = &sig.output {
        fits(&mut verdict, Direction::Out, output);
        // The type `!` cannot be named here, and a call that does not return is of any type.
        if verdict.sound && !is_generic && !matches!(**output, syn::Type::Never(_)) {
            verdict.output = syn::Type::clone(output);
        }
    }
    if let Some(asyncness) = &sig.asyncness {
        verdict.refuse(
            asyncness,
            "a worker is a plain function: remove `async` and make a runtime in the body",
        );
    }
    if let Safety::Unsafe(unsafety) = &sig.safety {
        verdict.refuse(
            unsafety,
            "anybody may spawn a worker, so it cannot be `unsafe`: \
             call this function from a safe one",
        );
    }
    if let Some(abi) = &sig.abi {
        verdict.refuse(
            abi,
            "a worker is called from Rust alone: \
             remove `extern` or call this function from a plain one",
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
            "a generic function cannot be registered, its instances are not known: \
             write a struct with `#[derive(Worker)]` and `offspring::register!` each instance",
        );
    }
    for lifetime in sig.generics.lifetimes() {
        // One that is used makes a type borrow, and that was refused with the type to take instead.
        if verdict.sound {
            let message =
                "arguments cross to another process and cannot borrow: remove this lifetime";
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
             give it a plain name and take it apart in the body",
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
             put the condition on the function or on the type",
        );
    }
    fits(verdict, Direction::In, &typed.ty);
}

/// Whether a type crosses to the child or back.
#[derive(Clone, Copy)]
pub(crate) enum Direction {
    In,
    Out,
}

/// Refuses what in `ty` cannot cross, as far as it can be seen without knowing the types. The rest
/// is serde's to say.
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
                format!("arguments cross to another process and cannot borrow: take {owned}")
            }
            Direction::Out => {
                format!("the output crosses to another process and cannot borrow: return {owned}")
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
                self.refuse_borrow(reference, &format!("{owned} and return what it became"))
            }
            _ => self.refuse_borrow(reference, &owned),
        }
    }

    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        // `Cow<'static, str>` owns what it decodes.
        if lifetime.ident != "static" {
            self.refuse_borrow(lifetime, "an owned type");
        }
    }

    fn visit_type_impl_trait(&mut self, ty: &'ast TypeImplTrait) {
        let message = match self.direction {
            Direction::In => "an `impl Trait` argument makes the function generic: name the type",
            Direction::Out => {
                "the parent must know the type that it decodes: name it in place of `impl Trait`"
            }
        };
        self.verdict.refuse(ty, message);
    }

    // What a function pointer takes does not cross.
    fn visit_type_fn_ptr(&mut self, _: &'ast syn::TypeFnPtr) {}

    fn visit_parenthesized_generic_arguments(
        &mut self,
        _: &'ast syn::ParenthesizedGenericArguments,
    ) {
    }

    fn visit_generic_argument(&mut self, argument: &'ast syn::GenericArgument) {
        // The expressions in constants hold lifetimes of labels at most.
        match argument {
            syn::GenericArgument::Const(_) => {}
            argument => visit::visit_generic_argument(self, argument),
        }
    }

    fn visit_type_array(&mut self, array: &'ast syn::TypeArray) {
        self.visit_type(&array.elem);
    }
}

/// The owned type to write in place of a reference to `ty`, for a message.
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
            "`#[offspring::main]` goes on `fn main`: rename this function, \
             or start your own entry with `offspring::init()`",
        );
    }
    if !sig.inputs.is_empty() {
        verdict.refuse(
            &sig.inputs,
            "`main` has no arguments: read those of the program with `std::env::args()`",
        );
    }
    entry(&mut verdict, function, "`main`", "#[tokio::main]");
    verdict
}

/// The rules of `#[offspring::test]`.
pub(crate) fn test(function: &Function) -> Verdict {
    let mut verdict = Verdict::new(
        &function.args,
        "#[offspring::test]",
        &[Key::Timeout, Key::Crate],
    );
    let sig = &function.sig;
    let second = function.attrs.iter().find(|attr| parse::makes_a_test(attr));
    if let Some(attr) = second {
        let message = match (attr.path().get_ident(), &sig.asyncness) {
            (None, Some(_)) => {
                "`#[offspring::test]` makes the test: put what only runs the future here, \
                 as in `#[tokio::main(flavor = \"current_thread\")]`"
            }
            _ => "`#[offspring::test]` makes the test: remove this attribute",
        };
        verdict.refuse(attr, message);
    }
    if !sig.inputs.is_empty() {
        verdict.refuse(
            &sig.inputs,
            "a test has no arguments: make the values in the body",
        );
    }
    if second.is_none() {
        entry(
            &mut verdict,
            function,
            "a test",
            "#[tokio::main(flavor = \"current_thread\")]",
        );
    }
    verdict
}

/// The rules of a function that the program or the test harness calls.
fn entry(verdict: &mut Verdict, function: &Function, what: &str, runtime: &str) {
    let sig = &function.sig;
    if !sig.generics.params.is_empty() {
        verdict.refuse(
            &sig.generics,
            format!("{what} cannot be generic: name the types in the body"),
        );
    }
    if let Some(constness) = &sig.constness {
        verdict.refuse(
            constness,
            format!("{what} runs processes, which no `const fn` can: remove `const`"),
        );
    }
    if let (Some(asyncness), false) = (&sig.asyncness, function.has_foreign_attribute()) {
        verdict.refuse(
            asyncness,
            format!(
                "nothing runs this `async fn`: \
                 put the attribute of a runtime below this one, as in `{runtime}`"
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
        verdict
            .errors
            .get()
            .cloned()
            .into_iter()
            .flatten()
            .map(|error| error.to_string())
            .collect()
    }

    fn of_worker(args: TokenStream, item: TokenStream) -> Vec<String> {
        errors(&worker(
            &Function::parse("worker", args, item).ok().unwrap(),
        ))
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
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
    fn what_only_looks_borrowed_may_cross() {
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
