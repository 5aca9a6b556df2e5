//! What stands between the parentheses of `#[audited(…)]`, read without looking at the function.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::{
    Expr, ExprLit, Ident, Lit, Path, Token,
    ext::IdentExt,
    parse::{ParseStream, Parser},
    punctuated::Punctuated,
    spanned::Spanned,
    token,
};

/// The arguments, as far as they could be understood.
pub(crate) struct Arguments {
    pub(crate) plane: Plane,
    pub(crate) name: Option<Expr>,
    pub(crate) version: Option<Expr>,
    pub(crate) provider: Option<Expr>,
    pub(crate) model: Option<Expr>,
    pub(crate) effect: Option<Ident>,
    pub(crate) input: Option<Expr>,
    pub(crate) skip: Vec<Ident>,
    pub(crate) skip_return: Option<Ident>,
    pub(crate) sensitive: Vec<Ident>,
    pub(crate) external: Vec<(Ident, Expr)>,
    pub(crate) parent: Option<Expr>,
    pub(crate) approval: Option<Expr>,
    pub(crate) error_if: Option<Expr>,
    pub(crate) policy: Policy,
    pub(crate) krate: Option<Path>,
}

/// Which of the three records the function makes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plane {
    Model,
    Tool,
    Review,
}

/// What happens when the log cannot be written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Deny,
    Proceed,
}

/// Every error that was found, so that one build shows them all.
#[derive(Default)]
pub(crate) struct Errors(Option<syn::Error>);

impl Errors {
    pub(crate) fn push(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(all) => all.combine(error),
            None => self.0 = Some(error),
        }
    }

    /// An error at the tokens of `at`.
    pub(crate) fn at(&mut self, at: impl quote::ToTokens, message: impl std::fmt::Display) {
        self.push(syn::Error::new_spanned(at, message));
    }

    pub(crate) fn finish(self) -> Result<(), syn::Error> {
        self.0.map_or(Ok(()), Err)
    }
}

impl Plane {
    fn from_ident(ident: &Ident) -> Option<Self> {
        Some(match ident.to_string().as_str() {
            "model" => Self::Model,
            "tool" => Self::Tool,
            "review" => Self::Review,
            _ => return None,
        })
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Tool => "tool",
            Self::Review => "review",
        }
    }
}

/// Every argument by name, in the order of the documentation.
const KNOWN: [&str; 14] = [
    "name",
    "version",
    "effect",
    "provider",
    "model",
    "input",
    "skip",
    "sensitive",
    "external",
    "parent",
    "approval",
    "error_if",
    "on_audit_error",
    "crate",
];

/// Reads the arguments. What is wrong goes into `errors`; `None` where no plane is named.
pub(crate) fn arguments(tokens: TokenStream, errors: &mut Errors) -> Option<Arguments> {
    if tokens.is_empty() {
        errors.push(syn::Error::new(Span::call_site(), FIRST));
        return None;
    }
    let parsed = (|input: ParseStream<'_>| Ok(all(input, errors))).parse2(tokens);
    parsed.unwrap_or_else(|error| {
        errors.push(error);
        None
    })
}

const FIRST: &str = "say first what is recorded: `#[audited(model)]`, `#[audited(tool)]` or \
                     `#[audited(review)]`";

/// One argument by its form.
enum Form {
    Word,
    Value(Expr),
    Krate(Path),
    List(Vec<Ident>),
    Pairs(Vec<(Ident, Expr)>),
}

fn all(input: ParseStream<'_>, errors: &mut Errors) -> Option<Arguments> {
    let mut plane = None;
    let mut seen: Vec<Ident> = Vec::new();
    let mut found = Arguments {
        plane: Plane::Tool,
        name: None,
        version: None,
        provider: None,
        model: None,
        effect: None,
        input: None,
        skip: Vec::new(),
        skip_return: None,
        sensitive: Vec::new(),
        external: Vec::new(),
        parent: None,
        approval: None,
        error_if: None,
        policy: Policy::Deny,
        krate: None,
    };
    let mut first = true;
    while !input.is_empty() {
        match argument(input) {
            Ok((key, form)) => {
                if matches!(form, Form::Word) {
                    word(&key, &mut plane, first, errors);
                } else {
                    if first {
                        errors.at(&key, FIRST);
                    }
                    if seen.contains(&key) {
                        errors.at(&key, format_args!("`{key}` is given twice"));
                    } else {
                        take(&mut found, &key, form, errors);
                        seen.push(key);
                    }
                }
            }
            Err(error) => {
                errors.push(error);
                recover(input);
            }
        }
        first = false;
        if !input.is_empty() && input.parse::<Token![,]>().is_err() {
            errors.push(input.error("expected `,` between two arguments"));
            recover(input);
            let _ = input.parse::<Token![,]>();
        }
    }
    found.plane = plane?;
    Some(found)
}

/// Goes on to the next comma, so that one slip does not hide the others.
fn recover(input: ParseStream<'_>) {
    while !input.is_empty() && !input.peek(Token![,]) {
        let _ = input.parse::<TokenTree>();
    }
}

fn argument(input: ParseStream<'_>) -> syn::Result<(Ident, Form)> {
    let key = input.call(Ident::parse_any).map_err(|error| {
        syn::Error::new(error.span(), "expected an argument as `name = …` or `skip(…)`")
    })?;
    let name = key.to_string();
    let listed = matches!(name.as_str(), "skip" | "sensitive" | "external");
    let known = KNOWN.contains(&name.as_str());
    if input.peek(Token![=]) {
        let equals = input.parse::<Token![=]>()?;
        if listed {
            return Err(syn::Error::new(
                key.span(),
                format_args!("`{name}` takes a list: `{name}(…)`"),
            ));
        }
        if input.is_empty() || input.peek(Token![,]) {
            return Err(syn::Error::new(
                equals.span(),
                format_args!("a value is missing after `{name} =`"),
            ));
        }
        if name == "crate" {
            let path = input.call(Path::parse_mod_style).map_err(|error| {
                syn::Error::new(error.span(), "`crate` takes a path, as `crate = my_audit`")
            })?;
            return Ok((key, Form::Krate(path)));
        }
        return Ok((key, Form::Value(input.parse()?)));
    }
    if input.peek(token::Paren) {
        let inside;
        let paren = syn::parenthesized!(inside in input);
        if !listed {
            let _ = inside.parse::<TokenStream>();
            let message = if known {
                format!("`{name}` takes a value: `{name} = …`")
            } else {
                unknown(&key)
            };
            return Err(syn::Error::new(key.span(), message));
        }
        if inside.is_empty() {
            return Err(syn::Error::new(
                paren.span.join(),
                format_args!("`{name}` lists nothing: leave it out"),
            ));
        }
        let form = if name == "external" {
            listed_with(&inside, pair).map(Form::Pairs)
        } else {
            listed_with(&inside, parameter).map(Form::List)
        };
        return form.map(|form| (key, form));
    }
    if known && Plane::from_ident(&key).is_none() {
        let takes = if listed { "a list: `" } else { "a value: `" };
        let shape = if listed { "(…)`" } else { " = …`" };
        return Err(syn::Error::new(
            key.span(),
            format_args!("`{name}` takes {takes}{name}{shape}"),
        ));
    }
    Ok((key, Form::Word))
}

fn listed_with<T>(
    inside: ParseStream<'_>,
    item: fn(ParseStream<'_>) -> syn::Result<T>,
) -> syn::Result<Vec<T>> {
    let items = Punctuated::<T, Token![,]>::parse_terminated_with(inside, item);
    // What is left over after an error is no error of its own.
    let _ = inside.parse::<TokenStream>();
    Ok(items?.into_iter().collect())
}

fn parameter(input: ParseStream<'_>) -> syn::Result<Ident> {
    input
        .call(Ident::parse_any)
        .map_err(|error| syn::Error::new(error.span(), "expected the name of a parameter"))
}

fn pair(input: ParseStream<'_>) -> syn::Result<(Ident, Expr)> {
    let key = input.call(Ident::parse_any).map_err(|error| {
        syn::Error::new(error.span(), "expected `key = expression`, as `order = output.order_id`")
    })?;
    if !input.peek(Token![=]) {
        return Err(syn::Error::new(
            key.span(),
            format_args!("`{key}` needs a value: `{key} = output.id`"),
        ));
    }
    let _ = input.parse::<Token![=]>()?;
    Ok((key, input.parse()?))
}

fn unknown(key: &Ident) -> String {
    let known: Vec<_> = KNOWN.iter().map(|name| format!("`{name}`")).collect();
    format!("unknown argument `{key}`; there are {}", known.join(", "))
}

/// A word on its own: the plane, or a slip.
fn word(key: &Ident, plane: &mut Option<Plane>, first: bool, errors: &mut Errors) {
    match (Plane::from_ident(key), &plane) {
        (Some(_), Some(before)) => {
            errors
                .at(key, format_args!("the plane is `{}` already: remove `{key}`", before.word()));
        }
        (Some(named), None) => {
            *plane = Some(named);
        }
        (None, _) if first => {
            errors.at(key, format_args!("`{key}` is not `model`, `tool` or `review`"));
        }
        (None, _) => errors.at(key, unknown(key)),
    }
}

fn take(found: &mut Arguments, key: &Ident, form: Form, errors: &mut Errors) {
    match (key.to_string().as_str(), form) {
        ("name", Form::Value(value)) => found.name = text(key, value, errors),
        ("version", Form::Value(value)) => found.version = text(key, value, errors),
        ("provider", Form::Value(value)) => found.provider = text(key, value, errors),
        ("model", Form::Value(value)) => found.model = text(key, value, errors),
        ("effect", Form::Value(value)) => {
            found.effect = choice(key, &value, &["read_only", "idempotent", "destructive"], errors);
        }
        ("input", Form::Value(value)) => found.input = Some(value),
        ("parent", Form::Value(value)) => found.parent = Some(value),
        ("approval", Form::Value(value)) => found.approval = Some(value),
        ("error_if", Form::Value(value)) => found.error_if = Some(value),
        ("on_audit_error", Form::Value(value)) => {
            if choice(key, &value, &["deny", "proceed"], errors)
                .is_some_and(|word| word == "proceed")
            {
                found.policy = Policy::Proceed;
            }
        }
        ("crate", Form::Krate(path)) => found.krate = Some(path),
        ("skip", Form::List(names)) => {
            for name in once(key, names, errors) {
                if name == "return" {
                    found.skip_return = Some(name);
                } else {
                    found.skip.push(name);
                }
            }
        }
        ("sensitive", Form::List(names)) => {
            for name in once(key, names, errors) {
                if name == "return" {
                    errors.at(
                        &name,
                        "`sensitive` takes parameters; leave the returned value out \
                                      with `skip(return)`",
                    );
                } else {
                    found.sensitive.push(name);
                }
            }
        }
        ("external", Form::Pairs(pairs)) => {
            for (name, value) in pairs {
                if found.external.iter().any(|(before, _)| *before == name) {
                    errors.at(&name, format_args!("`external` has `{name}` twice"));
                } else {
                    found.external.push((name, value));
                }
            }
        }
        _ => errors.at(key, unknown(key)),
    }
}

/// A value that becomes text: any expression, but a literal must be a string with something in it.
fn text(key: &Ident, value: Expr, errors: &mut Errors) -> Option<Expr> {
    match &value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) if text.value().trim().is_empty() => {
            errors.at(text, format_args!("`{key}` is empty"));
            None
        }
        Expr::Lit(ExprLit { lit: Lit::Str(_), .. }) => Some(value),
        Expr::Lit(literal) => {
            errors.at(literal, format_args!("`{key}` must be text: `{key} = \"…\"`"));
            None
        }
        _ => Some(value),
    }
}

/// A value that is one of a few words.
fn choice(key: &Ident, value: &Expr, words: &[&str], errors: &mut Errors) -> Option<Ident> {
    if let Expr::Path(path) = value
        && let Some(word) = path.path.get_ident()
        && words.iter().any(|known| word == known)
    {
        return Some(word.clone());
    }
    let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    errors.at(value, format_args!("`{key}` is one of {}", words.join(", ")));
    None
}

/// The names of a list, each once.
fn once(key: &Ident, names: Vec<Ident>, errors: &mut Errors) -> Vec<Ident> {
    let mut kept: Vec<Ident> = Vec::new();
    for name in names {
        if kept.contains(&name) {
            errors.at(&name, format_args!("`{key}` names `{name}` twice"));
        } else {
            kept.push(name);
        }
    }
    kept
}
