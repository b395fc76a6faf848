//! The rules of `#[offspring::actor]`.

use syn::visit::{self, Visit};
use syn::{FnArg, ImplItemFn, Pat, ReturnType, Safety, Visibility};

use super::parse::{Block, Role, arguments, is_cast, is_context, is_named, variant};
use crate::check::{Direction, Verdict, fits};
use crate::options::Key;

/// The methods that every handle has: its own, and those of the address that it derefs to.
const RESERVED: [&str; 23] = [
    "address",
    "call",
    "call_timeout",
    "cast",
    "cast_timeout",
    "clone",
    "deref",
    "eq",
    "generation",
    "hash",
    "into",
    "is_alive",
    "kill",
    "link",
    "monitor",
    "name",
    "pid",
    "spawn",
    "timeout",
    "try_cast",
    "try_into",
    "typed",
    "with_timeout",
];

pub(crate) fn block(block: &Block) -> Verdict {
    let mut verdict = Verdict::new(&block.args, "#[offspring::actor]", &[Key::Crate]);
    let item = &block.item;
    if block.name.is_none() {
        verdict.refuse(&item.self_ty, "an actor must be a struct or an enum of this crate");
    }
    if !item.generics.params.is_empty() {
        verdict.refuse(
            &item.generics,
            "a generic actor cannot be registered, because its instances are not known here: \
             write `impl Actor` by hand and `offspring::register_actor!` each instance",
        );
    }
    match block.method(Role::Start) {
        Some(start) => self::start(&mut verdict, start),
        None => verdict.refuse(
            &item.self_ty,
            "an actor needs a function that creates its state: \
             add `fn start(..) -> Self`, or `-> Result<Self, E>`",
        ),
    }
    for (role, method) in block.methods() {
        hook(&mut verdict, role, method);
    }
    let mut variants: Vec<String> = Vec::new();
    for (role, method) in block.messages() {
        message(&mut verdict, role, method);
        let variant = variant(&method.sig.ident).to_string();
        if variants.contains(&variant) {
            verdict.refuse(
                &method.sig.ident,
                format!("two methods would become the message `{variant}`: rename one of them"),
            );
        }
        variants.push(variant);
    }
    verdict
}

/// The rules for a method with a fixed name and signature, which the actor's process calls.
fn hook(verdict: &mut Verdict, role: Role, method: &ImplItemFn) {
    let form = match role {
        Role::Start => "fn start(..) -> Self",
        Role::Stop => "fn stop(&mut self, reason: &DownReason)",
        Role::Checkpoint => "fn checkpoint(&mut self) -> Option<Checkpoint>",
        Role::Call | Role::Cast | Role::Helper => return,
    };
    let sig = &method.sig;
    let name = &sig.ident;
    if let Some(attr) = method.attrs.iter().find(|attr| is_cast(attr)) {
        verdict.refuse(
            attr,
            format!("`{name}` is a hook, not a message: remove `#[cast]`, or rename the method"),
        );
    }
    let count = usize::from(role == Role::Stop);
    if role != Role::Start && (sig.receiver().is_none() || arguments(method).len() != count) {
        verdict.refuse(
            name,
            format!("`{name}` is a hook with the signature `{form}`: a message needs another name"),
        );
    }
}

fn start(verdict: &mut Verdict, start: &ImplItemFn) {
    let sig = &start.sig;
    if let Some(receiver) = sig.receiver() {
        verdict.refuse(receiver, "`start` creates the state, so there is no `self` yet");
    }
    if matches!(sig.output, ReturnType::Default) {
        verdict.refuse(
            &sig.ident,
            "`start` must return the state: `-> Self`, or `-> Result<Self, E>`",
        );
    }
    if let ReturnType::Type(_, output) = &sig.output {
        if is_named(output, "Option") {
            verdict.refuse(
                output,
                "a `start` that can fail says why: return `Result<Self, E>`, such as `Result<Self, String>`",
            );
        }
    }
    plain(verdict, start, "`start`");
    let arguments = arguments(start);
    let count = arguments.len();
    for (place, (_, ty)) in arguments.into_iter().enumerate() {
        if !(place + 1 == count && is_context(ty)) {
            crosses(verdict, Direction::In, ty);
        }
    }
}

fn message(verdict: &mut Verdict, role: Role, method: &ImplItemFn) {
    let sig = &method.sig;
    let name = sig.ident.to_string();
    if RESERVED.contains(&name.as_str()) {
        verdict.misname(
            &sig.ident,
            format!("every actor handle has a method `{name}`: rename this one"),
        );
    } else if name.ends_with("_async") {
        verdict.refuse(
            &sig.ident,
            "the handle gets an `_async` method for each call: rename this one",
        );
    }
    if role == Role::Cast {
        cast(verdict, method);
    }
    match sig.receiver() {
        Some(receiver) if !matches!(receiver.kind, syn::ReceiverKind::Reference(..)) => verdict.refuse(
            receiver,
            "a message cannot consume the state: take `&mut self`, and end the actor with `Context::stop`",
        ),
        _ => {}
    }
    plain(verdict, method, "a message");
    for (_, ty) in arguments(method) {
        crosses(verdict, Direction::In, ty);
    }
    if let ReturnType::Type(_, ty) = &sig.output {
        crosses(verdict, Direction::Out, ty);
    }
}

fn cast(verdict: &mut Verdict, method: &ImplItemFn) {
    let sig = &method.sig;
    if let ReturnType::Type(_, output) = &sig.output {
        verdict.refuse(output, "a cast has no reply: remove the return type, or `#[cast]`");
    }
    if sig.receiver().is_none() {
        verdict.refuse(&sig.ident, "a message is handled by the state: add `&mut self`");
    }
    if matches!(method.vis, Visibility::Inherited) {
        let attr = method.attrs.iter().find(|attr| is_cast(attr));
        verdict.refuse(attr, "only `pub` methods are messages: add `pub`, or remove `#[cast]`");
    }
}

/// The rules for every method that is called from another process.
fn plain(verdict: &mut Verdict, method: &ImplItemFn, what: &str) {
    let sig = &method.sig;
    if let Some(asyncness) = &sig.asyncness {
        verdict.refuse(
            asyncness,
            format!("{what} is handled by a plain function: remove `async` (the handle gets an async form of each call)"),
        );
    }
    if let Safety::Unsafe(unsafety) = &sig.safety {
        verdict.refuse(unsafety, format!("safe code can call it, so {what} cannot be `unsafe`"));
    }
    if !sig.generics.params.is_empty() {
        verdict.refuse(&sig.generics, format!("{what} cannot be generic: name the types"));
    }
    for input in &sig.inputs {
        if let FnArg::Typed(typed) = input {
            if !matches!(&*typed.pat, Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none())
            {
                verdict.refuse(
                    &typed.pat,
                    "an argument becomes a field of the message: give it a name and destructure it in the body",
                );
            }
        }
    }
}

fn crosses(verdict: &mut Verdict, direction: Direction, ty: &syn::Type) {
    struct FindsSelf(bool);
    impl<'ast> Visit<'ast> for FindsSelf {
        fn visit_path(&mut self, path: &'ast syn::Path) {
            self.0 |= path.is_ident("Self");
            visit::visit_path(self, path);
        }
    }
    fits(verdict, direction, ty);
    let mut finds = FindsSelf(false);
    finds.visit_type(ty);
    if finds.0 {
        verdict
            .refuse(ty, "`Self` would be another type in the message: name the type of the actor");
    }
}
