//! `#[offspring::actor]`, in the same stages as the other macros: parse, check, expand.

use proc_macro2::TokenStream;

mod check;
mod expand;
mod parse;

pub(crate) fn actor(args: TokenStream, item: TokenStream) -> TokenStream {
    let block = match parse::Block::parse(args, item) {
        Ok(block) => block,
        Err(as_written) => return as_written,
    };
    let verdict = check::block(&block);
    verdict.report(expand::block(&block, &verdict))
}
