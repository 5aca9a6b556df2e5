//! `#[audited]`.

use proc_macro::TokenStream;
use quote::ToTokens;

mod check;
mod expand;
mod parse;

/// doc
#[proc_macro_attribute]
pub fn audited(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    match audit(arguments.into(), item.clone()) {
        Ok(expanded) => expanded.into(),
        // The item stays, so that an editor and the rest of the build still see it.
        Err(error) => {
            let mut tokens = error.into_compile_error();
            item.to_tokens(&mut tokens);
            tokens.into()
        }
    }
}

fn audit(
    arguments: proc_macro2::TokenStream,
    item: proc_macro2::TokenStream,
) -> syn::Result<proc_macro2::TokenStream> {
    let mut errors = parse::Errors::default();
    let arguments = parse::arguments(arguments, &mut errors);
    let function = check::function(item).map_err(|error| errors.push(error)).ok();
    let (Some(arguments), Some(mut function)) = (arguments, function) else {
        errors.finish()?;
        unreachable!("only an error leaves either of them out");
    };
    let plan = check::check(&arguments, &mut function, &mut errors);
    errors.finish()?;
    Ok(expand::expand(&arguments, &plan, function))
}
