//! Whether the arguments fit the function: what is recorded of each parameter, and in which shape
//! the function is written.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use syn::{
    Attribute, Block, Expr, ExprAsync, FnArg, GenericArgument, Ident, ItemFn, Pat, PatIdent,
    PathArguments, ReturnType, Safety, Stmt, Token, TraitItemFn, Type, TypeParamBound,
    ext::IdentExt, punctuated::Punctuated, spanned::Spanned, visit_mut::VisitMut,
};

use crate::parse::{Arguments, Errors, Plane};

/// What the expansion needs to know about a function.
pub(crate) struct Plan {
    pub(crate) shape: Shape,
    pub(crate) parameters: Vec<Parameter>,
    /// The type that the body evaluates to, with every `impl Trait` in it left to inference.
    pub(crate) result: Type,
    /// The user's own token for that type: where errors about it belong.
    pub(crate) result_span: Span,
}

/// How the function is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `async fn`
    Async,
    /// `fn`
    Blocking,
    /// `fn` that ends in `Box::pin(async move { … })` or `async move { … }`
    Future,
}

/// One parameter other than `self`.
pub(crate) struct Parameter {
    /// The conditions under which it exists.
    pub(crate) cfg: Vec<Attribute>,
    /// Its name in the record.
    pub(crate) name: String,
    /// The variable that holds it when the function begins.
    pub(crate) variable: Ident,
    /// The pattern it was written as, where that is more than a name.
    pub(crate) pattern: Option<Pat>,
    pub(crate) fate: Fate,
}

/// What becomes of a parameter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Recorded with the others.
    Ordinary,
    /// Recorded as a part of its own.
    Sensitive,
    /// Named as left out.
    Skipped,
}

/// Reads the item as a function with a body.
pub(crate) fn function(item: TokenStream) -> syn::Result<ItemFn> {
    let error = match syn::parse2::<ItemFn>(item.clone()) {
        Ok(function) => return Ok(function),
        Err(error) => error,
    };
    if let Ok(TraitItemFn { sig, default: None, .. }) = syn::parse2(item.clone()) {
        return Err(syn::Error::new_spanned(
            sig.ident,
            "a method without a body does nothing that could be recorded: put `#[audited]` on the \
             methods that implement it",
        ));
    }
    let Ok(other) = syn::parse2::<syn::Item>(item) else { return Err(error) };
    if matches!(other, syn::Item::Fn(_) | syn::Item::Verbatim(_)) {
        return Err(error);
    }
    Err(syn::Error::new(
        other.span(),
        "`#[audited]` records the calls of a function: put it on a function or method with a body",
    ))
}

/// Holds the arguments against the function.
pub(crate) fn check(arguments: &Arguments, function: &mut ItemFn, errors: &mut Errors) -> Plan {
    signature(function, errors);
    plane(arguments, errors);
    let (shape, result, result_span) = shape(function, errors);
    let mut parameters = parameters(function, shape);
    fates(arguments, function, &mut parameters, errors);
    Plan { shape, parameters, result, result_span }
}

fn signature(function: &ItemFn, errors: &mut Errors) {
    let sig = &function.sig;
    if let Some(token) = &sig.constness {
        errors.at(
            token,
            "a `const fn` may run in the compiler, where there is no log: it cannot be \
                          audited",
        );
    }
    if let Safety::Unsafe(token) = &sig.safety {
        errors.at(
            token,
            "an `unsafe fn` cannot be audited: its body would move into a closure; \
                          audit a safe function around it",
        );
    }
    if let Some(abi) = &sig.abi {
        errors.at(
            abi,
            "a function with a foreign ABI cannot be audited: a panic may not cross it; \
                        audit the function that it calls",
        );
    }
    for attribute in &function.attrs {
        if attribute.path().segments.last().is_some_and(|segment| segment.ident == "audited") {
            errors.at(
                attribute.path(),
                "the function is audited already: one `#[audited]` records \
                                         one call",
            );
        }
    }
}

/// Arguments that belong to one plane alone.
fn plane(arguments: &Arguments, errors: &mut Errors) {
    let plane = arguments.plane;
    let mut only = |at: Option<&dyn ToTokens>, name: &str, planes: &[Plane]| {
        if let Some(at) = at
            && !planes.contains(&plane)
        {
            let planes: Vec<_> =
                planes.iter().map(|plane| format!("`#[audited({})]`", plane.word())).collect();
            let (planes, plane) = (planes.join(" and "), plane.word());
            errors.at(at, format_args!("`{name}` belongs to {planes}, not to `{plane}`"));
        }
    };
    let tool = [Plane::Tool];
    only(arguments.effect.as_ref().map(|at| at as _), "effect", &tool);
    only(arguments.approval.as_ref().map(|at| at as _), "approval", &tool);
    only(arguments.error_if.as_ref().map(|at| at as _), "error_if", &tool);
    only(arguments.external.first().map(|(at, _)| at as _), "external", &tool);
    only(arguments.provider.as_ref().map(|at| at as _), "provider", &[Plane::Model]);
    only(arguments.model.as_ref().map(|at| at as _), "model", &[Plane::Model]);
    only(arguments.version.as_ref().map(|at| at as _), "version", &tool);
    let answered = [Plane::Model, Plane::Tool];
    only(arguments.skip_return.as_ref().map(|at| at as _), "skip(return)", &answered);
}

fn shape(function: &mut ItemFn, errors: &mut Errors) -> (Shape, Type, Span) {
    let (declared, span): (Type, Span) = match &function.sig.output {
        ReturnType::Default => (syn::parse_quote!(()), function.sig.ident.span()),
        ReturnType::Type(_, declared) => ((**declared).clone(), declared.span()),
    };
    if matches!(declared, Type::Never(_)) {
        errors.at(&declared, "a function that never returns has no outcome to record");
    }
    if function.sig.asyncness.is_some() {
        return (Shape::Async, inferred(declared), span);
    }
    let future = future_output(&declared);
    if tail(&mut function.block).is_none() {
        if future.is_some() {
            errors.at(
                &declared,
                "what this future does cannot be seen from here: make it an \
                                  `async fn`, or end the function in `Box::pin(async move { … })`",
            );
        }
        return (Shape::Blocking, inferred(declared), span);
    }
    let before = function.block.stmts.len().saturating_sub(1);
    for statement in &function.block.stmts[..before] {
        if !is_preparation(statement) {
            errors.at(
                statement,
                "this would run before the intent is recorded: move it into the \
                                  `async` block",
            );
        }
    }
    let output = future.flatten().unwrap_or_else(|| syn::parse_quote!(_));
    let span = if matches!(output, Type::Infer(_)) { span } else { output.span() };
    (Shape::Future, inferred(output), span)
}

/// The `async` block that a function ends in, as itself or inside `Box::pin(…)`.
pub(crate) fn tail(block: &mut Block) -> Option<&mut ExprAsync> {
    let Some(Stmt::Expr(expression, None)) = block.stmts.last_mut() else { return None };
    match expression {
        Expr::Async(block) => Some(block),
        Expr::Call(call) => {
            let Expr::Path(path) = &*call.func else { return None };
            let pin = path.path.segments.last().is_some_and(|segment| segment.ident == "pin");
            match call.args.first_mut() {
                Some(Expr::Async(block)) if pin => Some(block),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether a type is visibly a future, and what it resolves to where that is visible too.
fn future_output(declared: &Type) -> Option<Option<Type>> {
    match declared {
        Type::ImplTrait(it) => future_bound(&it.bounds),
        Type::TraitObject(it) => future_bound(&it.bounds),
        Type::Paren(it) => future_output(&it.elem),
        Type::Group(it) => future_output(&it.elem),
        Type::Path(it) => {
            let segment = it.path.segments.last()?;
            let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
            let mut types = arguments.args.iter().filter_map(|argument| match argument {
                GenericArgument::Type(inner) => Some(inner),
                _ => None,
            });
            if segment.ident == "BoxFuture" || segment.ident == "LocalBoxFuture" {
                return Some(types.next_back().cloned());
            }
            if segment.ident == "Pin" || segment.ident == "Box" {
                return types.find_map(future_output);
            }
            None
        }
        _ => None,
    }
}

fn future_bound(bounds: &Punctuated<TypeParamBound, Token![+]>) -> Option<Option<Type>> {
    bounds.iter().find_map(|bound| {
        let TypeParamBound::Trait(bound) = bound else { return None };
        let segment = bound.path.segments.last()?;
        if segment.ident != "Future" {
            return None;
        }
        let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
            return Some(None);
        };
        Some(arguments.args.iter().find_map(|argument| match argument {
            GenericArgument::AssocType(assoc) if assoc.ident == "Output" => Some(assoc.ty.clone()),
            _ => None,
        }))
    })
}

/// Whether a statement only clones and renames what the `async` block is to own.
fn is_preparation(statement: &Stmt) -> bool {
    match statement {
        Stmt::Item(_) => true,
        Stmt::Local(local) => match &local.init {
            None => true,
            Some(init) => init.diverge.is_none() && is_plain(&init.expr),
        },
        _ => false,
    }
}

fn is_plain(expression: &Expr) -> bool {
    const COPIES: [&str; 7] =
        ["clone", "cloned", "to_owned", "to_string", "into", "as_ref", "as_str"];
    match expression {
        Expr::Path(_) | Expr::Lit(_) => true,
        Expr::Field(it) => is_plain(&it.base),
        Expr::Reference(it) => is_plain(&it.expr),
        Expr::Paren(it) => is_plain(&it.expr),
        Expr::Tuple(it) => it.elems.iter().all(is_plain),
        Expr::MethodCall(it) => {
            it.args.is_empty()
                && COPIES.iter().any(|copy| it.method == copy)
                && is_plain(&it.receiver)
        }
        Expr::Call(it) => {
            let Expr::Path(path) = &*it.func else { return false };
            path.path.segments.last().is_some_and(|segment| segment.ident == "clone")
                && it.args.iter().all(is_plain)
        }
        _ => false,
    }
}

/// Leaves every `impl Trait` of a type to inference: it cannot be named inside the body.
fn inferred(mut declared: Type) -> Type {
    struct Erase;
    impl VisitMut for Erase {
        fn visit_type_mut(&mut self, node: &mut Type) {
            if matches!(node, Type::ImplTrait(_)) {
                *node = syn::parse_quote!(_);
            } else {
                syn::visit_mut::visit_type_mut(self, node);
            }
        }
    }
    Erase.visit_type_mut(&mut declared);
    declared
}

/// Lists the parameters, and gives a name to each that is written as a pattern.
fn parameters(function: &mut ItemFn, shape: Shape) -> Vec<Parameter> {
    let typed = function.sig.inputs.iter_mut().filter_map(|input| match input {
        FnArg::Typed(typed) => Some(typed),
        FnArg::Receiver(_) => None,
    });
    typed
        .enumerate()
        .map(|(position, typed)| {
            let cfg = typed.attrs.iter().filter(|it| it.path().is_ident("cfg")).cloned().collect();
            let (name, variable, pattern) = match &*typed.pat {
                Pat::Ident(PatIdent { by_ref: None, subpat: None, ident, .. }) => {
                    let mut name = ident.unraw().to_string();
                    // `#[async_trait]` has moved the pattern into the block already.
                    if shape == Shape::Future && name.starts_with("__arg") {
                        name = format!("arg{position}");
                    }
                    (name, ident.clone(), None)
                }
                pattern => {
                    let span = Span::mixed_site().located_at(pattern.span());
                    let variable = Ident::new(&format!("__audit_arg{position}"), span);
                    (format!("arg{position}"), variable, Some(pattern.clone()))
                }
            };
            if pattern.is_some() {
                *typed.pat = syn::parse_quote!(#variable);
            }
            Parameter { cfg, name, variable, pattern, fate: Fate::Ordinary }
        })
        .collect()
}

/// Applies `skip` and `sensitive`.
fn fates(
    arguments: &Arguments,
    function: &ItemFn,
    parameters: &mut [Parameter],
    errors: &mut Errors,
) {
    let lists = [
        ("skip", &arguments.skip, Fate::Skipped),
        ("sensitive", &arguments.sensitive, Fate::Sensitive),
    ];
    for (list, names, fate) in lists {
        for name in names {
            if name == "self" {
                errors.at(name, format_args!("`self` is never recorded: remove it from `{list}`"));
                continue;
            }
            let wanted = name.unraw().to_string();
            match parameters.iter_mut().find(|parameter| parameter.name == wanted) {
                Some(parameter) if parameter.fate == Fate::Ordinary => parameter.fate = fate,
                Some(_) => {
                    errors.at(
                        name,
                        format_args!(
                            "`{name}` is in `skip` and in `sensitive`: say \
                                                  which"
                        ),
                    );
                }
                None => {
                    let named: Vec<_> =
                        parameters.iter().map(|it| format!("`{}`", it.name)).collect();
                    let there = match named.len() {
                        0 => "it has none that could be recorded".to_owned(),
                        1 => format!("its parameter is {}", named[0]),
                        _ => format!("its parameters are {}", named.join(", ")),
                    };
                    let function = &function.sig.ident;
                    errors
                        .at(name, format_args!("`{function}` has no parameter `{name}`: {there}"));
                }
            }
        }
    }
}
