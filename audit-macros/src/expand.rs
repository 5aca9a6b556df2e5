//! The function that takes the place of the audited one.
//!
//! Everything that the expansion names of ours is in the hidden module `__private` of the facade,
//! and its own variables are invisible to the user's code.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Ident, ItemFn, LitStr, Stmt, ext::IdentExt, spanned::Spanned};

use crate::{
    check::{Fate, Parameter, Plan, Shape, tail},
    parse::{Arguments, Plane, Policy},
};

pub(crate) fn expand(arguments: &Arguments, plan: &Plan, mut function: ItemFn) -> TokenStream {
    let private = hidden_module(arguments, Span::mixed_site());
    let expansion = Expansion { arguments, plan, private };
    let call = expansion.call(&function.sig.ident);
    match plan.shape {
        Shape::Async => {
            let run = expansion.run(&function.block.stmts, &quote!(async move), "run_async");
            replace(&mut function, &quote!(#call #run.await));
        }
        Shape::Blocking => {
            let result = &plan.result;
            let body = match &function.sig.output {
                syn::ReturnType::Default => quote!(move ||),
                syn::ReturnType::Type(..) => quote!(move || -> #result),
            };
            let run = expansion.run(&function.block.stmts, &body, "run_blocking");
            replace(&mut function, &quote!(#call #run));
        }
        Shape::Future => {
            let block = tail(&mut function.block).expect("the shape says that there is one");
            let capture = &block.capture;
            let run = expansion.run(&block.block.stmts, &quote!(async #capture), "run_async");
            block.block.stmts = vec![Stmt::Expr(syn::Expr::Verbatim(quote!(#run.await)), None)];
            let stmts = &function.block.stmts;
            let all = quote!(#call #(#stmts)*);
            replace(&mut function, &all);
        }
    }
    function.into_token_stream()
}

/// The hidden module of the facade. An error about something in it is shown at `span`.
fn hidden_module(arguments: &Arguments, span: Span) -> TokenStream {
    let Some(path) = &arguments.krate else {
        return quote_spanned!(span=> ::agent_audit::__private);
    };
    let path = path.to_token_stream().into_iter().map(|mut token| {
        token.set_span(token.span().located_at(span));
        token
    });
    quote_spanned!(span=> #(#path)*::__private)
}

fn replace(function: &mut ItemFn, body: &TokenStream) {
    function.block.stmts = vec![Stmt::Expr(syn::Expr::Verbatim(body.clone()), None)];
}

struct Expansion<'a> {
    arguments: &'a Arguments,
    plan: &'a Plan,
    private: TokenStream,
}

impl Expansion<'_> {
    /// What is known when the function begins: inputs first, then the patterns, then what the
    /// arguments say in terms of both.
    fn call(&self, ident: &Ident) -> TokenStream {
        let private = &self.private;
        let inputs = self.plan.parameters.iter().map(|parameter| self.input(parameter));
        let patterns = self.plan.parameters.iter().filter_map(|parameter| {
            let Parameter { cfg, variable, pattern, .. } = parameter;
            pattern.as_ref().map(|pattern| quote!(#(#cfg)* let #pattern = #variable;))
        });
        let name = match &self.arguments.name {
            Some(name) => name.to_token_stream(),
            None => LitStr::new(&ident.unraw().to_string(), ident.span()).to_token_stream(),
        };
        let with = |method: &str, value: &Option<syn::Expr>| {
            value.as_ref().map(|value| {
                let method = Ident::new(method, value.span());
                quote!(.#method(#value))
            })
        };
        let version = with("with_version", &self.arguments.version);
        let provider = with("with_provider", &self.arguments.provider);
        let model = with("with_model", &self.arguments.model);
        let parent = with("with_parent", &self.arguments.parent);
        let effect = self.arguments.effect.as_ref().map(|effect| {
            let variant = match effect.to_string().as_str() {
                "read_only" => "ReadOnly",
                "idempotent" => "Idempotent",
                _ => "Destructive",
            };
            let variant = Ident::new(variant, effect.span());
            quote!(.with_effect(#private::Effect::#variant))
        });
        let with_reference = |method: &str, value: &Option<syn::Expr>| {
            value.as_ref().map(|value| {
                let method = Ident::new(method, value.span());
                quote_spanned!(value.span()=> .#method(&(#value)))
            })
        };
        let approval = with_reference("with_approval", &self.arguments.approval);
        let input = with_reference("with_input", &self.arguments.input);
        quote_spanned! {Span::mixed_site()=>
            let __audit_inputs = #private::Inputs::new();
            #(#inputs)*
            #(#patterns)*
            let __audit_call = #private::Call::new(#name, __audit_inputs)
                #version #provider #model #effect #parent #approval #input;
        }
    }

    /// One parameter into the record, with the error where it cannot at its own name.
    fn input(&self, Parameter { cfg, name, variable, fate, .. }: &Parameter) -> TokenStream {
        let value = quote_spanned!(variable.span()=> &#variable);
        let step = match fate {
            Fate::Ordinary if self.arguments.input.is_some() => return TokenStream::new(),
            Fate::Ordinary => quote!(record(#name, #value)),
            Fate::Sensitive => quote!(record_apart(#name, #value)),
            Fate::Skipped => quote!(omit(#name)),
        };
        quote_spanned!(Span::mixed_site()=> #(#cfg)* let __audit_inputs = __audit_inputs.#step;)
    }

    /// The body, run between intent and outcome.
    fn run(&self, body: &[Stmt], opening: &TokenStream, run: &str) -> TokenStream {
        let private = &self.private;
        let run = Ident::new(run, Span::mixed_site());
        let plane = match self.arguments.plane {
            Plane::Model => "Model",
            Plane::Tool => "Tool",
            Plane::Review => "Review",
        };
        let plane = Ident::new(plane, Span::mixed_site());
        let result = &self.plan.result;
        let at_result = Span::mixed_site().located_at(self.plan.result_span);
        let private_at_result = hidden_module(self.arguments, at_result);
        let policy = match self.arguments.policy {
            Policy::Deny => quote_spanned!(at_result=> deny),
            Policy::Proceed => quote_spanned!(at_result=> proceed),
        };
        let policy = quote_spanned!(at_result=> #private_at_result::Policy::<#result>::#policy());
        let observe = self.observe();
        // The branch is never taken. It tells the compiler the type of the body before it reads it.
        quote_spanned! {Span::mixed_site()=>
            #private::#run(
                #private::#plane,
                #policy,
                __audit_call,
                #opening {
                    if let #private::Some(__audit_result) = #private::never::<#result>() {
                        return __audit_result;
                    }
                    #(#body)*
                },
                #observe,
            )
        }
    }

    /// What the returned value says about the outcome.
    fn observe(&self) -> TokenStream {
        let private = &self.private;
        let method = match (self.arguments.plane, self.arguments.skip_return.is_some()) {
            (Plane::Tool, false) => "tool",
            (Plane::Tool, true) => "tool_without_output",
            (Plane::Model, false) => "model",
            (Plane::Model, true) => "model_without_output",
            (Plane::Review, _) => "review",
        };
        let at_result = Span::mixed_site().located_at(self.plan.result_span);
        let method = Ident::new(method, at_result);
        let outcome = quote_spanned!(at_result=> __audit_probe.#method());
        let refined = self.refine();
        quote_spanned! {Span::mixed_site()=>
            move |__audit_result| {
                use #private::ProbePlain as _;
                let __audit_probe = #private::Probe::new(__audit_result);
                let __audit_outcome = #outcome;
                #refined
                __audit_outcome
            }
        }
    }

    /// `error_if` and `external`, with the value of the success as `output`.
    fn refine(&self) -> Option<TokenStream> {
        let private = &self.private;
        let Arguments { error_if, external, .. } = self.arguments;
        if error_if.is_none() && external.is_empty() {
            return None;
        }
        // The user's own expressions name it.
        let output = Ident::new("output", Span::call_site());
        let failed = error_if.as_ref().map(|test| {
            quote_spanned! {Span::mixed_site()=>
                let __audit_outcome =
                    __audit_outcome.failed_if(#private::test(#output, #test));
            }
        });
        let external = external.iter().map(|(key, value)| {
            let key = key.unraw().to_string();
            let value = quote_spanned!(value.span()=> &(#value));
            quote_spanned! {Span::mixed_site()=>
                let __audit_outcome = if __audit_outcome.is_ok() {
                    __audit_outcome.with_external(#key, #value)
                } else {
                    __audit_outcome
                };
            }
        });
        Some(quote_spanned! {Span::mixed_site()=>
            let __audit_outcome = match __audit_probe.success() {
                #private::Some(#output) => {
                    #failed
                    #(#external)*
                    __audit_outcome
                }
                #private::None => __audit_outcome,
            };
        })
    }
}
