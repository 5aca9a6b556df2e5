//! Every public item shows how it is used, by an example that the documentation tests compile and
//! run. Methods are shown by the example of their type, or by one of their own.

use std::{fs, path::Path};

use syn::{Attribute, Expr, ExprLit, Item, Lit, Meta, Visibility};

/// Modules that are hidden from the documentation as a whole, and why.
const HIDDEN: [&str; 2] = [
    // What `#[audited]` expands to.
    "audit-core/src/instrument/",
    // Faults of a disk, for tests.
    "audit-core/src/journal/faulty.rs",
];

/// What shows its example at the module, because it is the module's subject.
const SHOWN_BY_THEIR_MODULE: [&str; 2] = [
    "audit-core/src/conformance/mod.rs: Harness",
    "audit-core/src/conformance/mod.rs: sink_conformance",
];

/// The folders of published code.
const ROOTS: [&str; 6] = [
    "src",
    "audit-core/src",
    "audit-macros/src",
    "audit-parquet/src",
    "audit-query/src",
    "audit-sinks",
];

#[test]
fn every_public_item_has_an_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut items, mut bare) = (0, Vec::new());
    for folder in ROOTS {
        sources(&root.join(folder), &mut |path| {
            let text = fs::read_to_string(path).expect("a source file can be read");
            let file = syn::parse_file(&text).expect("a source file is Rust");
            let place = path.strip_prefix(root).expect("it lies below").display().to_string();
            if HIDDEN.iter().any(|hidden| place.starts_with(hidden)) {
                return;
            }
            for item in public_items(&file.items) {
                items += 1;
                let name = format!("{place}: {}", item.name);
                if !has_example(item.attributes) && !SHOWN_BY_THEIR_MODULE.contains(&&*name) {
                    bare.push(name);
                }
            }
        });
    }
    assert!(items > 200, "only {items} items were found");
    assert!(bare.is_empty(), "public items without an example:\n{}", bare.join("\n"));
}

fn sources(folder: &Path, each: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).expect("a source folder can be listed") {
        let path = entry.expect("a source folder can be listed").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !matches!(&*name, "tests" | "benches" | "examples" | "target") {
            sources(&path, each);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            each(&path);
        }
    }
}

struct PublicItem<'a> {
    name: String,
    attributes: &'a [Attribute],
}

/// The public types, traits, functions and macros of a file.
fn public_items(items: &[Item]) -> Vec<PublicItem<'_>> {
    let mut found = Vec::new();
    for item in items {
        let (public, name, attributes) = match item {
            Item::Struct(item) => (is_public(&item.vis), item.ident.to_string(), &item.attrs),
            Item::Enum(item) => (is_public(&item.vis), item.ident.to_string(), &item.attrs),
            Item::Trait(item) => (is_public(&item.vis), item.ident.to_string(), &item.attrs),
            Item::Fn(item) => (is_public(&item.vis), item.sig.ident.to_string(), &item.attrs),
            Item::Macro(item) => {
                let exported = item.attrs.iter().any(|a| a.path().is_ident("macro_export"));
                let name = item.ident.as_ref().map_or_else(String::new, ToString::to_string);
                (exported, name, &item.attrs)
            }
            Item::Mod(module) if is_public(&module.vis) => {
                if let Some((_, items)) = &module.content {
                    found.extend(public_items(items));
                }
                continue;
            }
            _ => continue,
        };
        if public && !is_hidden(attributes) {
            found.push(PublicItem { name, attributes });
        }
    }
    found
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// Hidden from the documentation, or there for its tests alone.
fn is_hidden(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => {
            let inner = list.tokens.to_string();
            (list.path.is_ident("doc") && inner == "hidden")
                || (list.path.is_ident("cfg") && inner.contains("doctest"))
        }
        _ => false,
    })
}

fn has_example(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let Meta::NameValue(pair) = &attribute.meta else { return false };
        let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &pair.value else {
            // Text that a macro puts together, or a file.
            return pair.path.is_ident("doc");
        };
        let text = text.value();
        let fence = text.trim();
        // An opening fence of Rust; text, TOML and what only looks like code does not count.
        pair.path.is_ident("doc")
            && (fence == "```" || fence == "```no_run" || fence == "```should_panic")
    })
}
